"""What a pass over all sequences has found so far, saved where it is stopped."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..utils.safetensors_io import header, read_header, replacing
from .moments import HiddenStateMoments
from .witnesses import Witnesses

FORMAT, VERSION = "skspectral stopped pass", 2


@dataclass(frozen=True)
class PassCheckpoint:
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

    def merged_with(
        self,
        moments: dict[str, HiddenStateMoments],
        layout: str | None,
        n_batches: int,
        witnesses: Witnesses,
    ) -> PassCheckpoint:
        """The same with what other batches gave; both parts stay as they are."""
        joint = dict(self.moments)
        for name, each in moments.items():
            fresh = HiddenStateMoments(each.n_nodes).merge(each)
            joint[name] = fresh.merge(joint[name]) if name in joint else fresh
        joined = self.witnesses.followed_by(witnesses, self.n_batches)
        return PassCheckpoint(self.n_batches + n_batches, layout, joint, joined)

    def try_save(self, path: Path) -> None:
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
    def resume(cls, path: Path) -> PassCheckpoint:
        """One that was stopped and saved; an empty one where there is none to be read."""
        with suppress(FileNotFoundError, ValueError, SafetensorError):
            return cls.load(path)
        return cls()

    @classmethod
    def load(cls, path: Path) -> PassCheckpoint:
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
