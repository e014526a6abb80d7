"""MNIST and the Penn Treebank text, from the folder that ``SKSPECTRAL_DATA`` names."""

import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np


def folder(name):
    """Where the files of a data set lie."""
    root = os.environ.get("SKSPECTRAL_DATA")
    if root is None:
        raise RuntimeError("set SKSPECTRAL_DATA: benchmarks/README.md says what belongs there")
    return Path(root) / name


@cache
def mnist():
    """Images (n, 28, 28) of uint8 and labels to train on, and those to test on."""

    def read(name, head):
        with gzip.open(folder("mnist") / f"{name}.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=head)

    found = []
    for part in ("train", "t10k"):
        labels = read(f"{part}-labels-idx1-ubyte", 8)
        images = read(f"{part}-images-idx3-ubyte", 16)
        found += [images.reshape(len(labels), 28, 28), labels]
    return tuple(found)


@cache
def words():
    """Word numbers of the train, valid and test text; each line ends with a word of its own."""
    numbers = {}
    return {
        part: np.array(
            [
                numbers.setdefault(word, len(numbers))
                for line in (folder("ptb") / f"ptb.{part}.txt").read_text().splitlines()
                for word in (*line.split(), "<eos>")
            ]
        )
        for part in ("train", "valid", "test")
    }
