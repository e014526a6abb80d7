"""Progress bars of what has no steps to count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


@contextmanager
def phase(what: str, verbose: int) -> Iterator[None]:
    """Show that something is under way, and how long it took."""
    form = "{l_bar}{bar}| {elapsed}"
    with tqdm(total=1, desc=what, bar_format=form, disable=not verbose) as bar:
        yield
        bar.update()
