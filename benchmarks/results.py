"""Results of a protocol in a file: what is there is not measured again."""

import datetime as dt
import json
import platform
from pathlib import Path

import numpy as np
import torch

import skspectral

FOLDER = Path(__file__).parent / "results"
PACKAGES = (np, torch, skspectral)


class Results:
    """Rows of a protocol, saved after each.

    Parameters
    ----------
    name : str
        Of the file.
    index : list of str
        What a row of the table is of; rows that differ in nothing but the seed are averaged.
    across : str or None
        A key of the rows whose values are columns of the table.
    packages : tuple of modules
        Those whose versions tell what was measured.
    """

    def __init__(self, name, index, across=None, packages=PACKAGES):
        self.path, self.index, self.packages = FOLDER / f"{name}.json", index, packages
        self.across = across
        content = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.machines, self.rows = content.get("machines", []), content.get("rows", [])

    def find(self, **key):
        """A row that is there, or None."""
        return next((row for row in self.rows if row.items() >= key.items()), None)

    def row(self, measure, **key):
        """A row that is there, or else what ``measure`` gives, a dict of numbers."""
        return self.find(**key) or self.add(key, measure())

    def add(self, key, measured):
        """Another row, in place of one that is there."""
        self.rows = [row for row in self.rows if not row.items() >= key.items()]
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        of_run = {"date": today, "threads": torch.get_num_threads(), "machine": self.here()}
        self.rows.append(key | measured | of_run)
        self.save()
        return self.rows[-1]

    def order(self, keys):
        """Put some rows last, in this order."""
        places = {tuple(key.items()): place for place, key in enumerate(keys)}
        self.rows.sort(
            key=lambda row: places.get(tuple((name, row.get(name)) for name in keys[0]), -1)
        )

    def here(self):
        """Number of this machine, with these versions."""
        machine = described_machine(self.packages)
        if machine not in self.machines:
            self.machines.append(machine)
        return self.machines.index(machine)

    def save(self):
        """Write the file."""
        FOLDER.mkdir(exist_ok=True)
        content = {"machines": self.machines, "index": self.index, "rows": self.rows}
        if self.across:
            content["across"] = self.across
        self.path.write_text(json.dumps(content, indent=1) + "\n")


def described_machine(packages):
    """What computes, and the versions of what is measured."""
    versions = {package.__name__: package.__version__ for package in packages}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"python": platform.python_version(), "cpu": processor(), "gpu": gpu, **versions}


def processor():
    """What the machine calls its CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
