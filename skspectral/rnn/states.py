"""Run sequences through a module and read off the hidden states of its layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .layers import RecurrentLayer, weights_of

# What a forward pass raises when its input does not fit.
MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)

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
    """Hidden states of a layer, read off while its module runs.

    Parameters
    ----------
    module : nn.Module
        The module; it runs in the mode it is in.
    layer : RecurrentLayer
        The layer whose states are wanted.
    layout : str or None
        A key of ``LAYOUTS``; None finds it out from the first batch of sequences.
    """

    def __init__(self, module: nn.Module, layer: RecurrentLayer, layout: str | None = None) -> None:
        self.module = module
        self.layer = layer
        self.layout = layout
        weight = weights_of(layer.of(module))["weight_ih"]
        self._device, self._dtype = weight.device, weight.dtype
        self._embeds = any(isinstance(part, nn.Embedding) for part in module.modules())

    def run(self, batch: Any) -> Tensor:
        """Call the module on a batch and read off the states.

        An array or tensor holds sequences, batch first; anything else is what
        ``forward`` takes: a tuple of arguments, or a dict of keyword arguments.

        Returns
        -------
        Tensor of shape (n_sequences, n_steps, n_nodes)
            Or (n_steps, n_nodes) where the layer read a packed sequence: its valid
            steps alone.
        """
        args, kwargs = self.arguments(batch)
        states = self._forward(*args, **kwargs)
        return states if isinstance(batch, (tuple, dict)) else states[: len(batch)]

    def arguments(
        self, batch: Any, *, whole: bool = True
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of ``forward`` for a batch, on the device of the module.

        An array is filled up to ``whole_blocks``, unless that is not wanted.
        """
        if isinstance(batch, dict):
            return (), {name: self._convert(value) for name, value in batch.items()}
        if isinstance(batch, tuple):
            return tuple(self._convert(value) for value in batch), {}
        sequences = self._convert(torch.as_tensor(batch))
        if self._embeds and sequences.ndim == 2 and not sequences.is_floating_point():
            sequences = sequences.long()
        else:
            sequences = sequences.to(self._dtype).reshape(*sequences.shape[:2], -1)
        self.layout = self.layout or self._find_layout(sequences)
        if whole:
            sequences = whole_blocks(sequences)
        return (LAYOUTS[self.layout](sequences).contiguous(),), {}

    def _convert(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point():
            return value.to(self._device, self._dtype)
        return value.to(self._device)

    @torch.no_grad()
    def _forward(self, *args: Any, **kwargs: Any) -> Tensor:
        rnn = self.layer.of(self.module)
        seen: list[Tensor] = []

        def read(_rnn: nn.Module, _inputs: Any, output: Any) -> None:
            states = output[0]
            if isinstance(states, PackedSequence):
                seen.append(states.data)
            else:
                seen.append(states if rnn.batch_first else states.transpose(0, -2))

        with rnn.register_forward_hook(read):
            self.module(*args, **kwargs)
        if len(seen) != 1:
            raise ValueError(
                f"layer {self.layer.name!r} ran {len(seen)} times in one forward pass of "
                f"{type(self.module).__name__}; give a module that runs it once."
            )
        return seen[0]

    def _find_layout(self, sequences: Tensor) -> str:
        """The layout in which the layer sees as many sequences as were fed."""
        n_copies = 3 if sequences.shape[1] == 2 else 2
        copies = sequences[:1].expand(n_copies, *sequences.shape[1:])
        reasons = []
        for layout in self._candidates(sequences):
            try:
                states = self._forward(LAYOUTS[layout](copies).contiguous())
            except MISFITS as error:
                reasons.append(str(error))
            else:
                if states.ndim == 3 and len(states) == n_copies:
                    return layout
                reasons.append(f"the layer saw {len(states)} sequences instead of {n_copies}")
        shape, kind = tuple(sequences.shape[1:]), type(self.module).__name__
        raise ValueError(
            f"X with sequences of shape {shape} does not go through {kind}: "
            f"{reasons[0].rstrip('.')}. Give sequences of shape (n_steps, n_features) like those "
            "the module was trained on."
        )

    def _candidates(self, sequences: Tensor) -> Iterator[str]:
        univariate = sequences.ndim == 3 and sequences.shape[2] == 1
        return (name for name in LAYOUTS if univariate or not name.startswith("univariate"))


def whole_blocks(sequences: Tensor) -> Tensor:
    """Copies of the last sequence appended until the batch is a multiple of ``BLOCK``.

    Vectorised kernels round the rows of their last, partial block differently. Without
    one, an answer does not depend on which other sequences are in the batch.
    """
    missing = -len(sequences) % BLOCK
    return torch.cat([sequences, sequences[-1:].expand(missing, *sequences.shape[1:])])
