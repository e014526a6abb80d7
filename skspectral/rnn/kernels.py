"""Interception of the torch functions that run recurrent layers, one layer at a time."""

from __future__ import annotations

import inspect
import random
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

KERNELS = {
    "rnn_tanh": "RNN_TANH",
    "rnn_relu": "RNN_RELU",
    "gru": "GRU",
    "lstm": "LSTM",
    "rnn_tanh_cell": "RNN_TANH",
    "rnn_relu_cell": "RNN_RELU",
    "gru_cell": "GRU",
    "lstm_cell": "LSTM",
}
DROPOUTS = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout "
    "feature_alpha_dropout".split()
)
# Signatures of normalizations, and the option by which they use the statistics of a batch.
BY_STATISTICS = {
    "batch_norm": (inspect.signature(functional.batch_norm), "training"),
    "instance_norm": (inspect.signature(functional.instance_norm), "use_input_stats"),
}


@dataclass(frozen=True)
class LayerCall:
    """Call of one layer in one direction, over sequences in the order in which it reads them.

    Parameters
    ----------
    mode : str
        A key of ``GATES``.
    weights : list of Tensor
        ``weight_ih``, ``weight_hh`` and the biases, if any.
    input : Tensor
        Shape (n_steps, n_sequences, n_features), or (n_rows, n_features) for packed sequences.
    batch_sizes : Tensor or None
        Number of sequences in every step, if they are packed.
    start : tuple of Tensor, each (n_sequences, n_nodes)
        Initial hidden state, and initial cell state of an LSTM.
    """

    mode: str
    weights: list[Tensor]
    input: Tensor
    batch_sizes: Tensor | None
    start: tuple[Tensor, ...]

    def run(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the torch function; return the states of all steps and the last states."""
        function = getattr(torch, self.mode.lower())
        start: Any = tuple(state.unsqueeze(0) for state in self.start)
        start = start if self.mode == "LSTM" else start[0]
        options = (self.weights, len(self.weights) == 4, 1, 0.0, False, False)
        # cuDNN needs all weights of a stack in one piece of memory.
        with torch.backends.cudnn.flags(enabled=False):
            if self.batch_sizes is None:
                states, *last = function(self.input, start, *options, False)
            else:
                states, *last = function(self.input, self.batch_sizes, start, *options)
        return states, tuple(state.squeeze(0) for state in last)

    def steps(self, states: Tensor, most: int | None = None) -> list[Tensor]:
        """Split the rows of all or the first steps into steps, each (n_sequences, ...)."""
        if self.batch_sizes is None:
            return list(states[:most])
        sizes = self.batch_sizes.tolist()[:most]
        return list(states[: sum(sizes)].split(sizes))

    def last(self, states: Tensor) -> Tensor:
        """Return the last state of every sequence, (n_sequences, n_nodes)."""
        last = self.start[0].new_empty(*self.start[0].shape[:1], states.shape[-1])
        for step in self.steps(states) if self.batch_sizes is not None else states[-1:]:
            last[: len(step)] = step.to(last)
        return last


class KernelMode(TorchFunctionMode):
    """Function mode that runs every recurrent layer, one level after another, by ``layer``.

    Dropout is left out, since networks of different sizes do not drop the same entries. Batch
    normalization is by the running statistics. Other torch functions run as usual.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name in DROPOUTS:
            return kwargs["input"] if "input" in kwargs else args[0]
        if name not in KERNELS:
            args, kwargs = as_in_evaluation(name, args, kwargs)
            return func(*args, **kwargs)
        if name.endswith("_cell"):
            return self._cell(KERNELS[name], *args)
        return self._stack(KERNELS[name], *args)

    @abstractmethod
    def layer(self, call: LayerCall) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the states of all steps and the last states of one layer."""

    def _cell(self, mode: str, input: Tensor, hx: Any, *weights: Any) -> Any:  # noqa: A002
        start = tuple(hx) if mode == "LSTM" else (hx,)
        given = [weight for weight in weights if weight is not None]
        _, last = self.layer(LayerCall(mode, given, input.unsqueeze(0), None, start))
        last = tuple(each.clone() for each in last)  # torch's are no views either
        return last if mode == "LSTM" else last[0]

    def _stack(self, mode: str, input: Tensor, *args: Any) -> Any:  # noqa: A002
        batch_sizes, batch_first = None, False
        if isinstance(args[2], (list, tuple)):  # packed: weights come after batch_sizes and hx
            batch_sizes, hx, weights, bias, n_levels, _, _, both = args
        else:
            hx, weights, bias, n_levels, _, _, both, batch_first = args
        start = tuple(hx) if mode == "LSTM" else (hx,)
        states = input.transpose(0, 1) if batch_first else input
        n_weights = 4 if bias else 2
        finals = []
        for level in range(n_levels):
            outputs = []
            for direction in range(1 + both):
                place = level * (1 + both) + direction
                own = list(weights[place * n_weights : (place + 1) * n_weights])
                begin = tuple(state[place] for state in start)
                call = LayerCall(mode, own, states, batch_sizes, begin)
                if direction:
                    turned = backward(states, batch_sizes)
                    output, final = self.layer(replace(call, input=turned))
                    output = backward(output, batch_sizes)
                else:
                    output, final = self.layer(call)
                outputs.append(output)
                finals.append(final)
            states = torch.cat(outputs, -1)
        last = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        return (states.transpose(0, 1) if batch_first else states, *last)


def as_in_evaluation(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a torch function; normalization is by running statistics."""
    if name not in BY_STATISTICS:
        return args, kwargs
    signature, option = BY_STATISTICS[name]
    bound = signature.bind(*args, **kwargs)
    if bound.arguments.get("running_mean") is not None:
        bound.arguments[option] = False
    return bound.args, bound.kwargs


def backward(states: Tensor, batch_sizes: Tensor | None) -> Tensor:
    """Return every sequence in reverse order of its steps."""
    if batch_sizes is None:
        return states.flip(0)
    n_sequences = int(batch_sizes[0])
    lengths = (batch_sizes[:, None] > torch.arange(n_sequences)).sum(0)
    starts = batch_sizes.cumsum(0) - batch_sizes
    rows = [
        starts[lengths[:size] - 1 - step] + torch.arange(size)
        for step, size in enumerate(batch_sizes.tolist())
    ]
    return states[torch.cat(rows).to(states.device)]


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed all random number generators, and restore their states afterwards."""
    numpy = sys.modules.get("numpy")  # a module may draw from NumPy if it is loaded
    of_python, of_numpy = random.getstate(), numpy and numpy.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        if numpy:
            numpy.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(of_python)
            if numpy:
                numpy.random.set_state(of_numpy)
