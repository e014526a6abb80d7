"""The link to the documentation in the diagram of an estimator."""

from email.message import Message
from importlib import metadata

import pytest

from skspectral import (
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
)

ESTIMATORS = [
    SpectralRNNPruner,
    SpectralRNNPrunerCV,
    NeuronSelectionPruner,
    RNNClassifier,
    RNNRegressor,
]


def with_urls(monkeypatch, urls):
    """The project has these URLs."""
    message = Message()
    for label, url in urls.items():
        message["Project-URL"] = f"{label}, {url}"
    monkeypatch.setattr(metadata, "metadata", lambda name: message)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("end", ["", "/"])
def test_the_diagram_links_to_the_page_of_the_estimator(kind, end, monkeypatch):
    urls = {"Source": "https://source.test", "Documentation": f"https://docs.test/stable{end}"}
    with_urls(monkeypatch, urls)
    page = f"https://docs.test/stable/generated/skspectral.{kind.__name__}.html"
    assert kind()._get_doc_link() == page
    assert f'href="{page}"' in kind()._repr_html_()


@pytest.mark.parametrize("urls", [{}, {"Source": "https://source.test"}])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_without_an_address_there_is_no_link(kind, urls, monkeypatch):
    with_urls(monkeypatch, urls)
    assert kind()._get_doc_link() == ""
    assert f"Documentation for {kind.__name__}" not in kind()._repr_html_()


def test_a_package_that_is_not_installed_has_no_address(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert SpectralRNNPruner()._get_doc_link() == ""


def test_a_class_of_another_package_has_no_link(monkeypatch):
    class Mine(SpectralRNNPruner):
        pass

    with_urls(monkeypatch, {"Documentation": "https://docs.test"})
    assert Mine()._get_doc_link() == ""
