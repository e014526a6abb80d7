"""Number of threads for work on small networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Networks with fewer weights gain less than half from a second thread if the machine is idle, and
# are half as fast if it is not, since every small product waits for the slower thread.
FEW_WEIGHTS = 2**18


@contextmanager
def enough_threads(n_weights: int) -> Iterator[None]:
    """Set torch to one thread for work on few weights; afterwards, restore the number."""
    n_threads = torch.get_num_threads()
    if n_weights < FEW_WEIGHTS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
