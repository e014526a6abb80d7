"""Files in the safetensors format with a header in JSON, written completely or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

KEY = "skspectral"


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[str]:
    """Yield a temporary path; the file written there replaces ``path`` once it is complete."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        yield name
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(0o666 & ~mask)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def header(kind: str, version: int, **description: Any) -> dict[str, str]:
    """Return the metadata of a file: format, version and further values, as JSON."""
    return {KEY: json.dumps({"format": kind, "version": version, **description})}


def read_header(path: str | PathLike[str], kind: str, version: int, writer: str) -> dict[str, Any]:
    """Read the header of a file.

    Raises
    ------
    ValueError
        If the file is not of the given kind and version.
    FileNotFoundError
        If there is no file.
    """
    head: Any = None
    try:
        with safe_open(str(path), framework="np") as file:
            head = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, ValueError, RecursionError):  # invalid or too deeply nested JSON
        pass
    found = head if isinstance(head, dict) else {}
    if found.get("format") != kind or found.get("version") != version:
        raise ValueError(
            f"path={str(path)!r} holds no {kind.removeprefix('skspectral ')} of version {version}; "
            f"give a file that {writer} wrote."
        )
    return found
