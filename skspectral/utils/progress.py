"""Progress bars of phases that have no steps to count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


@contextmanager
def phase(what: str, verbose: int) -> Iterator[None]:
    """Show a progress bar of one phase, with its duration."""
    form = "{l_bar}{bar}| {elapsed}"
    with tqdm(total=1, desc=what, bar_format=form, disable=not verbose) as bar:
        yield
        bar.update()
