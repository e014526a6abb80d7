"""The trained networks that the benchmarks prune; trained once, then read from a cache."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skspectral import RNNClassifier

DATA = os.environ.get("SKSPECTRAL_DATA")
memory = joblib.Memory(Path.home() / ".cache" / "skspectral", verbose=0)


@dataclass
class Task:
    """A trained network, sequences to calibrate on, others to test on, and a measure."""

    name: str
    module: nn.Module
    X: Any
    X_test: Any
    likelihood: str
    labels: np.ndarray | None = None
    labels_train: np.ndarray | None = None

    def accuracy(self, module):
        """Part of the test sequences that a module gives the right class."""
        with torch.inference_mode():
            answers = (
                [module(torch.as_tensor(x)[None]).argmax(-1) for x in self.X_test]
                if isinstance(self.X_test, list)
                else [module(torch.as_tensor(self.X_test)).argmax(-1)]
            )
        return float(np.mean(torch.cat(answers).numpy() == self.labels))


def digits(n_steps):
    """The 8 × 8 digits of scikit-learn in 64 steps of a pixel or 8 steps of a row."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(len(X), n_steps, -1)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    return X, y, X_test, y_test


def vowels():
    """JapaneseVowels: 12 channels, 7 to 29 steps, nine speakers."""
    stored = np.load(Path(DATA) / "small_sequences" / "JapaneseVowels.npz")
    parts = []
    for part in ("train", "test"):
        ends = np.cumsum(stored[f"len_{part}"])[:-1]
        parts += [np.split(stored[f"x_{part}"], ends), stored[f"y_{part}"]]
    return tuple(parts)


@memory.cache
def trained(X, y, cell, seed, **options):
    """A network of 128 nodes."""
    return RNNClassifier(128, cell, random_state=seed, **options).fit(X, y)


def task(name, data, cell, seed, **options):
    """Train a network on data, or read it from the cache."""
    X, y, X_test, y_test = data
    network = trained(X, y, cell, seed, **options)
    labels_train, labels = (np.searchsorted(network.classes_, each) for each in (y, y_test))
    return Task(
        f"{name} {cell} {seed}", network.module_, X, X_test, "categorical", labels, labels_train
    )


def pixel_task(cell, seed):
    """Digits read pixel by pixel."""
    epochs, lr = {"gru": 40, "lstm": 80, "irnn": 160}[cell], 3e-4 if cell == "irnn" else 5e-3
    return task("pixels", digits(64), cell, seed, max_epochs=epochs, lr=lr)


def row_task(cell, seed):
    """Digits read row by row."""
    lr = 1e-3 if cell == "irnn" else 5e-3
    return task("rows", digits(8), cell, seed, max_epochs=30, lr=lr)


def vowel_task(seed):
    """Speakers of Japanese vowels."""
    return task("vowels", vowels(), "gru", seed, max_epochs=30, lr=2e-3)


def is_batches(X):
    """Whether X holds batches for ``forward`` rather than sequences."""
    return isinstance(X, list) and isinstance(X[0], tuple)


def loader_of(name):
    """The module that loads a network of others, with calibration batches and a measure."""
    spec = importlib.util.spec_from_file_location(name, Path(DATA) / name / "loader.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader


def silero_task():
    """Voice activity detection; streams of other speakers to test on."""
    loader = loader_of("silero_vad")
    test = loader._audio("eval.npz")[0].split(10)
    return Task(
        "silero_vad",
        loader.load_model(),
        loader.calibration_inputs(batch=5),
        [(batch,) for batch in test],
        "bernoulli",
    )


def ptb_task():
    """A word language model; the validation text to test on."""
    loader = loader_of("ptb_lstm")
    text = loader.corpus("valid")[:10000].view(20, 5, 100)
    return Task(
        "ptb_lstm",
        loader.load_model(),
        loader.calibration_inputs(batch=5, tokens=20000),
        [(batch,) for batch in text],
        "categorical",
    )
