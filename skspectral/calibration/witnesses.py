"""Batches to look at again: those by which it is settled how the module reads its states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

MOST_PATHS = 64  # batches that are kept for the ways they go


@dataclass(frozen=True)
class Glimpse:
    """What is known of a batch that has run.

    Parameters
    ----------
    number : int
        Its place among all batches.
    index : tuple of int or None
        Its sequences in X; None of batches that somebody else made.
    n_states : int
        Hidden states that it led to.
    path : frozenset of (str, str)
        Which torch function followed which, and of which parameter it was one.
    """

    number: int
    index: tuple[int, ...] | None
    n_states: int
    path: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Witnesses:
    """The first batch, the shortest, the longest, and every one that went a new way.

    Parameters
    ----------
    shortest, longest : Glimpse or None
        Those with the fewest and the most hidden states.
    novel : tuple of Glimpse
        Those in which some torch function followed one that it had not followed before, in their
        order; the first batch is among them.
    """

    shortest: Glimpse | None = None
    longest: Glimpse | None = None
    novel: tuple[Glimpse, ...] = ()

    def plus(self, glimpse: Glimpse) -> Witnesses:
        """Return these with another batch, if there is something new about it."""
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
        """Return these with others, whose batches come after so many."""
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
        """Return a description of plain lists and dicts."""
        return {
            "novel": [described(each) for each in self.novel],
            "shortest": self.shortest and described(self.shortest),
            "longest": self.longest and described(self.longest),
        }

    @classmethod
    def from_json(cls, description: Any) -> Self:
        """Return what was described."""
        shortest, longest = (
            description[name] and glimpse_of(description[name]) for name in ("shortest", "longest")
        )
        return cls(shortest, longest, tuple(glimpse_of(each) for each in description["novel"]))


def described(glimpse: Glimpse) -> dict[str, Any]:
    """Return a glimpse as lists and numbers."""
    return asdict(glimpse) | {"path": sorted(glimpse.path)}


def glimpse_of(description: dict[str, Any]) -> Glimpse:
    """Return a glimpse from lists and numbers."""
    index, path = description["index"], description["path"]
    return Glimpse(
        description["number"],
        None if index is None else tuple(index),
        description["n_states"],
        frozenset((before, after) for before, after in path),
    )
