"""Who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

import skspectral

ROOT = Path(skspectral.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
NUMERIC = [
    name
    for name in MODULES
    if name.startswith(("solvers/", "theory/")) or name in ("objective.py", "reconstruction.py")
]
PICTURES = [name for name in MODULES if name.startswith("inspection/")]
TORCH = [name for name in MODULES if name.startswith("rnn/")]


def imports(name, text=None):
    """Absolute names of all that a module imports, wherever in it."""
    package = ["skspectral", *Path(name).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(text or (ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def within(imported, *packages):
    """Those that are one of the packages, or inside one."""
    return {name for name in imported if f"{name}.".startswith(tuple(f"{p}." for p in packages))}


def test_the_parts_are_there():
    assert {
        "solvers/base.py",
        "objective.py",
        "reconstruction.py",
        "theory/guarantee.py",
    } <= set(NUMERIC)
    assert {"rnn/layers.py", "rnn/states.py", "rnn/readers.py", "rnn/surgery.py"} <= set(TORCH)


@pytest.mark.parametrize("name", NUMERIC)
def test_selection_knows_no_torch(name):
    assert not within(imports(name), "torch", "skorch", "skspectral.rnn")


@pytest.mark.parametrize("name", NUMERIC)
def test_selection_builds_on_selection_alone(name):
    own = within(imports(name), "skspectral")
    allowed = [f"skspectral.{path.removesuffix('.py').replace('/', '.')}" for path in NUMERIC]
    assert own == within(own, "skspectral.solvers", "skspectral.theory", *allowed)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_of_what_is_fitted(name):
    assert not within(imports(name), "torch", "skorch", "skspectral.rnn")


@pytest.mark.parametrize("name", TORCH)
def test_surgery_knows_torch_and_the_standard_library_alone(name):
    imported = imports(name)
    outside = imported - within(imported, "skspectral")
    assert {each.partition(".")[0] for each in outside} <= {"torch", *sys.stdlib_module_names}
    assert within(imported, "skspectral") == within(imported, "skspectral.rnn")


@pytest.mark.parametrize("name", MODULES)
def test_drawing_and_tables_are_loaded_when_used_alone(name):
    tree = ast.parse((ROOT / name).read_text())
    top = "\n".join(
        ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))
    )
    assert not within(imports(name, top or "pass"), "matplotlib", "pandas", "polars")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pruner.py", "import torch.nn as nn", {"torch.nn"}),
        ("pruner.py", "from .rnn.states import X", {"skspectral.rnn.states.X"}),
        ("rnn/states.py", "from . import layers", {"skspectral.rnn.layers"}),
        ("rnn/states.py", "from ..covariance import H", {"skspectral.covariance.H"}),
        ("rnn/states.py", "def f():\n    import numpy", {"numpy"}),
    ],
)
def test_imports_are_read_as_python_reads_them(name, text, expected):
    assert imports(name, text) == expected
