"""Errors that name the page of the user guide which explains them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refer_to_docs(page: str) -> Iterator[None]:
    """Note on errors in parameters and input where to read about them; the first note stays.

    Parameters
    ----------
    page : str
        Title of the page.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not hasattr(error, "__notes__"):
            error.add_note(f"The page {page!r} of the user guide tells more.")
        raise
