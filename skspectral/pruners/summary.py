"""Human-readable summaries of a pruned network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..rnn.layers.find import RecurrentLayer
from ..rnn.layers.stack import split_layers
from ..rnn.layers.weights import n_parameters, weights_of
from ..rnn.runtime.wrappers import Expanded
from ..utils.warn_user import warn_user
from .dense_network import get_module
from .pruned_layer import PrunedLayer, unwrap_single_layer

if TYPE_CHECKING:
    from .steps import SmallNetwork


class SummaryMixin:
    """Methods of a fitted pruner that report what it did."""

    layers_: dict[str, PrunedLayer]
    estimator_: Any
    pruned_module_: nn.Module
    _network: SmallNetwork
    held_out_loss_: Any
    divergence_: float
    trajectory_history_: Any

    @property
    def guarantee_(self) -> Any:
        """Guarantee of the theory for this number of nodes, for each layer."""
        check_is_fitted(self)
        return unwrap_single_layer({name: layer.guarantee for name, layer in self.layers_.items()})

    def _rows(self) -> list[dict[str, Any]]:
        dense = get_module(self.estimator_)
        held_out = self.held_out_loss_
        losses = held_out if isinstance(held_out, dict) else dict.fromkeys(self.layers_, held_out)
        network = self._network
        notes = network.unfolded, network.unrefitted
        rows = summarize(network.found, self.layers_, losses, dense, self.pruned_module_, *notes)
        rows[-1]["divergence"] = self.divergence_
        return rows

    def summary(self, as_frame: bool = False) -> Any:
        """Report what was kept of every layer, and what that saves.

        Parameters
        ----------
        as_frame : bool, default=False
            Whether to return a pandas DataFrame.

        Returns
        -------
        Summary or DataFrame
            A table: a str that prints as one and that notebooks show as one, or a DataFrame. A row
            for every layer: nodes kept, of how many; the relative loss, that on sequences held out,
            and the lower bound; parameters and multiply-adds per step, after and before; whether
            the reconstruction is folded into the readers, and if not, why, and which readers could
            not be refitted. The last row is of the whole module, with the measured divergence of
            its outputs and the multiply-adds of its recurrent layers.
        """
        check_is_fitted(self)
        rows = self._rows()
        if not as_frame:
            return Summary.of(rows)
        import pandas as pd  # noqa: PLC0415  not needed for anything else

        return pd.DataFrame(rows, columns=list(HEADS)).set_index("layer")

    def _warn_of_growth(self) -> None:
        """Warn of a pruned module that is no smaller than the given one."""
        if text := growth(self._rows()):
            warn_user(f"{text} Keep fewer nodes.")

    def _headline(self, seconds: float) -> str:
        """Return the result of a fit in one line."""
        layers = self.layers_.values()
        kept, nodes = sum(each.m for each in layers), sum(each.problem.n_nodes for each in layers)
        modules = get_module(self.estimator_), self.pruned_module_
        before, after = map(n_parameters, modules)
        losses = [f"{each.information_loss:.2g}" for each in layers]
        bounds = [f"{each.loss_lower_bound:.2g}" for each in layers]
        return (
            f"{type(self).__name__} kept {kept} of {nodes} nodes: {before:,} to {after:,} "
            f"parameters, relative loss {', '.join(losses)} (at least {', '.join(bounds)}), "
            f"divergence of the outputs {self._divergences()}, {seconds:.1f} s"
        )

    def _divergences(self) -> str:
        """Return the measured divergence, and how the last trajectory fit reduced it."""
        history = self.trajectory_history_
        last = list(history.values())[-1] if isinstance(history, dict) else history
        fell = f" (trajectory fit: {last[0]:.2g} to {np.nanmin(last):.2g})" if last else ""
        return f"{self.divergence_:.2g}{fell}"

    def _html_repr(self) -> str:
        """Return scikit-learn's diagram followed by the summary."""
        diagram: str = estimator_html_repr(self)
        if not hasattr(self, "pruned_module_"):
            return diagram
        return f"{diagram}{self.summary()._repr_html_()}"

    def _repr_html_inner(self) -> str:
        return self._html_repr()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        parent: Any = super()  # scikit-learn's, which the estimators inherit too
        bundle: dict[str, Any] = parent._repr_mimebundle_(**kwargs)
        return bundle | ({"text/html": self._html_repr()} if "text/html" in bundle else {})


HEADS = {
    "layer": "layer",
    "kept": "kept",
    "nodes": "of",
    "loss": "loss",
    "held_out_loss": "held out",
    "bound": "bound",
    "divergence": "divergence",
    "parameters": "parameters",
    "parameters_before": "before",
    "multiply_adds": "mult-adds",
    "multiply_adds_before": "before",
    "reconstruction": "reconstruction",
}


def summarize(
    layers: Iterable[RecurrentLayer],
    pruned: Mapping[str, PrunedLayer],
    held_out: Mapping[str, float],
    dense: nn.Module,
    small: nn.Module,
    unfolded: Mapping[str, str],
    unrefitted: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return a row for every layer and one for the whole module.

    Parameters
    ----------
    layers : iterable of RecurrentLayer
        The layers.
    pruned : dict of PrunedLayer
        What was chosen for each.
    held_out : dict of float
        The loss of each on sequences held out.
    dense, small : nn.Module
        The module before and after.
    unfolded : dict of str
        By layer, why its reconstruction stays a linear layer of its own.
    unrefitted : dict of str
        By layer, which of its readers are not refitted, and why.

    Returns
    -------
    list of dict
        Multiply-adds are those of the weights of a layer in a step of one sequence.
    """
    wide, narrow = split_layers(dense), split_layers(small)
    rows: list[dict[str, Any]] = []
    for layer in layers:
        found = pruned[layer.name]
        stays, note = unfolded.get(layer.name), unrefitted.get(layer.name)
        outcome = f"stays: {stays.partition(' (')[0].partition(';')[0]}" if stays else "folded"
        before, after = layer.of(wide), layer.of(narrow)
        rows.append(
            {
                "layer": layer.name,
                "kept": found.m,
                "nodes": found.problem.n_nodes,
                "loss": found.information_loss,
                "held_out_loss": held_out[layer.name],
                "bound": found.loss_lower_bound,
                "parameters": n_parameters(after),
                "parameters_before": n_parameters(before),
                "multiply_adds": multiply_adds(after),
                "multiply_adds_before": multiply_adds(before),
                "reconstruction": f"{outcome}; {note}" if note else outcome,
            }
        )
    rows.append(
        {
            "layer": "all",
            "kept": sum(row["kept"] for row in rows),
            "nodes": sum(row["nodes"] for row in rows),
            "parameters": n_parameters(small),
            "parameters_before": n_parameters(dense),
            "multiply_adds": sum(row["multiply_adds"] for row in rows) + expanding(narrow),
            "multiply_adds_before": sum(row["multiply_adds_before"] for row in rows),
        }
    )
    return rows


def growth(rows: list[dict[str, Any]]) -> str:
    """Return a sentence on what has grown in the whole module; nothing where nothing has."""
    whole = rows[-1]
    grown = [
        f"{whole[name]:,} {words} where the given one has {whole[f'{name}_before']:,}"
        for name, words in (("parameters", "parameters"), ("multiply_adds", "multiply-adds a step"))
        if whole[name] > whole[f"{name}_before"]
    ]
    if not grown:
        return ""
    return (
        f"The pruned module has {' and '.join(grown)}, because reconstructions remain separate "
        "layers."
    )


def multiply_adds(layer: nn.Module) -> int:
    """Return the multiply-adds of a layer in one step of one sequence."""
    return sum(weight.numel() for weight in weights_of(layer).values() if weight.ndim == 2)


def expanding(module: nn.Module) -> int:
    """Return the multiply-adds of reconstructions that are not folded."""
    parts: Iterable[Any] = (part for part in module.modules() if isinstance(part, Expanded))
    linears = (getattr(part, "expand_output", part.expand) for part in parts)
    return sum(linear.weight.numel() for each in linears for linear in each)


class Summary(str):
    """Text of a summary, which a terminal shows as it is printed, and a notebook as a table."""

    html: str

    def __new__(cls, text: str, html: str) -> Self:
        """Return the text, with its form for notebooks."""
        summary = super().__new__(cls, text)
        summary.html = html
        return summary

    @classmethod
    def of(cls, rows: list[dict[str, Any]]) -> Self:
        """Return the summary of some rows."""
        table, note = cells_of(rows), growth(rows)
        text = "\n".join(filter(None, (as_text(table), note)))
        return cls(text, as_html(table) + (f"<p>{escape(note)}</p>" if note else ""))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.html

    def __reduce__(self) -> tuple[type[Summary], tuple[str, str]]:
        return type(self), (str(self), self.html)


def cells_of(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the head and the rows as a table of texts."""
    return [list(HEADS.values()), *([cell(row.get(key, "")) for key in HEADS] for row in rows)]


def as_html(table: list[list[str]]) -> str:
    """Return a table in HTML, with numbers aligned to the right."""
    sides = ["left" if name in ("layer", "reconstruction") else "right" for name in HEADS]

    def row(tag: str, line: list[str]) -> str:
        cells = (
            f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>'
            for side, text in zip(sides, line, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    head, *lines = table
    body = "".join(row("td", line) for line in lines)
    return f"<table><thead>{row('th', head)}</thead><tbody>{body}</tbody></table>"


def as_text(table: list[list[str]]) -> str:
    """Return a table as text."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    last = len(widths) - 1
    lines = (
        "  ".join(
            text.ljust(width) if i in (0, last) else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Return a number or a word as text."""
    if isinstance(value, float):
        return f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
