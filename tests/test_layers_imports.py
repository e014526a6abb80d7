"""Who may import whom."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skspectral

ROOT = Path(skspectral.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

# What each folder may import of the package: itself, and what stands in its own line.
ALLOWED = {
    "utils": set(),
    "theory": set(),
    "selection": {"utils"},
    "solvers": {"utils", "theory", "selection"},
    "rnn": {"utils"},
    "export": {"utils", "rnn"},
    "data": {"utils", "rnn"},
    "calibration": {"utils", "selection", "solvers", "rnn", "data"},
    "training": {"utils", "rnn", "data", "calibration"},
    "pruners": {
        *("utils", "theory", "selection", "solvers", "rnn", "data", "calibration", "training")
    },
    "inspection": {"utils", "theory", "rnn", "data", "calibration", "pruners"},
}
NUMERIC = ("theory", "selection", "solvers")


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


def imported_by(folder):
    """Absolute names of all that the modules of a folder import."""
    return {each for name in MODULES if name.startswith(f"{folder}/") for each in imports(name)}


def parts_of(names, level):
    """The part at a level of the names that are of the package."""
    split = [name.split(".") for name in names]
    return {each[level] for each in split if each[0] == "skspectral" and len(each) > level}


def test_every_module_is_in_a_folder_of_the_plan():
    assert {name.partition("/")[0] for name in MODULES} == {*ALLOWED, "__init__.py"}


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_what_it_may(folder):
    assert parts_of(imported_by(folder), 1) <= ALLOWED[folder] | {folder, "__version__"}


def test_folders_import_in_one_direction():
    assert list(TopologicalSorter(ALLOWED).static_order())[-1] == "inspection"
    inside = [path.name for path in (ROOT / "rnn").iterdir() if path.suffix != ".pyc"]
    parts = {Path(name).stem for name in inside if not name.startswith("__")}
    graph = {}
    for part in parts:
        found = imported_by(f"rnn/{part}") or imports(f"rnn/{part}.py")
        graph[part] = parts_of([name for name in found if ".rnn." in name], 2) - {part}
    assert set(TopologicalSorter(graph).static_order()) == parts


@pytest.mark.parametrize("folder", [*NUMERIC, "inspection"])
def test_the_numeric_parts_and_the_displays_know_no_torch(folder):
    libraries = {name.partition(".")[0] for name in imported_by(folder)}
    known = {"matplotlib", "numpy", "scipy", "sklearn", "skspectral"}
    allowed = known | {"torch"} if folder == "inspection" else known - {"matplotlib"}
    assert libraries - set(sys.stdlib_module_names) <= allowed


def test_surgery_needs_torch_and_safetensors_alone():
    libraries = {name.partition(".")[0] for name in imported_by("rnn")}
    assert libraries - set(sys.stdlib_module_names) == {"torch", "safetensors", "skspectral"}


def test_modules_that_exported_files_hold_need_torch_alone():
    found = imported_by("rnn/runtime")
    assert parts_of(found, 2) == {"runtime"}
    libraries = {name.partition(".")[0] for name in found}
    assert libraries - set(sys.stdlib_module_names) == {"torch", "skspectral"}


def test_drawing_and_tables_are_loaded_when_used_alone():
    for name in MODULES:
        tree = ast.parse((ROOT / name).read_text())
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        found = imports(name, "\n".join(map(ast.unparse, top)) or "pass")
        libraries = {each.partition(".")[0] for each in found}
        assert not libraries & {"matplotlib", "pandas", "polars"}, name


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.py", "import torch.nn as nn", {"torch.nn"}),
        ("a.py", "from .rnn.states import X", {"skspectral.rnn.states.X"}),
        ("rnn/b.py", "from . import layers", {"skspectral.rnn.layers"}),
        ("rnn/b.py", "from ..moments import H", {"skspectral.moments.H"}),
        ("rnn/b.py", "def f():\n    import numpy", {"numpy"}),
    ],
)
def test_imports_are_read_as_python_reads_them(name, text, expected):
    assert imports(name, text) == expected
