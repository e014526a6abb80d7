"""Every public name is documented, and every example in a docstring runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from numpydoc.validate import validate

import skspectral
from skspectral import inspection, solvers, theory

MODULES = [
    module.name for module in pkgutil.walk_packages(skspectral.__path__, prefix="skspectral.")
]
PACKAGES = (skspectral, inspection, solvers, theory)
PUBLIC = [
    f"{package.__name__}.{name}"
    for package in PACKAGES
    for name in package.__all__
    if callable(getattr(package, name))
]
METHODS = [
    f"{name}.{method}"
    for name in PUBLIC
    if inspect.isclass(
        cls := getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    )
    for method, member in vars(cls).items()
    if inspect.isfunction(member) and not method.startswith("_")
]
# What the checks of numpydoc ask for beyond shapes, units, errors and sources.
NOT_ASKED = {
    "EX01",  # example: asked for below, of names but not of methods
    "SA01",  # "See Also" sections
    "ES01",  # extended summaries
    "GL08",  # docstrings of private members
    "RT02",  # names of returned values
    "RT03",  # descriptions of "Itself"
}


def findings(name):
    return [(code, text) for code, text in validate(name)["errors"] if code not in NOT_ASKED]


@pytest.mark.parametrize("folder", [name for name in MODULES if name.count(".") == 1])
def test_examples_run(folder):
    if folder == "skspectral.export":
        pytest.importorskip("onnxruntime")
    failed = []
    for name in MODULES:
        if f"{name}.".startswith(f"{folder}."):
            result = doctest.testmod(
                importlib.import_module(name),
                optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
            )
            failed += [name] * (result.failed > 0)
    assert failed == []


def test_public_names_have_an_example():
    assert [name for name in PUBLIC if ">>>" not in validate(name)["docstring"]] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_docstrings_are_complete(package):
    public = [f"{package.__name__}.{name}" for name in package.__all__]
    names = [name for name in PUBLIC if name in public]
    names += [name for name in METHODS if name.rpartition(".")[0] in public]
    assert {name: found for name in names if (found := findings(name))} == {}
