"""Versions of skspectral and its dependencies, for bug reports."""

from __future__ import annotations

import platform
import re
from importlib import metadata

import torch


def show_versions() -> None:
    """Print the versions of Python, skspectral and its dependencies, and the torch setup.

    Examples
    --------
    >>> from skspectral import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    python: 3...
    skspectral: ...
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    needed = (re.match(r"[\w.-]+", each) for each in metadata.requires("skspectral") or [])
    names = ["skspectral", *sorted({name.group() for name in needed if name})]
    found |= {name: version for name in names if (version := version_of(name))}
    found["torch"] = torch.__version__  # names the build, which the metadata may not
    found["threads of torch"] = str(torch.get_num_threads())
    found["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print("\n".join(f"{name}: {version}" for name, version in found.items()))


def version_of(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
