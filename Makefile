# Everything runs in .venv, made here on first use. See `make help`.

PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest

# Each pinned set serves both as install and as build constraints.
PINS := pyproject.toml constraints.txt
OLDEST_PINS := pyproject.toml constraints-oldest.txt
install = $(1)/bin/python -m pip install --quiet --disable-pip-version-check -c $(2) --build-constraint $(2)

# Two test workers, one thread each.
pytest = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n 2

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-oldest lint docs docs-fast serve review dist bench clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo  ## Run the example examples/digits_ratios.py
	@echo "==> Running examples/digits_ratios.py"
	@$(VENV)/bin/python examples/digits_ratios.py

test: $(VENV)/.test  ## Run the tests
	@echo "==> Running the tests"
	@SCIPY_ARRAY_API=1 $(call pytest,$(VENV))

test-oldest: $(OLDEST)/.test  ## Run the tests on the oldest supported dependencies
	@echo "==> Running the tests on the oldest supported dependencies"
	@$(call pytest,$(OLDEST))

lint: $(VENV)/.lint  ## Check style, types, spelling and metadata
	@echo "==> Checking style, types, spelling and metadata"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy skspectral
	@$(VENV)/bin/mypy --strict tests/typed_script.py
	@$(VENV)/bin/codespell
	@$(VENV)/bin/validate-pyproject pyproject.toml

docs: $(VENV)/.docs  ## Build the documentation into docs/_build/html
	@echo "==> Building the documentation"
	@OMP_NUM_THREADS=1 $(VENV)/bin/sphinx-build -j 2 -W --keep-going -b html docs docs/_build/html
	@echo "==> Checking that no page loads anything from another host"
	@! grep -rlE '<(script|link|img|iframe)[^>]* (src|href)="(https?:)?//' --include='*.html' docs/_build/html
	@echo "==> Running the examples in the documentation"
	@OMP_NUM_THREADS=1 $(VENV)/bin/sphinx-build -W --keep-going -q -b doctest -d docs/_build/html/.doctrees docs docs/_build/doctest

docs-fast: $(VENV)/.docs  ## Build the documentation without running the gallery
	@echo "==> Building the documentation, without the gallery's output"
	@OMP_NUM_THREADS=1 $(VENV)/bin/sphinx-build -j 2 -W --keep-going -D plot_gallery=0 -b html docs docs/_build/html

serve: $(VENV)/.docs  ## Serve the documentation that was built, at http://localhost:8000
	@$(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory docs/_build/html 8000

review: $(VENV)/.lint  ## Check the repository against the Scientific Python guide
	@echo "==> Reviewing the repository"
	@$(VENV)/bin/repo-review .

dist: $(VENV)/.dist  ## Build the archives, check them, and run the quick start on the installed wheel
	@echo "==> Building the archives"
	@rm -rf dist
	@$(VENV)/bin/python -m build --outdir dist
	@$(VENV)/bin/twine check --strict dist/*
	@echo "==> Installing the wheel into a fresh environment and running the quick start"
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(PYTHON) -m venv $$fresh/venv && \
	$$fresh/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl && \
	cp docs/quickstart_*.rst $$fresh && cd $$fresh && \
	venv/bin/python -W error -m doctest -o NORMALIZE_WHITESPACE quickstart_sklearn.rst quickstart_torch.rst && \
	echo "The quick start runs."

bench: $(VENV)/.test  ## Measure every goal of speed and memory (half an hour, nothing else running)
	@echo "==> Measuring every goal of speed and memory"
	@$(VENV)/bin/python benchmarks/bench.py

clean:  ## Remove what the targets have built, except the environments
	rm -rf build dist docs/_build docs/auto_examples docs/generated
	rm -rf .coverage* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache

# Environments: one stamp file for each installed set.

$(VENV)/.demo: $(PINS) $(VENV)/.pip
	@echo "==> Installing skspectral into $(VENV) (some minutes the first time)"
	@$(call install,$(VENV),constraints.txt) -e '.[plot]'
	@touch $@

$(VENV)/.test: with := [dask,onnx]
$(VENV)/.test: extra := --group stores
$(VENV)/.docs: with := [onnx,plot]

$(VENV)/.test $(VENV)/.lint $(VENV)/.docs $(VENV)/.dist: $(VENV)/.%: $(PINS) $(VENV)/.pip
	@echo "==> Installing skspectral and its $* tools into $(VENV) (some minutes the first time)"
	@$(call install,$(VENV),constraints.txt) -e '.$(with)' --group $* $(extra)
	@touch $@

$(OLDEST)/.test: $(OLDEST_PINS) $(OLDEST)/.pip
	@$(OLDEST)/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || \
	{ echo "the oldest dependencies need Python 3.11 or 3.12: remove $(OLDEST) and name one, as in 'make test-oldest PYTHON=python3.11'" >&2; exit 1; }
	@echo "==> Installing the oldest supported dependencies into $(OLDEST) (some minutes the first time)"
	@$(call install,$(OLDEST),constraints-oldest.txt) -e '.[dask]' --group test
	@touch $@

$(VENV)/.pip: constraints.txt
$(OLDEST)/.pip: constraints-oldest.txt

%/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "skspectral needs Python 3.11 or newer: name one, as in 'make PYTHON=python3.11'" >&2; exit 1; }
	@echo "==> Preparing $*"
	@test -x $*/bin/python || $(PYTHON) -m venv $*
	@$*/bin/python -m pip install --quiet --disable-pip-version-check -c $< pip
	@touch $@
