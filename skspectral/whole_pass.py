"""The pass over all sequences: in one process or in many, and resumed where it was stopped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController
from tqdm.auto import tqdm

from .covariance import HiddenStateMoments
from .files import header, read_header, replacing
from .hidden_states import Found, collect
from .rnn.states import StateCollector
from .witnesses import Witnesses

FORMAT, VERSION = "skspectral stopped pass", 2
PART = 4  # batches that go to another process together
SECONDS = 30.0  # between two times that a pass is saved
ROOM = 2**28  # bytes of moments that the threads of a pass hold together


@dataclass(frozen=True)
class Pass:
    """What a pass has found so far; as a whole, so that it can be stopped at any time.

    Parameters
    ----------
    n_batches : int
        Batches that are behind.
    layout : str or None
        How the module read them.
    moments : dict of HiddenStateMoments
        Moments of every layer.
    witnesses : Witnesses
        Batches to look at again.
    """

    n_batches: int = 0
    layout: str | None = None
    moments: dict[str, HiddenStateMoments] = field(default_factory=dict)
    witnesses: Witnesses = field(default_factory=Witnesses)

    def plus(
        self,
        moments: dict[str, HiddenStateMoments],
        layout: str | None,
        n_batches: int,
        witnesses: Witnesses,
    ) -> Pass:
        """The same with what other batches gave; both parts stay as they are."""
        joint = dict(self.moments)
        for name, each in moments.items():
            fresh = HiddenStateMoments(each.n_nodes).merge(each)
            joint[name] = fresh.merge(joint[name]) if name in joint else fresh
        joined = self.witnesses.followed_by(witnesses, self.n_batches)
        return Pass(self.n_batches + n_batches, layout, joint, joined)

    def keep(self, path: Path) -> None:
        """Save it if there is room, which no pass has to be stopped for."""
        with suppress(OSError, SafetensorError):
            self.save(path)

    def save(self, path: Path) -> None:
        """Save it, in place of what was saved before."""
        tensors: dict[str, NDArray[np.float64]] = {}
        for name, each in self.moments.items():
            tensors |= {f"{name}/sum": each.sum_, f"{name}/products": each.products_}
        n_steps = {name: each.n_steps for name, each in self.moments.items()}
        description = header(
            FORMAT,
            VERSION,
            n_batches=self.n_batches,
            layout=self.layout,
            n_steps=n_steps,
            witnesses=self.witnesses.as_json(),
        )
        with replacing(path) as beside:
            save_file(tensors, beside, metadata=description)

    @classmethod
    def stopped(cls, path: Path) -> Pass:
        """One that was stopped and saved; an empty one where there is none to be read."""
        with suppress(FileNotFoundError, ValueError, SafetensorError):
            return cls.load(path)
        return cls()

    @classmethod
    def load(cls, path: Path) -> Pass:
        """One that was saved."""
        head, tensors = read_header(path, FORMAT, VERSION, "a stopped fit"), load_file(path)
        moments = {
            name: HiddenStateMoments.from_sums(
                n_steps, tensors[f"{name}/sum"], tensors[f"{name}/products"]
            )
            for name, n_steps in head["n_steps"].items()
        }
        witnesses = Witnesses.from_json(head["witnesses"])
        return cls(head["n_batches"], head["layout"], moments, witnesses)


def run_through(
    collector: StateCollector,
    batches_from: Callable[[int], Iterator[tuple[Any, Any]]],
    n_jobs: int | None,
    path: Path | None,
    verbose: int,
) -> tuple[dict[str, HiddenStateMoments], str | None, list[Any]]:
    """Return moments on all batches, the layout in which they were read, and batches to keep.

    These are the witnesses; in the place of a batch that can be read again is what is known of it.

    Parameters
    ----------
    collector : StateCollector
        The module and its layers.
    batches_from : callable
        Gives the batches from that of a number on.
    n_jobs : int or None
        Processes that run batches at the same time.
    path : Path or None
        Where to save what was found if the pass is stopped, and to look for what was.
    verbose : int
        Whether to show progress.

    Raises
    ------
    ValueError
        If a state is not finite.
    """
    done = Pass.stopped(path) if path else Pass()
    start, due = done.n_batches, time.monotonic() + SECONDS
    bar = tqdm(
        batches_from(start), "hidden states", initial=start, unit="batch", disable=not verbose
    )
    held: dict[int, Any] = {}  # batches until it is known whether they are witnesses
    numbered = remembered(zip(count(start), bar, strict=False), held)
    try:
        with closing(in_parts(collector, numbered, n_jobs)) as parts:
            for found in parts:
                done = done.plus(*found)
                wanted = {each.number for each in done.witnesses}
                for number in [each for each in held if each < done.n_batches]:
                    if number not in wanted:
                        del held[number]
                if path and time.monotonic() > due:
                    done.keep(path)
                    due = time.monotonic() + SECONDS
    except BaseException:
        if path and done.n_batches > start:
            done.keep(path)
        raise
    if path:
        path.unlink(missing_ok=True)
    kept = [held[each.number] if each.index is None else each for each in done.witnesses]
    return done.moments, done.layout, kept


def remembered(
    batches: Iterable[tuple[int, tuple[Any, Any]]], held: dict[int, Any]
) -> Iterator[tuple[int, Any, Any]]:
    """Yield numbered batches, and hold on to those that could not be read again."""
    for number, (index, batch) in batches:
        if index is None:
            held[number] = batch
        yield number, index, batch


def in_parts(
    collector: StateCollector, batches: Iterator[tuple[int, Any, Any]], n_jobs: int | None
) -> Generator[Found, None, None]:
    """What some batches after another give, in their order."""
    if effective_n_jobs(n_jobs) == 1:
        return here(collector, batches)
    parts = iter(lambda: list(islice(batches, PART)), [])
    return Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(elsewhere)(collector, part) for part in parts
    )


def here(
    collector: StateCollector, batches: Iterator[tuple[int, Any, Any]]
) -> Generator[Found, None, None]:
    """What they give in this process: several at the same time, on the threads that torch has.

    A step of a small layer is too little work to be shared by many threads. The moments of a large
    one are too much to be there several times.
    """
    total = torch.get_num_threads() if collector.device.type == "cpu" else 1
    of_moments = sum(8 * size**2 for size in collector.sizes.values())
    n_batches = max(1, min(total, ROOM // of_moments))
    # More threads of OpenBLAS would wait for those of torch, longer than they work.
    with ThreadpoolController().select(internal_api="openblas").limit(limits=total // n_batches):
        if n_batches == 1:
            own = collector.copy()
            yield from (collect(own, [batch]) for batch in batches)
        else:
            yield from at_once(collector, batches, n_batches)


def at_once(
    collector: StateCollector, batches: Iterator[tuple[int, Any, Any]], n_batches: int
) -> Generator[Found, None, None]:
    """What so many at the same time give, with an equal part of the threads of torch for each."""
    total = torch.get_num_threads()
    idle = deque(collector.copy() for _ in range(n_batches))
    pool = ThreadPoolExecutor(
        n_batches, initializer=torch.set_num_threads, initargs=(total // n_batches,)
    )

    def run(batch: tuple[int, Any, Any]) -> Found:
        own = idle.popleft()
        try:
            return collect(own, [batch])
        finally:
            idle.append(own)

    try:
        begun = deque(pool.submit(run, batch) for batch in islice(batches, n_batches + 1))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(run, batch) for batch in islice(batches, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        # What one thread sets, those that start later begin with.
        torch.set_num_threads(total)


def elsewhere(collector: StateCollector, batches: list[tuple[int, Any, Any]]) -> Found:
    """What they give in another process or thread."""
    return collect(collector.copy(), batches)
