"""The pictures of "Scaling out", from what ``benchmarks/curves.py`` has measured."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skspectral.inspection.display import BLUE, GRAY, VERMILION

FILE = Path(__file__).parents[2] / "benchmarks" / "results" / "curves.json"
NAMES = {
    "n_sequences": "sequences of 28 steps",
    "n_steps": "steps of 16 sequences",
    "n_nodes": "nodes",
    "n_levels": "levels of 64 nodes",
}


def rows(growing):
    """Sizes, seconds and megabytes of the fits in which one size grows."""
    found = [row for row in json.loads(FILE.read_text())["rows"] if row["growing"] == growing]
    return np.array([(row[growing], row["seconds"], row["MB"]) for row in found]).T


def curves():
    """Seconds and memory as sequences, steps, nodes and levels grow."""
    _, axes = plt.subplots(2, 4, figsize=(10, 5), sharex="col", sharey="row", layout="constrained")
    for (growing, name), (top, bottom) in zip(NAMES.items(), axes.T, strict=True):
        sizes, seconds, megabytes = rows(growing)
        top.loglog(sizes, seconds, "o-", color=BLUE)
        bottom.loglog(sizes, megabytes, "s-", color=VERMILION)
        bottom.set_xlabel(name)
    axes[0, 0].set_ylabel("seconds of a fit")
    axes[1, 0].set_ylabel("MB beyond the network")


def extrapolation():
    """Core-hours up to a billion sequences, from the slope of the longest measured fits."""
    sizes, seconds, _ = rows("n_sequences")
    slope = (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2])
    further = np.logspace(np.log10(sizes[-1]), 9, 4)
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.loglog(sizes, seconds / 3600, "o-", color=BLUE, label="measured, one core")
    for n_cores, style in ((1, "--"), (32, "-."), (1024, ":")):
        hours = (seconds[-1] + slope * (further - sizes[-1])) / 3600 / n_cores
        ax.loglog(further, hours, style, color=GRAY, label=f"extrapolated, cores: {n_cores}")
    ax.set(xlabel="sequences of 28 steps, GRU(64)", ylabel="hours of a fit")
    ax.legend()
