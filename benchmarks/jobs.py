"""Rows of a table side by side; and how fast every network is, when nothing runs beside."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm


@dataclass
class Job:
    """A row to come.

    Parameters
    ----------
    key : dict
        What it is of.
    make : callable
        Gives a network.
    measure : callable
        Gives the numbers of a network.
    """

    key: dict[str, Any]
    make: Callable[[], nn.Module]
    measure: Callable[[nn.Module], dict[str, Any]]

    def run(self, n_threads):
        """The job, its network, and the row."""
        torch.set_num_threads(n_threads)
        start = time.perf_counter()
        module = self.make()
        row = {"made in (s)": time.perf_counter() - start} | self.measure(module)
        return self.key, module, row


def collect(results, jobs, example, n_jobs):
    """Run the jobs whose rows are not there, then time the networks."""
    time_each_size(results, jobs, run_missing(results, jobs, n_jobs), example)


def run_missing(results, jobs, n_jobs):
    """Run the jobs whose rows are not there; return the networks that they made, by key."""
    n_threads, made = torch.get_num_threads(), {}
    todo = [job for job in jobs if results.find(**job.key) is None]
    side_by_side = Parallel(n_jobs, return_as="generator_unordered")
    done = side_by_side(delayed(job.run)(n_threads) for job in todo)
    for key, module, row in tqdm(done, total=len(todo)):
        results.add(key, row)
        made[tuple(key.values())] = module
    return made


def time_each_size(results, jobs, made, example):
    """Time a network of every size that has no time yet; others of this size take as long."""
    rows = [results.find(**job.key) for job in jobs]
    known = {size_of(row): (row["ms"], row["timed on"]) for row in results.rows if "ms" in row}
    for job, row in zip(jobs, rows, strict=True):
        if size_of(row) not in known:
            module = made.get(tuple(job.key.values())) or job.make()
            known[size_of(row)] = n_milliseconds(module, *example), results.here()
        row["ms"], row["timed on"] = known[size_of(row)]
    results.order([job.key for job in jobs])
    results.save()


def size_of(row):
    """What tells networks of a table apart that do not take the same time."""
    return row["parameters"], row["kB"]


@torch.inference_mode()
def n_milliseconds(module, *batch, repeats=101):
    """Median time of a forward pass."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        module(*batch)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)
