# Needs make and Python 3.11 or later; everything else goes into $(VENV).
# `make help` lists the targets. Another interpreter: make venv PYTHON=python3.13

PYTHON ?= python3
VENV ?= .venv
# At most four test processes: each compiles much and holds a copy of JAX. The tests of a file
# share what was compiled.
PYTEST ?= -m pytest -n auto --maxprocesses 4 --dist loadfile
PYTEST_ARGS ?= -m 'not slow'

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo gallery bench test test-slow lint docs clean distclean

help:
	@echo 'make demo       make the example profiles, tables and figures (in out/)'
	@echo 'make gallery    run the examples of examples/gallery (figures in out/gallery)'
	@echo 'make bench      run the benchmarks side by side (tables and figures in out/bench)'
	@echo 'make test       run the tests but the slow ones; PYTEST_ARGS="-k plot" chooses others'
	@echo 'make test-slow  run the slow tests'
	@echo 'make lint       ruff, mypy and the import contract'
	@echo 'make docs       build the documentation (docs/_build/html/index.html), run its doctests'
	@echo 'make venv       set up $(VENV) only; the targets above do it when it is needed'
	@echo 'make clean      remove what the targets above wrote, but not $(VENV)'
	@echo 'make distclean  the same, and $(VENV)'

venv: $(STAMP)

# The stamp is newer than pyproject.toml as long as what is installed is up to date.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'jaxprof needs Python 3.11 or later, and "$(PYTHON)" is not that.' >&2; \
		echo 'Name one that is: make venv PYTHON=python3.13' >&2; \
		exit 1; \
	}
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

# One example takes about as long as the others together and runs beside them.
demo: $(STAMP)
	@mkdir -p out
	@echo '$(PY) examples/forward_folding.py > out/forward_folding.txt &'
	@$(PY) examples/forward_folding.py >out/forward_folding.txt 2>&1 & folding=$$!; \
	trap 'kill $$folding' INT TERM; failed=; \
	for name in flux_profiles joint_fit spectral_index; do \
		echo "$(PY) examples/$$name.py"; $(PY) examples/$$name.py || failed=1; \
	done; \
	wait $$folding || failed=1; \
	cat out/forward_folding.txt; \
	test -z "$$failed"

gallery: $(STAMP)
	for script in examples/gallery/*.py; do $(PY) "$$script" --out out/gallery || exit 1; done

bench: $(STAMP)
	$(PY) benchmarks/run.py

test: $(STAMP)
	$(PY) $(PYTEST) $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(PY) $(PYTEST) -m slow

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

# Sphinx and its extensions come with the extra `docs`. Examples that did not change are not run again.
docs: $(VENV)/.installed-docs
	$(PY) -m sphinx -b html -W --keep-going -q docs docs/_build/html
	$(PY) -m sphinx -b doctest -D plot_gallery=0 -q docs docs/_build/doctest

$(VENV)/.installed-docs: $(STAMP)
	$(PY) -m pip install --quiet --editable '.[dev,docs]'
	@touch $@

clean:
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf docs/_build docs/api docs/examples docs/figures docs/sg_execution_times.rst
	find jaxprof tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
