"""Run sequences through a module and collect the hidden states of its layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves, tree_map

from ..hooks import captured
from ..kernels import KERNELS
from ..layers.delegating import ForeignForward
from ..layers.find import FORWARD_ERRORS, RecurrentLayer, states_of
from ..layers.weights import independent_copy
from ..tracing.paths import PathRecorder, TokenError
from .padded import Padded

BLOCK = 16  # float32 numbers in the widest vector register of today's CPUs

# Layouts for `forward` of a batch of sequences (n_sequences, n_steps, n_features), or of token
# ids without the last axis.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch first": lambda batch: batch,
    "time first": lambda batch: batch.transpose(0, 1),
    "univariate, batch first": lambda batch: batch.squeeze(2),
    "univariate, time first": lambda batch: batch.squeeze(2).transpose(0, 1),
}


AS = " as "  # between a layout and a dtype


class StateCollector:
    """Collector of the hidden states of layers while their module runs.

    Parameters
    ----------
    module : nn.Module
        The module; its training or evaluation mode is not changed.
    layers : sequence of RecurrentLayer
        The layers whose states are collected.
    layout : str or None
        A key of ``LAYOUTS``, and a dtype if the module has several; None means that the first
        batch of sequences determines it.
    """

    def __init__(
        self, module: nn.Module, layers: Sequence[RecurrentLayer], layout: str | None = None
    ) -> None:
        self.module = module
        self.layers = tuple(layers)
        self.layout = layout
        self.path: frozenset[tuple[str, str]] = frozenset()
        self._fills: bool | None = None  # whether copies may pad a batch; None: not known yet
        self.device = next(layers[0].of(module).parameters()).device
        floating = (each.dtype for each in module.parameters() if each.is_floating_point())
        self._dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in floating}
        self._numbers = {id(each): number for number, each in enumerate(module.parameters())}
        self._embeddings = {
            id(weight): name
            for name, part in module.named_modules()
            if isinstance(part, nn.Embedding)
            for weight in part.parameters(recurse=False)
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that another process needs, or that identify equal results."""
        known = ("path", "_fills", "_numbers", "_embeddings")
        return {name: value for name, value in vars(self).items() if name not in known}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the collector in another process."""
        self.__init__(state["module"], state["layers"], state["layout"])  # type: ignore[misc]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of nodes of every layer, by name."""
        return {layer.name: layer.of(self.module).hidden_size for layer in self.layers}

    def copy(self) -> StateCollector:
        """Return a collector with the same weights, but hooks and buffers of its own."""
        return type(self)(independent_copy(self.module), self.layers, self.layout)

    @staticmethod
    def kept(part: nn.Module, _input: Any, output: Any) -> Tensor:
        """Return what is kept of a call of a layer."""
        return batch_first(part, output, output)

    @property
    def is_bare(self) -> bool:
        """Return whether the module is a recurrent layer, whose outputs are its states."""
        return self.layers[0].host == ""

    def run(self, batch: Any) -> dict[str, Tensor]:
        """Run the module on a batch and return the states of its layers.

        An array or tensor holds sequences, batch first. Otherwise the batch is a tuple of arguments
        of ``forward``, or a dict of keyword arguments.

        Returns
        -------
        dict of Tensor, each (n_sequences, n_steps, n_nodes)
            States by the name of the layer. They are those of the valid steps, (n_states, n_nodes),
            if sequences are padded or packed, or if a layer ran on varying numbers of sequences.

        Raises
        ------
        ValueError
            If sequences are padded and a layer does not run on their steps.
        """
        states = self._states(batch)
        if isinstance(batch, Padded):
            return {name: batch.own(self._padded(batch, found)) for name, found in states.items()}
        if self._fills and not isinstance(batch, (tuple, dict)):
            return {name: found[: len(batch)] for name, found in states.items()}
        return states

    def _states(self, batch: Any) -> dict[str, Tensor]:
        """Run a batch, padded by copies of its last sequence if every layer allows that.

        If a layer runs on another number of sequences, such as words rather than sentences, the
        states of the copies could not be told from the others, so none are added.
        """
        args, kwargs = self.arguments(batch)
        if isinstance(batch, (tuple, dict)) or self._fills is not None:
            return self._forward(*args, **kwargs)
        filled, self._fills = len(batch) + -len(batch) % BLOCK, False
        with suppress(*FORWARD_ERRORS):
            states = self._forward(*args, **kwargs)
            self._fills = all(each.ndim == 3 and len(each) == filled for each in states.values())
            if self._fills or filled == len(batch):
                return states
        return self._states(batch)

    def rows(self, batch: Any) -> dict[str, Tensor]:
        """Return the states of ``run``, each (n_states, n_nodes), ordered by steps.

        Layers store their states by steps, so that this order copies less.
        """
        if not isinstance(batch, Padded):
            return {
                name: states.transpose(0, -2).flatten(0, -2)
                for name, states in self.run(batch).items()
            }
        states = self._states(batch)
        if self.is_bare:
            return states
        return {name: batch.by_steps(self._padded(batch, each)) for name, each in states.items()}

    def _padded(self, batch: Padded, found: Tensor) -> Tensor:
        if self.is_bare:
            packed = PackedSequence(found, *batch.packed()[1:])
            found = pad_packed_sequence(packed, batch_first=True)[0]
        n_steps = batch.filled.shape[1]
        if found.ndim != 3 or len(found) < len(batch.filled) or found.shape[1] != n_steps:
            raise ValueError(f"its layers do not run on the {n_steps} steps of padded sequences")
        return found[: len(batch.lengths)]

    def ignores_padding(self, long: Tensor, short: Tensor) -> bool:
        """Return whether zeros appended to a sequence do not change its states.

        They do change them if the sequence is read from its end or normalized over all its steps.
        """
        try:
            alone, beside = self.run(short[None]), self.run(Padded.of([long, short]))
        except FORWARD_ERRORS:
            return False
        return alone.keys() == beside.keys() and all(
            close(states.flatten(0, -2), beside[name][len(long) :])
            for name, states in alone.items()
        )

    @torch.no_grad()
    def cells(self, batch: Any, layers: Sequence[RecurrentLayer]) -> dict[str, Tensor]:
        """Return the last cell states of LSTM layers, each (n_sequences, n_nodes)."""

        def last(name: str, _input: Any, output: Any) -> Tensor:
            is_cell = isinstance(parts[name], nn.RNNCellBase)
            state: Tensor = output[1] if is_cell else output[1][1]
            return state.flatten(0, -2)

        args, kwargs = self.arguments(batch, whole=False)
        module = independent_copy(self.module)
        parts = {layer.name: layer.of(module) for layer in layers}
        with captured(parts, last) as found:
            module(*args, **kwargs)
        return {name: torch.cat(rows) for name, rows in found.items()}

    def arguments(
        self, batch: Any, *, whole: bool = True
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of ``forward`` for a batch, on the device of the module.

        If ``whole``, an array is padded by ``whole_blocks``, unless the module does not allow it.
        """
        if isinstance(batch, dict):
            return (), tree_map(self._convert, batch, is_leaf=is_packed)
        if isinstance(batch, tuple) and not isinstance(batch, Padded):
            return tree_map(self._convert, batch, is_leaf=is_packed), {}
        padded = isinstance(batch, Padded)
        sequences = self._convert(batch.filled if padded else torch.as_tensor(batch))
        if not self._are_tokens(sequences):
            sequences = sequences.reshape(*sequences.shape[:2], -1)
        self.layout = self.layout or self._find_layout(sequences)
        if padded and self.is_bare:
            filled = sequences.to(next(iter(self._dtypes.values())))
            return (Padded(filled, batch.lengths).packed(),), {}
        if whole and self._fills is not False:
            sequences = whole_blocks(sequences)
        return (self._laid_out(sequences, self.layout),), {}

    def _are_tokens(self, sequences: Tensor) -> bool:
        return bool(self._embeddings) and sequences.ndim == 2 and not sequences.is_floating_point()

    def _laid_out(self, sequences: Tensor, layout: str) -> Tensor:
        """Return sequences in a layout and its dtype."""
        name, _, dtype = layout.partition(AS)
        kind = torch.long if self._are_tokens(sequences) else self._dtypes.get(dtype)
        kind = kind or next(iter(self._dtypes.values()))
        return LAYOUTS[name](sequences.to(kind)).contiguous()

    def _convert(self, value: Any) -> Any:
        if is_packed(value):
            return value.to(self.device)._replace(data=self._convert(value.data))
        if not isinstance(value, Tensor):
            return value
        # A copy, since forward may write into it.
        if value.is_floating_point() and len(self._dtypes) == 1:
            return value.to(self.device, next(iter(self._dtypes.values())), copy=True)
        return value.to(self.device, copy=True)

    @torch.inference_mode()
    def _forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Run a copy of the module, so that no pass depends on what an earlier pass left behind."""
        sizes = (len(leaf) for leaf in tree_leaves((args, kwargs)) if getattr(leaf, "ndim", 0))
        path = PathRecorder(self._numbers, next(sizes, 0), self._embeddings)
        module = independent_copy(self.module)
        layers = {layer.name: layer.of(module) for layer in self.layers}

        def kept(name: str, given: Any, output: Any) -> Tensor:
            return self.kept(layers[name], given, output)

        with captured(layers, kept) as seen, path:
            output = module(*args, **kwargs)
        self.path = path.finished(output)
        return {name: joined_steps(found) for name, found in seen.items() if found}

    def _find_layout(self, sequences: Tensor) -> str:
        """Return the layout in which a layer runs on as many sequences as the module was given."""
        layout, _ = self._layout_of(copies_of(sequences))
        if layout is not None:
            return layout
        # A module of fixed batch size fails because of the number of copies, not of the layout.
        layout, reason = self._layout_of(sequences)
        shape, kind = tuple(sequences.shape[1:]), type(self.module).__name__
        if layout is not None:
            raise ValueError(
                f"{kind} takes {len(sequences)} sequences at a time and no other number; give X as "
                "an iterable of batches of that many, each a tuple for forward."
            )
        if isinstance(reason, TokenError):
            raise reason
        if self._takes_transposed(sequences):
            raise ValueError(
                f"X with sequences of shape {shape} does not go through {kind}, which takes "
                f"{shape[0]} features at every step; give X with its last two axes exchanged, of "
                "shape (n_sequences, n_steps, n_features), as X.transpose(0, 2, 1)."
            )
        reason = explained(reason, self.module) if isinstance(reason, Exception) else reason
        raise ValueError(
            f"X with sequences of shape {shape} does not go through {kind}: {reason.rstrip('.')}. "
            "Give sequences of shape (n_steps, n_features) like those the module was trained on, "
            "or an iterable of batches, each a tuple for forward."
        )

    def _takes_transposed(self, sequences: Tensor) -> bool:
        """Return whether the module runs once steps and features change places."""
        if sequences.ndim != 3 or sequences.shape[1] == sequences.shape[2]:
            return False
        return self._layout_of(copies_of(sequences.transpose(1, 2)))[0] is not None

    def _layout_of(self, fed: Tensor) -> tuple[str | None, str | Exception]:
        """Return the layout in which the module runs, or None and the reason why it does not."""
        reasons: list[str | Exception] = []
        for layout in self._candidates(fed):
            try:
                states = self._forward(self._laid_out(fed, layout))
            except ForeignForward:
                raise
            except FORWARD_ERRORS as error:
                reasons.append(error)
            else:
                if any(each.ndim == 3 and len(each) == len(fed) for each in states.values()):
                    return layout, ""
                reasons.append(self._reason(states, len(fed)))
        return None, reasons[0]

    def _reason(self, states: dict[str, Tensor], n_fed: int) -> str:
        """Return, in words, why the states do not match the sequences that were given."""
        if states:
            return f"its layers do not see {n_fed} sequences where as many were fed"
        if {name.split()[0] for _, name in self.path if name} & KERNELS.keys():
            return (
                "its recurrent layers run by their forward() and not by a call; write self.rnn(x) "
                "in place of self.rnn.forward(x)"
            )
        return "none of its recurrent layers runs"

    def _candidates(self, sequences: Tensor) -> Iterator[str]:
        """Yield the layouts to try, with each dtype if the module has several."""
        univariate = sequences.ndim == 3 and sequences.shape[2] == 1
        for dtype in self._dtypes:
            for name in LAYOUTS:
                if univariate or not name.startswith("univariate"):
                    yield f"{name}{AS}{dtype}" if len(self._dtypes) > 1 else name


class StepCollector(StateCollector):
    """Inputs and hidden states of layers, side by side."""

    @staticmethod
    def kept(part: nn.Module, given: Any, output: Any) -> Tensor:
        """Return the input and the states of a call."""
        return torch.cat([batch_first(part, each, output) for each in (given, output)], -1)


def copies_of(sequences: Tensor) -> Tensor:
    """Return copies of the first sequence, another number of them than it has steps."""
    n_copies = 3 if sequences.shape[1] == 2 else 2
    return sequences[:1].expand(n_copies, *sequences.shape[1:])


def explained(error: Exception, module: nn.Module) -> str:
    """Return the text of an error, or advice if arguments of ``forward`` are missing."""
    missing = isinstance(error, TypeError) and "missing" in str(error)
    if not missing or "forward()" not in str(error):
        return str(error)
    parameters = ", ".join(inspect.signature(module.forward).parameters)
    return (
        f"its forward takes ({parameters}), of which an array is the first alone; give an iterable "
        "of batches, each a tuple of all"
    )


def is_packed(value: Any) -> bool:
    """Return whether a value is a ``PackedSequence``, whose sizes must remain on the CPU."""
    return isinstance(value, PackedSequence)


def batch_first(part: nn.Module, value: Any, output: Any) -> Tensor:
    """Return the states or inputs of a call of a layer, batch first; a cell's as a single step."""
    states = states_of(value)
    if isinstance(part, nn.RNNCellBase):
        return states.unsqueeze(-2)
    if part.batch_first or isinstance(output[0], PackedSequence):
        return states
    return states.transpose(0, -2)


def close(states: Tensor, others: Tensor) -> bool:
    """Return whether states are the same up to rounding."""
    if states.shape != others.shape:
        return False
    most = float(states.abs().max())
    return torch.allclose(
        states, others, rtol=0.0, atol=most * torch.finfo(states.dtype).eps ** 0.7
    )


def joined_steps(found: list[Tensor]) -> Tensor:
    """Return the states of all calls of a layer, joined along the steps where possible."""
    if len(found) == 1:
        return found[0]
    if all(states.ndim == 3 and len(states) == len(found[0]) for states in found):
        return torch.cat(found, dim=1)
    return torch.cat([states.flatten(0, -2) for states in found])


def whole_blocks(sequences: Tensor) -> Tensor:
    """Return a batch padded by copies of its last sequence to a multiple of ``BLOCK``.

    Vectorized kernels round the rows of their last, partial block differently. Without a partial
    block, an output does not depend on the other sequences in the batch.
    """
    missing = -len(sequences) % BLOCK
    if not missing:
        return sequences
    return torch.cat([sequences, sequences[-1:].expand(missing, *sequences.shape[1:])])
