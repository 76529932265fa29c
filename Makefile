# Everything a developer does here. A second run of any of these is fast: what is installed is remembered in .venv.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
E2E := tests/e2e
SDKS := $(VENV)/sdk/0.5/.stamp $(VENV)/sdk/0.7/.stamp
PURE := gateway/protocol/*,gateway/codecs/*,gateway/transports/wire.py,gateway/hub.py,gateway/outbox.py

PYTEST = $(BIN)/python -m pytest --cov --cov-report= $(if $(REQUIRE_ALL),--leave-nothing-out) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak format lock clean
.DELETE_ON_ERROR:

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/demo.stamp ## run everything on this machine: two nodes, auth service, Valkey, chat page
	@$(BIN)/gateway demo $(ARGS)

test: $(VENV)/test.stamp node $(SDKS) ## run all tests that this machine allows, and name those it does not
	$(PYTEST) -n $(WORKERS) --ignore=$(E2E)
	$(PYTEST) --cov-append $(E2E) # browsers bring a loop of their own and want the machine for themselves
	$(BIN)/python -m coverage report --fail-under=92
	@echo "The pure parts, where every branch is tested:"
	@$(BIN)/python -m coverage report --include='$(PURE)' --fail-under=100

lint: $(VENV)/test.stamp ## check style, types, layers, sizes and locks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/sizes.py
	$(BIN)/python scripts/exceptions.py
	$(BIN)/python scripts/locks.py check

bench: $(VENV)/test.stamp ## measure this machine beside a stock FastAPI server
	$(BIN)/python -m loadtests.bench $(ARGS)

soak: $(VENV)/test.stamp node ## run the long sizes of the tests
	$(BIN)/python -m pytest -m soak $(ARGS)

format: $(VENV)/test.stamp ## put the source into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/test.stamp ## resolve the dependencies of pyproject.toml anew
	$(BIN)/python scripts/locks.py make

clean: ## remove what was installed and kept
	rm -rf $(VENV) .demo $(E2E)/node_modules .coverage* .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What tests need holds all that the demo needs, so the demo takes over an environment made for tests.
$(VENV)/demo.stamp: requirements/demo.txt pyproject.toml | $(BIN)/python
	@test -e $(VENV)/test.stamp || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@test ! -e $(VENV)/test.stamp || $(MAKE) --no-print-directory $(VENV)/test.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/demo.stamp

# Versions of the official Python SDK, each in a folder of its own: they disagree on what they need.
$(VENV)/sdk/%/.stamp: requirements/sdk-%.txt | $(BIN)/python
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target $(@D) -r $<
	@touch $@

# The official JavaScript SDK: where Node is, so that its tests can run.
.PHONY: node
ifneq ($(and $(shell command -v node 2>/dev/null),$(shell command -v npm 2>/dev/null),$(wildcard $(E2E)/package-lock.json)),)
node: $(E2E)/node_modules/.stamp
else
node:
endif

$(E2E)/node_modules/.stamp: $(E2E)/package.json $(E2E)/package-lock.json
	npm --prefix $(E2E) ci --no-audit --no-fund --loglevel=error
	@touch $@
