"""Checkpoint of a calibration pass, from which a stopped pass resumes."""

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
    """Results of a pass so far; immutable, so that the pass can be stopped at any time.

    Parameters
    ----------
    n_batches : int
        Number of batches done.
    layout : str or None
        Layout in which the module read them.
    moments : dict of HiddenStateMoments
        Moments by the name of the layer.
    witnesses : Witnesses
        Witnesses among the batches.
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
        """Return the results merged with those of further batches, without changing either."""
        joint = dict(self.moments)
        for name, each in moments.items():
            fresh = HiddenStateMoments(each.n_nodes).merge(each)
            joint[name] = fresh.merge(joint[name]) if name in joint else fresh
        joined = self.witnesses.followed_by(witnesses, self.n_batches)
        return PassCheckpoint(self.n_batches + n_batches, layout, joint, joined)

    def try_save(self, path: Path) -> None:
        """Save the checkpoint; ignore errors, such as a full disk, so that the pass continues."""
        with suppress(OSError, SafetensorError):
            self.save(path)

    def save(self, path: Path) -> None:
        """Save the checkpoint, replacing an earlier one."""
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
        """Return the saved checkpoint, or an empty one if none can be read."""
        with suppress(FileNotFoundError, ValueError, SafetensorError):
            return cls.load(path)
        return cls()

    @classmethod
    def load(cls, path: Path) -> PassCheckpoint:
        """Load a saved checkpoint."""
        head, tensors = read_header(path, FORMAT, VERSION, "a stopped fit"), load_file(path)
        moments = {
            name: HiddenStateMoments.from_sums(
                n_steps, tensors[f"{name}/sum"], tensors[f"{name}/products"]
            )
            for name, n_steps in head["n_steps"].items()
        }
        witnesses = Witnesses.from_json(head["witnesses"])
        return cls(head["n_batches"], head["layout"], moments, witnesses)
