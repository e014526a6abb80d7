"""Link to the documentation in the diagram that scikit-learn shows of an estimator."""

from __future__ import annotations

from importlib import metadata

PACKAGE = "skspectral"


class DocLinkMixin:
    """Mixin of estimators whose diagram links to their page, if the project has an address.

    The properties are those that scikit-learn has for estimators of other packages.
    """

    @property
    def _doc_link_module(self) -> str:
        """The package that the link is for; empty for no link."""
        return PACKAGE if documentation_url() else ""

    @property
    def _doc_link_template(self) -> str:
        return f"{documentation_url()}/generated/{PACKAGE}.{{name}}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"name": type(self).__name__}


def documentation_url() -> str:
    """Return the address of the documentation among the project URLs; empty if there is none."""
    try:
        urls = metadata.metadata(PACKAGE).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    found = dict(url.split(", ", maxsplit=1) for url in urls)
    return found.get("Documentation", "").rstrip("/")
