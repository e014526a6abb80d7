"""Hidden states of sequences, batch by batch, and their moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from tqdm.auto import tqdm

from ..data.batches import Batches, as_tensor
from ..data.memory import cached
from ..data.sequences import Sequences, in_order
from ..rnn.layers.find import FORWARD_ERRORS
from ..rnn.states.collector import BLOCK, StateCollector, is_packed
from ..rnn.states.device_moments import DeviceMoments
from ..rnn.states.padded import Padded
from ..rnn.tracing.readers import Readers
from .moments import HiddenStateMoments
from .witnesses import Glimpse, Witnesses

N_FIRST = 17  # sequences; hardly a batch size, so that these are told apart from as many steps

# Moments by layer, layout of the batches, number of batches, and witnesses.
Found = tuple[dict[str, HiddenStateMoments], str | None, int, Witnesses]


@dataclass(frozen=True)
class BatchFactory:
    """Function that makes the batches of X, and their number.

    Parameters
    ----------
    batches_from : callable
        Function that yields the batches, with the indices of their sequences, from a given number
        on.
    total : int or None
        Number of all batches; None if it is not known.
    """

    batches_from: Callable[[int], Iterator[tuple[Any, Any]]]
    total: int | None

    def bar(self, what: str, verbose: int, start: int = 0) -> Any:
        """Return a progress bar that yields the batches."""
        return tqdm(
            self.batches_from(start),
            what,
            self.total,
            initial=start,
            unit=" batches",
            disable=not verbose,
        )


def batch_factory(
    collector: StateCollector, sequences: Sequences | Batches, batch_size: int, memory: Any = None
) -> BatchFactory:
    """Return the batches of X.

    Sequences of unequal length are padded if that does not change the states of the module.
    """
    if isinstance(sequences, Batches):
        read = sequences.of(collector.module)
        return BatchFactory(lambda _start: read.batches(batch_size), read.n_batches)
    pad = sequences.is_ragged
    if pad:
        lengths = sequences.lengths
        ends = [sequences.arrays[place] for place in (lengths.argmax(), lengths.argmin())]
        pad = cached(tolerates_padding, memory, (collector, ends))(collector, ends)
    return BatchFactory(
        lambda start: sequences.batches(batch_size, pad=pad, start=start),
        sum(1 for _ in sequences.plan(batch_size, pad=pad)),
    )


def tolerates_padding(collector: StateCollector, ends: list[Any]) -> bool:
    """Return whether padding does not change the states of the longest and shortest sequence."""
    # A copy, since the trial sets the layout, which is part of the cache key of the pass.
    return collector.copy().ignores_padding(*map(as_tensor, ends))


def run(
    collector: StateCollector, batches: BatchFactory, what: str, verbose: int
) -> Iterator[tuple[Any, Any, dict[str, Tensor]]]:
    """Yield the indices in X of each batch, the batch, and the hidden states of every layer."""
    for index, batch in batches.bar(what, verbose):
        yield index, batch, collector.run(batch)


def states_in_order(
    collector: StateCollector,
    batches: BatchFactory,
    what: str,
    verbose: int,
    pooling: Callable[[Tensor], Any] | None = None,
) -> Any:
    """Return the states of a single layer, or their pooled values, in the order of X."""
    found = [
        (index, (pooling or as_array)(states))
        for index, states in sequence_states(run(collector, batches, what, verbose))
    ]
    return in_order(found)


def sequence_states(
    seen: Iterable[tuple[Any, Any, dict[str, Tensor]]],
) -> Iterator[tuple[Any, Tensor]]:
    """Yield the indices in X of sequences of one length, and their states."""
    for index, batch, layers in seen:
        (states,) = layers.values()
        if isinstance(batch, Padded):
            rows = states.split(batch.lengths.tolist())
            yield from zip(index[:, None], (each[None] for each in rows), strict=True)
        elif states.ndim == 3:
            yield index, states
        else:
            raise ValueError(
                "the sequences of a packed batch cannot be told apart here; give sequences "
                "that the module reads without packing."
            )


def collect(collector: StateCollector, batches: Iterable[tuple[int, Any, Any]]) -> Found:
    """Return the moments of the hidden states on some batches.

    Parameters
    ----------
    collector : StateCollector
        Collector of the module and its layers.
    batches : iterable
        Tuples of the number of a batch, its indices in X, and the batch.

    Returns
    -------
    moments : dict of HiddenStateMoments
        Moments by the name of the layer.
    layout : str or None
        Layout in which the module read the batches.
    n_batches : int
        Number of batches.
    witnesses : Witnesses
        Witnesses, numbered within these batches.

    Raises
    ------
    ValueError
        If a state is not finite.
    """
    sums: dict[str, HiddenStateMoments | DeviceMoments] = {}
    n_batches, witnesses = 0, Witnesses()
    for number, index, batch in batches:
        states = rows_of(collector, batch, number, is_given=index is None)
        n_states = sum(len(rows) for rows in states.values())
        places = None if index is None else tuple(int(place) for place in index)
        witnesses = witnesses.plus(Glimpse(n_batches, places, n_states, collector.path))
        for name, rows in states.items():
            seen = sums.setdefault(name, new_accumulator(rows))
            seen.update(rows if isinstance(seen, DeviceMoments) else as_array(rows))
            if not seen.is_finite:
                where = describe_location(collector.run(batch)[name], name, number, index, batch)
                raise ValueError(
                    f"the hidden states of layer {name!r} are not finite on X, or too large to be "
                    f"squared: first {where}. Check the scale of X and that the training of the "
                    "network did not diverge."
                )
        n_batches += 1
    moments = {name: to_cpu(each) for name, each in sums.items()}
    return moments, collector.layout, n_batches, witnesses


def rows_of(
    collector: StateCollector, batch: Any, number: int, *, is_given: bool
) -> dict[str, Tensor]:
    """Return the states of a batch; raise an error that names a given batch if it does not fit."""
    try:
        return collector.rows(batch)
    except FORWARD_ERRORS as error:
        # Subclasses tell of something else than the batch, such as too little memory.
        if not is_given or isinstance(error, ValueError) or type(error) not in FORWARD_ERRORS:
            raise
        kind, reason = type(collector.module).__name__, str(error).partition("\n")[0].rstrip(".")
        if goes_through(collector, tree_map(exchanged, batch)):
            raise ValueError(
                f"batch {number} of X goes through {kind} only with its last two axes exchanged; "
                "give sequences of shape (n_sequences, n_steps, n_features)."
            ) from error
        raise ValueError(
            f"batch {number} of X does not go through {kind}: {reason}; give batches like those "
            "the network was trained on."
        ) from error


def exchanged(value: Any) -> Any:
    """Return sequences with steps and features exchanged, and any other value itself."""
    is_sequences = isinstance(value, Tensor) and value.ndim == 3 and value.is_floating_point()
    return value.transpose(1, 2) if is_sequences else value


def goes_through(collector: StateCollector, batch: Any) -> bool:
    """Return whether the module runs on a batch."""
    try:
        collector.rows(batch)
    except FORWARD_ERRORS:
        return False
    return True


def short_batch(collector: StateCollector, sequences: Sequences, glimpse: Glimpse) -> Any:
    """Return a witness batch, cut to its first sequences if these have the same path."""
    index = glimpse.index or ()
    batch = sequences.batch(index[:BLOCK])
    return batch if states_on_path(collector, batch, glimpse) else sequences.batch(index)


def first_sequences(collector: StateCollector, batch: Any, glimpse: Glimpse) -> Any:
    """Return the first sequences of a batch that cannot be read again, or all of it.

    They are taken along the first axis of all tensors. Where that is not the axis of the sequences,
    or where the path of the module then differs, the whole batch is kept.
    """
    leaves = tree_leaves(batch, is_leaf=is_packed)
    if not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        return batch
    if len({len(leaf) for leaf in leaves}) > 1 or len(leaves[0]) <= N_FIRST:
        return batch
    short = tree_map(lambda leaf: leaf[:N_FIRST], batch)
    states = states_on_path(collector, short, glimpse).values()
    is_cut = states and all(each.ndim == 3 and len(each) == N_FIRST for each in states)
    return short if is_cut else batch


def states_on_path(collector: StateCollector, batch: Any, glimpse: Glimpse) -> dict[str, Tensor]:
    """Return the states on a batch; none if the module does not take the path of a glimpse."""
    with suppress(*FORWARD_ERRORS):
        states = collector.run(batch)
        return states if collector.path == glimpse.path else {}
    return {}


def new_accumulator(states: Tensor) -> HiddenStateMoments | DeviceMoments:
    """Return an accumulator of states on their device: torch on a GPU, the faster NumPy on CPU."""
    n_nodes = states.shape[-1]
    if states.device.type == "cuda":
        return DeviceMoments(n_nodes, states.device)
    return HiddenStateMoments(n_nodes)


def to_cpu(moments: HiddenStateMoments | DeviceMoments) -> HiddenStateMoments:
    """Return moments as NumPy arrays on the CPU."""
    if isinstance(moments, HiddenStateMoments):
        return moments
    sums = moments.sum_.cpu().numpy(), moments.products_.cpu().numpy()
    return HiddenStateMoments.from_sums(moments.n_steps, *sums)


def as_array(states: Tensor) -> Any:
    """Return states as a NumPy array, converted from bfloat16, which NumPy lacks."""
    states = states.float() if states.dtype == torch.bfloat16 else states
    return states.numpy(force=True)


def describe_location(states: Tensor, name: str, number: int, index: Any, batch: Any) -> str:
    """Describe the place of the first state that is not finite, or else of the largest one."""
    size = states.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).amax(-1)
    where = [int(i) for i in np.unravel_index(int(size.argmax()), size.shape)]
    if isinstance(batch, Padded):
        starts = np.cumsum([0, *batch.lengths.tolist()])
        row = int(np.searchsorted(starts, where[0], side="right")) - 1
        where = [row, where[0] - int(starts[row])]
        n_steps = int(batch.lengths[row])
    elif len(where) == 2:
        n_steps = states.shape[1]
    else:
        return f"in batch {number}"
    row, step = where
    step = n_steps - 1 - step if name.endswith("_reverse") else step
    sequence = f"sequence {row} of batch {number}" if index is None else f"sequence {index[row]}"
    return f"at step {step} of {sequence}"


def cell_moments(
    collector: StateCollector, readers: Readers, batches: list[Any]
) -> dict[str, HiddenStateMoments]:
    """Return the moments of last cell states, of layers whose cell state starts another layer."""
    layers = [layer for layer in collector.layers if layer.host in readers.cells]
    moments = {
        layer.name: HiddenStateMoments(layer.of(collector.module).hidden_size) for layer in layers
    }
    for batch in batches if layers else []:
        for name, cells in collector.cells(batch, layers).items():
            moments[name].update(as_array(cells))
    return moments
