"""Errors with a note that names the page of the user guide that explains them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refer_to_docs(page: str) -> Iterator[None]:
    """Add a note with a page of the user guide to TypeError and ValueError, unless there is a note.

    Parameters
    ----------
    page : str
        Title of the page.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not hasattr(error, "__notes__"):
            error.add_note(f"See the page {page!r} of the user guide.")
        raise
