"""Run sequences through a module and read off the hidden states of its layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_map

from .layers import MISFITS, RecurrentLayer, states_of
from .padded import Padded

BLOCK = 16  # float32 numbers in the widest vector register of today's CPUs

# How a batch of sequences (n_sequences, n_steps, n_features), or of token ids without the
# last axis, can be laid out for `forward`.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch first": lambda batch: batch,
    "time first": lambda batch: batch.transpose(0, 1),
    "univariate, batch first": lambda batch: batch.squeeze(2),
    "univariate, time first": lambda batch: batch.squeeze(2).transpose(0, 1),
}


class StateCollector:
    """Hidden states of layers, read off while their module runs.

    Parameters
    ----------
    module : nn.Module
        The module; it runs in the mode it is in.
    layers : sequence of RecurrentLayer
        The layers whose states are wanted.
    layout : str or None
        A key of ``LAYOUTS``; None finds it out from the first batch of sequences.
    """

    def __init__(
        self, module: nn.Module, layers: Sequence[RecurrentLayer], layout: str | None = None
    ) -> None:
        self.module = module
        self.layers = tuple(layers)
        self.layout = layout
        weight = next(layers[0].of(module).parameters())
        self.device, self._dtype = weight.device, weight.dtype
        self._embeds = any(isinstance(part, nn.Embedding) for part in module.modules())

    @property
    def sizes(self) -> dict[str, int]:
        """Nodes of every layer."""
        return {layer.name: layer.of(self.module).hidden_size for layer in self.layers}

    def copy(self) -> StateCollector:
        """One with the same weights, whose hooks and whatever it keeps of a pass are its own."""
        weights = chain(self.module.parameters(), self.module.buffers())
        module = copy.deepcopy(self.module, {id(weight): weight for weight in weights})
        return StateCollector(module, self.layers, self.layout)

    @property
    def is_bare(self) -> bool:
        """Whether the module is nothing but recurrent, so that its states are what it is for."""
        return self.layers[0].host == ""

    def run(self, batch: Any) -> dict[str, Tensor]:
        """Call the module on a batch and read off the states.

        An array or tensor holds sequences, batch first; anything else is what
        ``forward`` takes: a tuple of arguments, or a dict of keyword arguments.

        Returns
        -------
        dict of Tensor, each (n_sequences, n_steps, n_nodes)
            By the name of the layer. Without the first axis where sequences are padded, or the
            layer read packed ones, or ran on several numbers of them: the valid steps alone.

        Raises
        ------
        ValueError
            If sequences are padded and a layer does not run on their steps.
        """
        args, kwargs = self.arguments(batch)
        states = self._forward(*args, **kwargs)
        if isinstance(batch, Padded):
            return {name: batch.own(self._padded(batch, found)) for name, found in states.items()}
        if isinstance(batch, (tuple, dict)):
            return states
        n_given = len(batch)
        n_run = n_given + -n_given % BLOCK
        return {
            name: found[:n_given] if found.ndim == 3 and len(found) == n_run else found
            for name, found in states.items()
        }

    def rows(self, batch: Any) -> dict[str, Tensor]:
        """The same states, each (n_states, n_nodes), in an order in which fewer are copied."""
        # Layers lay their states out by steps.
        if not isinstance(batch, Padded):
            return {
                name: states.transpose(0, -2).flatten(0, -2)
                for name, states in self.run(batch).items()
            }
        args, kwargs = self.arguments(batch)
        states = self._forward(*args, **kwargs)
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
        """Whether zeros behind a sequence leave its states as they are.

        They do where it is read from its end, or normalised by all of its steps.
        """
        try:
            alone, beside = self.run(short[None]), self.run(Padded.of([long, short]))
        except MISFITS:
            return False
        return alone.keys() == beside.keys() and all(
            close(states.flatten(0, -2), beside[name][len(long) :])
            for name, states in alone.items()
        )

    @torch.no_grad()
    def cells(self, batch: Any, layers: Sequence[RecurrentLayer]) -> dict[str, Tensor]:
        """Last cell states of some LSTM layers, each (n_sequences, n_nodes)."""
        found: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

        def keep(name: str, part: nn.Module, _inputs: Any, output: Any) -> None:
            cell = output[1] if isinstance(part, nn.RNNCellBase) else output[1][1]
            found[name].append(cell.flatten(0, -2))

        args, kwargs = self.arguments(batch, whole=False)
        with ExitStack() as hooks:
            for layer in layers:
                part = layer.of(self.module)
                hooks.enter_context(part.register_forward_hook(partial(keep, layer.name)))
            self.module(*args, **kwargs)
        return {name: torch.cat(rows) for name, rows in found.items()}

    def arguments(
        self, batch: Any, *, whole: bool = True
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of ``forward`` for a batch, on the device of the module.

        An array is filled up to ``whole_blocks``, unless that is not wanted.
        """
        if isinstance(batch, dict):
            return (), tree_map(self._convert, batch, is_leaf=is_packed)
        if isinstance(batch, tuple) and not isinstance(batch, Padded):
            return tree_map(self._convert, batch, is_leaf=is_packed), {}
        padded = isinstance(batch, Padded)
        sequences = self._convert(batch.filled if padded else torch.as_tensor(batch))
        if self._embeds and sequences.ndim == 2 and not sequences.is_floating_point():
            sequences = sequences.long()
        else:
            sequences = sequences.to(self._dtype).reshape(*sequences.shape[:2], -1)
        self.layout = self.layout or self._find_layout(sequences)
        if padded and self.is_bare:
            return (Padded(sequences, batch.lengths).packed(),), {}
        if whole:
            sequences = whole_blocks(sequences)
        return (LAYOUTS[self.layout](sequences).contiguous(),), {}

    def _convert(self, value: Any) -> Any:
        if is_packed(value):
            return value.to(self.device)._replace(data=self._convert(value.data))
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point():
            return value.to(self.device, self._dtype)
        return value.to(self.device)

    @torch.inference_mode()
    def _forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        seen: dict[str, list[Tensor]] = {layer.name: [] for layer in self.layers}
        with ExitStack() as hooks:
            for layer in self.layers:
                part = layer.of(self.module)
                hooks.enter_context(part.register_forward_hook(keeper(part, seen[layer.name])))
            self.module(*args, **kwargs)
        return {name: joined_steps(found) for name, found in seen.items() if found}

    def _find_layout(self, sequences: Tensor) -> str:
        """The layout in which a layer sees as many sequences as were fed."""
        n_copies = 3 if sequences.shape[1] == 2 else 2
        copies = sequences[:1].expand(n_copies, *sequences.shape[1:])
        reasons = []
        for layout in self._candidates(sequences):
            try:
                states = self._forward(LAYOUTS[layout](copies).contiguous())
            except MISFITS as error:
                reasons.append(str(error))
            else:
                if any(each.ndim == 3 and len(each) == n_copies for each in states.values()):
                    return layout
                reasons.append(f"its layers do not see {n_copies} sequences where as many were fed")
        shape, kind = tuple(sequences.shape[1:]), type(self.module).__name__
        raise ValueError(
            f"X with sequences of shape {shape} does not go through {kind}: "
            f"{reasons[0].rstrip('.')}. Give sequences of shape (n_steps, n_features) like those "
            "the module was trained on."
        )

    def _candidates(self, sequences: Tensor) -> Iterator[str]:
        univariate = sequences.ndim == 3 and sequences.shape[2] == 1
        return (name for name in LAYOUTS if univariate or not name.startswith("univariate"))


def is_packed(value: Any) -> bool:
    """Whether a value is packed sequences, whose sizes stay on the CPU."""
    return isinstance(value, PackedSequence)


def keeper(part: nn.Module, into: list[Tensor]) -> Callable[..., None]:
    """A forward hook that keeps the states, batch first; those of a cell as one step."""

    def keep(_part: nn.Module, _inputs: Any, output: Any) -> None:
        states = states_of(output)
        if isinstance(part, nn.RNNCellBase):
            into.append(states.unsqueeze(-2))
        elif part.batch_first or isinstance(output[0], PackedSequence):
            into.append(states)
        else:
            into.append(states.transpose(0, -2))

    return keep


def close(states: Tensor, others: Tensor) -> bool:
    """Whether states are the same but for rounding."""
    if states.shape != others.shape:
        return False
    most = float(states.abs().max())
    return torch.allclose(
        states, others, rtol=0.0, atol=most * torch.finfo(states.dtype).eps ** 0.7
    )


def joined_steps(found: list[Tensor]) -> Tensor:
    """The states of all calls of a layer, one after another."""
    if len(found) == 1:
        return found[0]
    if all(states.ndim == 3 and len(states) == len(found[0]) for states in found):
        return torch.cat(found, dim=1)
    return torch.cat([states.flatten(0, -2) for states in found])


def whole_blocks(sequences: Tensor) -> Tensor:
    """Copies of the last sequence appended until the batch is a multiple of ``BLOCK``.

    Vectorised kernels round the rows of their last, partial block differently. Without
    one, an answer does not depend on which other sequences are in the batch.
    """
    missing = -len(sequences) % BLOCK
    if not missing:
        return sequences
    return torch.cat([sequences, sequences[-1:].expand(missing, *sequences.shape[1:])])
