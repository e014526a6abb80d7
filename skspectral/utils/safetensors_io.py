"""Files in the safetensors format with a description in JSON, written in full or not at all."""

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
    """Where to write a file that takes its place only once all of it is there."""
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
    """What a file says of itself."""
    return {KEY: json.dumps({"format": kind, "version": version, **description})}


def read_header(path: str | PathLike[str], kind: str, version: int, writer: str) -> dict[str, Any]:
    """What a file says of itself.

    Raises
    ------
    ValueError
        If it is not of that kind and version.
    FileNotFoundError
        If there is none.
    """
    head: Any = None
    try:
        with safe_open(str(path), framework="np") as file:
            head = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, ValueError, RecursionError):  # of the text, or nested without end
        pass
    found = head if isinstance(head, dict) else {}
    if found.get("format") != kind or found.get("version") != version:
        raise ValueError(
            f"path={str(path)!r} holds no {kind.removeprefix('skspectral ')} of version {version}; "
            f"give a file that {writer} wrote."
        )
    return found
