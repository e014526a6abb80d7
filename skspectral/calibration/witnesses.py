"""Witnesses: batches that are run again to find out how the module reads its states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

MOST_PATHS = 64  # limit on batches that are kept for their paths


@dataclass(frozen=True)
class Glimpse:
    """Summary of a batch that has run.

    Parameters
    ----------
    number : int
        Its number among all batches.
    index : tuple of int or None
        Indices of its sequences in X; None if the user gave batches.
    n_states : int
        Number of its hidden states.
    path : frozenset of (str, str)
        Pairs of consecutive torch functions with their arguments, as from ``PathRecorder``.
    """

    number: int
    index: tuple[int, ...] | None
    n_states: int
    path: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Witnesses:
    """First, shortest and longest batch, and every batch with a new path through the module.

    Parameters
    ----------
    shortest, longest : Glimpse or None
        Batches with the fewest and the most hidden states.
    novel : tuple of Glimpse
        Batches with a pair of consecutive torch functions that no earlier batch had, in order; the
        first batch is among them.
    """

    shortest: Glimpse | None = None
    longest: Glimpse | None = None
    novel: tuple[Glimpse, ...] = ()

    def plus(self, glimpse: Glimpse) -> Witnesses:
        """Return the witnesses with another batch added if it is one."""
        found = self
        if self.shortest is None or glimpse.n_states < self.shortest.n_states:
            found = replace(found, shortest=glimpse)
        if self.longest is None or glimpse.n_states > self.longest.n_states:
            found = replace(found, longest=glimpse)
        known = frozenset[tuple[str, str]]().union(*(each.path for each in self.novel))
        if not self.novel or (glimpse.path - known and len(self.novel) < MOST_PATHS):
            found = replace(found, novel=(*self.novel, glimpse))
        return found

    def followed_by(self, others: Witnesses, n_batches: int) -> Witnesses:
        """Return the witnesses with others added, whose batches come after ``n_batches``."""
        found = self
        for glimpse in others:
            found = found.plus(replace(glimpse, number=n_batches + glimpse.number))
        return found

    def __iter__(self) -> Iterator[Glimpse]:
        """Iterate over the batches in their order, each once."""
        every = (*self.novel, self.shortest, self.longest)
        by_number = {each.number: each for each in every if each is not None}
        return iter([by_number[number] for number in sorted(by_number)])

    def as_json(self) -> Any:
        """Return the witnesses as JSON-compatible lists and dicts."""
        return {
            "novel": [described(each) for each in self.novel],
            "shortest": self.shortest and described(self.shortest),
            "longest": self.longest and described(self.longest),
        }

    @classmethod
    def from_json(cls, description: Any) -> Self:
        """Make witnesses from the result of ``as_json``."""
        shortest, longest = (
            description[name] and glimpse_of(description[name]) for name in ("shortest", "longest")
        )
        return cls(shortest, longest, tuple(glimpse_of(each) for each in description["novel"]))


def described(glimpse: Glimpse) -> dict[str, Any]:
    """Return a glimpse as a JSON-compatible dict."""
    return asdict(glimpse) | {"path": sorted(glimpse.path)}


def glimpse_of(description: dict[str, Any]) -> Glimpse:
    """Return a glimpse from the result of ``described``."""
    index, path = description["index"], description["path"]
    return Glimpse(
        description["number"],
        None if index is None else tuple(index),
        description["n_states"],
        frozenset((before, after) for before, after in path),
    )
