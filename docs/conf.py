"""Sphinx configuration."""

import os
import sys
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

import skspectral

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from tables import write_tables  # noqa: E402  it lies beside the documentation

write_tables(HERE / "generated" / "results")

project = "skspectral"
author = "skspectral developers"
copyright = "2026, skspectral developers"  # noqa: A001  Sphinx calls it so
version = release = skspectral.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_static", "auto_examples/**/GALLERY_HEADER.rst"]

nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = "skspectral"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_logo = html_favicon = "_static/logo.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the system is
html_theme_options = {
    "logo": {"text": "skspectral"},
    "header_links_before_dropdown": 8,  # all of them
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
# Pages that stand alone in their section have nothing to show beside them.
html_sidebars = {"api": []}

# Prompts are not copied, and what a program has printed offers no copy.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.sphx-glr-script-out):not(.highlight-text) > div.highlight > pre"

# MathJax and its fonts are served from here; the menu and speech would need further files.
mathjax_path = "mathjax/tex-chtml.js"
mathjax4_config = {
    "loader": {"paths": {"fonts": "[mathjax]/fonts"}, "load": ["a11y/assistive-mml"]},
    "options": {
        "enableMenu": False,
        "menuOptions": {
            "settings": {"enrich": False, "speech": False, "braille": False, "assistiveMml": True}
        },
    },
}

autodoc_typehints = "none"  # the docstrings give the types
autosummary_generate = True
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"
doctest_global_setup = "import warnings; warnings.simplefilter('error')"
myst_heading_anchors = 2

plot_formats = [("png", 130)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.figsize": (6.4, 4.0)}
plot_apply_rcparams = True
# The scripts of the pictures find their data from where they lie.
plot_pre_code = """
import sys
import numpy as np
from matplotlib import pyplot as plt
__file__ = sys.argv[0]
"""

# The sections of the gallery and what is in them, the simplest first.
GALLERY = {
    "start": ["prune_gru", "pipeline"],
    "choose": ["choose_m", "kept_nodes", "solvers"],
    "repair": ["repair", "distill_finetune", "neuron_selection"],
    "data": ["unequal_lengths", "streaming", "forecaster", "language_model"],
    "deploy": ["deploy"],
    "extend": ["skorch", "own_solver"],
}
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_",
    "subsection_order": [f"../examples/{section}" for section in GALLERY],
    "within_subsection_order": ExplicitOrder(
        [f"plot_{name}.py" for names in GALLERY.values() for name in names] + ["*"]
    ),
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skspectral",),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "parallel": 2,
}

# Links to other projects need the network, so they are opt-in.
if os.environ.get("SKSPECTRAL_DOCS_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "numpy": ("https://numpy.org/doc/stable", None),
        "python": ("https://docs.python.org/3", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out what a class inherits from another project."""
    function = getattr(obj, "fget", obj)
    module = getattr(function, "__module__", None) or "skspectral"
    return skip or not module.startswith("skspectral")


def setup(app):
    """Connect the hooks."""
    app.connect("autodoc-skip-member", skip_foreign)
