"""Goals beside what was measured, met or missed; saved in ``results/goals.json``."""

import platform
import statistics
import time
from contextlib import contextmanager

import joblib
import numpy as np
import scipy
import sklearn
import torch
from results import Results
from threadpoolctl import threadpool_limits

import skspectral

PACKAGES = (np, scipy, sklearn, joblib, torch, skspectral)


def seconds(function, repeats=3):
    """Median wall-clock time."""
    return medians(function, repeats=repeats)[0]


def medians(*functions, repeats=3, limit=float("inf")):
    """Median wall-clock times of functions that take turns, for at most so many seconds."""
    times = [[] for _ in functions]
    stop = time.perf_counter() + limit
    while len(times[0]) < repeats and time.perf_counter() < stop:
        for function, each in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            each.append(time.perf_counter() - start)
    return [statistics.median(each) for each in times]


def row(part, what, size, measured, goal, of, *, at_least=False, **beside):
    """Save and print what was measured; a row that is there is replaced."""
    threads = torch.get_num_threads()
    key = {"part": part, "what": what, "size": size, "of": of, "threads": threads}
    met = measured >= goal if at_least else measured <= goal
    sign = "≥" if at_least else "≤"
    results = Results("goals", ["part", "what", "size", "of"], packages=PACKAGES)
    results.add(key, {"measured": measured, "sign": sign, "goal": goal, "met": met, **beside})
    verdict = "met" if met else "MISSED"
    of += "".join(f", {name} {value:.2f}" for name, value in beside.items())
    print(f"{what:34} {size:12} {measured:8.3f} {sign} {goal:<6g} {verdict:6}  {of}", flush=True)


@contextmanager
def begin(threads):
    """Print what the table is made with, and keep to the threads."""
    torch.set_num_threads(threads)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in PACKAGES)
    print(f"{threads} thread(s), {platform.machine()}, Python {platform.python_version()}")
    print(versions)
    print(f"{'what':34} {'size':12} {'ratio':>8}    {'goal':6} {'':6}  of")
    with threadpool_limits(threads):
        yield
