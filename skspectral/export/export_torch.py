"""Weights, and Python code that loads them by torch alone."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import skspectral

from ..rnn.layers.delegating import CORE, Delegating, is_customized
from ..rnn.layers.find import joined
from ..rnn.layers.sizes import sizes_in
from ..rnn.layers.stack import is_layer
from ..rnn.layers.weights import is_plain
from ..rnn.runtime.wrappers import ExpandedRNN
from ..rnn.serialization import OURS, built, described, kind_of, network_of
from ..utils.doc_hints import refer_to_docs
from ..utils.safetensors_io import replacing
from .source import expression_of, file_text, place_of, statement, tensor_expression

WEIGHTS, CODE = "weights.pt", "pruned.py"


@refer_to_docs("Deployment")
def export_torch(module: Any, folder: str | PathLike[str]) -> Path:
    """Export a pruned module as code and weights that need torch alone.

    Two files are written. ``weights.pt`` holds the ``state_dict``. ``pruned.py`` holds a function
    ``pruned``, which takes a new module of the class that was pruned, puts layers of the new sizes
    in it, loads the weights that lie beside, and returns it in evaluation mode. If the whole module
    is one layer, nothing need be given to the function. Where a layer of this package stands in the
    module, such as a reconstruction that could not be folded, the file holds its class, too.

    Parameters
    ----------
    module : nn.Module or fitted pruner
        The pruned module, or a pruner with a ``pruned_module_``. It is not changed. Of a pruner the
        dense module is known, so only what pruning changed is written; of a module all layers and
        sizes are.
    folder : str or path-like
        The folder to write into; it is made if it is not there.

    Returns
    -------
    Path
        The file ``pruned.py``.

    Raises
    ------
    TypeError
        If ``module`` is neither a module nor a fitted pruner.
    ValueError
        If a layer cannot be written as code, or ``folder`` is a file.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skspectral import SpectralRNNPruner, export_torch
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(torch.randn(50, 20, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     "nn.GRU(3, 8, batch_first=True)" in export_torch(pruner, folder).read_text()
    True
    """
    network = network_of(module)
    dense = None
    if network is not module:
        dense = getattr(module.estimator_, "module_", module.estimator_)
    changes = Changes(network, dense)
    text = changes.text()
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ValueError(f"folder must be a folder, or not exist yet; {str(folder)!r} is a file.")
    target.mkdir(parents=True, exist_ok=True)
    with replacing(target / WEIGHTS) as beside:
        torch.save(changes.weights(), beside)
    with replacing(target / CODE) as beside:
        Path(beside).write_text(text, encoding="utf-8")
    return target / CODE


class Changes:
    """Lines that make a new dense module a pruned one.

    Parameters
    ----------
    module : nn.Module
        The pruned module.
    dense : nn.Module or None
        The dense module, if it is known.
    """

    def __init__(self, module: nn.Module, dense: nn.Module | None) -> None:
        self.module = module
        self.before = {} if dense is None else dict(dense.named_modules())
        every = [*module.parameters(), *module.buffers()]
        dtypes = {each.dtype for each in every if each.is_floating_point()}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
        self.with_dtype = bool(dtypes)
        self.added: dict[str, Tensor] = {}
        self.changed: list[str] = []
        self.makes_whole = False
        # Modules that attributes refer to, other than as submodules, and who does.
        self.referred = {
            id(leaf): type(part).__name__
            for part in module.modules()
            for leaf in tree_leaves([each for key, each in vars(part).items() if key != "_modules"])
        }

    def weights(self) -> dict[str, Any]:
        """Return the ``state_dict`` on the CPU, and buffers that are new in it."""
        state = self.module.state_dict(keep_vars=True) | self.added
        own = {id(each): alone(each) for each in state.values()}
        return {name: own[id(each)] for name, each in state.items()}

    def text(self) -> str:
        """Return the text of the file."""
        lines = [*self.lines(), *self.ties()]
        if self.dtype != torch.float32:
            lines.append(f"    module.to({self.dtype})")
        name = self.module.__class__.__name__  # for a stand-in, that of the layer it stands for
        if self.makes_whole:
            head = "module: nn.Module | None = None"
            what = f"Return the pruned {name}, with its weights."
        else:
            head = "module: nn.Module"
            what = f"Turn a new {name}, with the old sizes, into the pruned one, with its weights."
        function = [
            f"def pruned({head}) -> nn.Module:",
            f'    """{what}"""',
            *lines,
            f'    weights = torch.load(Path(__file__).with_name("{WEIGHTS}"), weights_only=True)',
            "    module.load_state_dict(weights)",
            "    return module.eval()",
        ]
        title = f"A pruned {name} that needs torch alone, written by skspectral"
        return file_text("\n".join(function), f"{title} {skspectral.__version__}.")

    def lines(self) -> Iterator[str]:
        """Yield the statements that put parts, parameters and sizes in place."""
        inside: tuple[str, ...] = ()
        for path, part in self.module.named_modules():
            if path.startswith(inside):
                continue
            if isinstance(part, Delegating):
                core = type(self.module.get_submodule(joined(path, CORE))).__name__
                raise ValueError(
                    f"layer {path!r} is a {type(part).__name__} that runs a {core} in place of "
                    "torch's forward, which cannot be written for torch alone; use save_pruned, or "
                    "prune a module with a layer of torch in its place."
                )
            if type(part) in OURS:
                inside += (f"{path}." if path else "",)
            covered: set[str] = set()
            if kind_of(part) is not None:
                if self.differs(path, part):
                    yield from self.replaced(path, part)
                if not self.stays(part):
                    continue
                with torch.device("meta"):
                    plain = built(described(part))
                covered = {*vars(plain), *plain._parameters}
            yield from self.resized(path, part, covered)

    def differs(self, path: str, part: nn.Module) -> bool:
        """Return whether a part must be replaced by one of the new sizes."""
        before = self.before.get(path)
        return (
            before is None
            or type(before) is not type(part)
            or described(before) != described(part)
            or before.state_dict().keys() != part.state_dict().keys()
        )

    def stays(self, part: Any) -> bool:
        """Return whether a part has a class or hooks of its own, and gets new sizes alone."""
        if is_layer(part):
            return is_customized(part)
        return isinstance(part, nn.Linear) and not (
            type(part) is nn.Linear and is_plain(part, nn.Linear(1, 1, device="meta"))
        )

    def replaced(self, path: str, part: nn.Module) -> Iterator[str]:
        """Yield the statements that put a part in place."""
        self.changed.append(path)
        made = expression_of(described(part), self.with_dtype)
        every = self.module.named_modules(remove_duplicate=False)
        places = [place_of(self.module, name) for name, each in every if each is part]
        holder = self.referred.get(id(part))
        if self.stays(part) or (holder and type(part) not in OURS):
            before = self.before.get(path, part)
            if before.state_dict().keys() - part.state_dict().keys():
                raise ValueError(
                    f"layer {path!r} has computed weights, and a class or hooks that stay; remove "
                    "its parametrizations before pruning, or use save_pruned."
                )
            yield statement(("resize(", [places[0], made], ")"))
        elif holder:
            raise ValueError(
                f"layer {path!r} is in an attribute of {holder} that is no submodule, where code "
                f"cannot put a {type(part).__name__}; use save_pruned, or register it in a "
                "ModuleList or ModuleDict."
            )
        else:
            self.makes_whole |= not path
            yield statement(made, before=" = ".join([*places, ""]))
            for name, inner in part.named_modules():
                if isinstance(inner, ExpandedRNN) and inner.is_apart:
                    yield f"    {places[0]}.{joined(name, 'set_apart()')}"

    def resized(self, path: str, part: nn.Module, covered: set[str]) -> Iterator[str]:
        """Yield the statements that narrow parameters, buffers and sizes of a part itself."""
        before, place = self.before.get(path), place_of(self.module, path)
        old = {} if before is None else {**before._parameters, **before._buffers}
        for name, tensor in {**part._parameters, **part._buffers}.items():
            full = joined(path, name)
            if tensor is None or name in covered:
                continue
            wide = old.get(name)
            if wide is not None and wide.shape == tensor.shape:
                continue
            made = tensor_expression(tensor, self.with_dtype)
            self.changed.append(full)
            if name in part._parameters:
                yield statement(made, before=f"{place_of(self.module, full)} = ")
            else:
                self.added |= {full: tensor}
                yield statement((f"{place}.register_buffer(", [f'"{name}"', made], ")"))
        known = {} if before is None else sizes_in(before)
        for name, size in sizes_in(part).items():
            if name not in covered and known.get(name) != size:
                yield f"    {place}.{name} = {size}"

    def ties(self) -> Iterator[str]:
        """Yield the statements that let parts share parameters again that were made anew."""
        shared: dict[nn.Parameter, list[str]] = {}
        for path, part in self.module.named_modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    shared.setdefault(parameter, []).append(joined(path, name))
        for names in shared.values():
            new = [each for each in names for path in self.changed if is_within(each, path)]
            if len(names) > 1 and new:
                yield f"    {' = '.join(place_of(self.module, name) for name in names[::-1])}"


def is_within(name: str, path: str) -> bool:
    """Return whether a parameter is the one at a path, or of a module there."""
    return f"{name}.".startswith(f"{path}." if path else "")


def alone(value: Any) -> Any:
    """Return a tensor on the CPU, in memory of its own."""
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value
