"""Let layers read only some of their inputs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..forward_pass import ForwardPass
from ..layers.find import RecurrentLayer
from ..layers.weights import copy_of, filled, in_float64, reading_of
from ..runtime.inputs import SelectedCellInputs, SelectedInputs
from .reduction import with_input
from .verification import same_outputs


def select_inputs(
    module: nn.Module,
    layers: Sequence[RecurrentLayer],
    supports: Mapping[str, Tensor],
    arguments: tuple[Any, Any],
) -> nn.Module:
    """Return a module whose hosts read only some of their inputs.

    If an embedding computes the inputs and nothing else reads it, the embedding is narrowed to the
    selected columns. Otherwise a wrapper selects the inputs in front of the host.

    Parameters
    ----------
    module : nn.Module
        The module; it is not changed.
    layers : sequence of RecurrentLayer
        The layers that read inputs.
    supports : dict of Tensor of int
        Indices of the inputs to read, by host.
    arguments : tuple
        Positional and keyword arguments of a forward pass, on which candidates are compared.
    """
    for host, support in supports.items():
        own = [layer for layer in layers if layer.host == host]
        n_inputs = own[0].of(module).input_size
        if len(support) < n_inputs:
            narrow = reading(module, own, support)
            part = narrow.get_submodule(host)
            is_cell = isinstance(own[0].of(module), nn.RNNCellBase)
            kind = SelectedCellInputs if is_cell else SelectedInputs
            selecting = replaced(narrow, host, kind(part, support, n_inputs))
            candidates = embedded(narrow, n_inputs, support)
            fits = (
                each
                for each in candidates
                if same_outputs(each, selecting, ForwardPass(*arguments))
            )
            module = next(fits, selecting)
    return module


def replaced(module: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """Return a copy of a module in which the submodule at ``path`` is replaced."""
    return copy_of(module, {module.get_submodule(path): copy_of(part)})


def reading(module: nn.Module, layers: Sequence[RecurrentLayer], support: Tensor) -> nn.Module:
    """Return a copy of a module whose given layers have input columns for ``support`` only."""
    narrow: dict[nn.Module, nn.Module] = {}
    for layer in layers:
        part = layer.of(module)
        weight, bias = reading_of(part)
        narrow[part] = with_input(part, in_float64(weight)[:, support], bias)
    return copy_of(module, narrow)


def embedded(module: nn.Module, n_inputs: int, support: Tensor) -> Iterator[nn.Module]:
    """Yield copies of a module, each with one embedding narrowed to the columns ``support``.

    Candidates are the embeddings with ``n_inputs`` columns whose weight is used once.
    """
    uses = Counter(id(each) for part in module.modules() for each in part._parameters.values())
    for path, part in module.named_modules():
        fits = isinstance(part, nn.Embedding) and part.embedding_dim == n_inputs
        if fits and uses[id(part.weight)] == 1:
            weight = part.weight.detach()[:, support]
            n_rows, width = weight.shape
            empty = nn.Embedding(n_rows, width, padding_idx=part.padding_idx, device="meta")
            yield replaced(module, path, filled(empty, {"weight": weight}, part))
