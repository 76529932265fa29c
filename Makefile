# Everything a developer does here. A second run of any of these is fast: what is installed is remembered in .venv.

PYTHON ?= python3
WORKERS ?= 2
WAITING ?= 3 # workers for tests that wait as much as they work
VENV := .venv
BIN := $(VENV)/bin
E2E := tests/e2e
MODELS := tests/deploy/models
CLUSTER := tests/cluster
TIMED := $(wildcard $(CLUSTER)/test_abuse_*.py tests/auth_service/passwords/test_login_*.py tests/integration/test_gate.py \
	tests/deploy/test_prometheus_alerts.py tests/deploy/test_proxy_pings.py tests/deploy/test_rolling_update.py)
PEERS := loadtests/peers/node
BUILDER ?= docker
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' gateway/__init__.py)
SDKS := $(VENV)/sdk/0.5/.stamp $(VENV)/sdk/0.7/.stamp
# Python costs twice as much while it is traced: coverage stands on the tests of parts, and nothing else is traced.
COVERED := tests/unit tests/contract tests/auth_service
GREENLETS := tests/auth_service # SQLAlchemy's; to look for them costs a third more again
PURE := gateway/protocol/*,gateway/codecs/*,gateway/transports/wire.py,gateway/hub.py,gateway/outbox.py

# With SHIPPED=1 timed and fault tests run the gateway as it is shipped: with its hot path compiled.
COMPILED := $(VENV)/compiled
AS_SHIPPED = $(if $(SHIPPED),PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR))

CHECKED = $(BIN)/python -m pytest $(if $(REQUIRE_ALL),--leave-nothing-out) $(ARGS)
PYTEST = $(CHECKED) --cov --cov-report=

# Hundreds of processes are started here: none compiles anew what another has, whatever the machine's habit.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test ready compiled lint audit bench gate compare load dashboard soak format images lock clean
.DELETE_ON_ERROR:

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/demo.stamp ## run everything on this machine: two nodes, auth service, Valkey, chat page
	@$(BIN)/gateway demo $(ARGS)

test: ready $(if $(SHIPPED),compiled) ## run all tests that this machine allows, and name those it does not
	$(CHECKED) -n $(WAITING) --dist loadfile $(addprefix --ignore=,$(COVERED) $(TIMED) $(CLUSTER) $(E2E))
	$(PYTEST) -n $(WORKERS) --dist worksteal $(filter-out $(GREENLETS),$(COVERED))
	COVERAGE_CONCURRENCY=greenlet $(PYTEST) --cov-append -n $(WORKERS) --dist worksteal $(GREENLETS) $(addprefix --ignore=,$(TIMED))
	$(AS_SHIPPED) $(CHECKED) $(TIMED) # attacks are judged by what they cost others: one at a time
	$(AS_SHIPPED) $(CHECKED) -n $(WAITING) --dist loadfile $(CLUSTER) $(addprefix --ignore=,$(TIMED)) # faults
	$(CHECKED) -n $(WORKERS) --dist loadfile $(E2E) # each file has its browser, each worker its demo
	$(BIN)/python -m coverage report --fail-under=92
	@echo "The pure parts, where every branch is tested:"
	@$(BIN)/python -m coverage report --include='$(PURE)' --fail-under=100

ready: $(VENV)/test.stamp node $(SDKS) $(VENV)/deploy/.stamp ## install what all tests need

compiled: $(COMPILED)/.stamp ## build the gateway with its hot path compiled, into .venv/compiled; needs a C compiler

lint: $(VENV)/test.stamp ## check style, types, layers, sizes, locks, and that no credential is in the source
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/sizes.py
	$(BIN)/python scripts/exceptions.py
	$(BIN)/python scripts/locks.py check
	$(BIN)/python scripts/credentials.py

audit: $(VENV)/audit/.stamp ## ask for known faults of all that is installed, and write the bill of materials
	$(BIN)/python scripts/advisories.py

bench: $(VENV)/test.stamp node-peers ## measure one core beside others, each row of the table in one run with its reference
	$(BIN)/python -m loadtests.bench $(ARGS)

gate: $(VENV)/test.stamp ## fail if a delivery costs over 15 % more CPU time than recorded, and never for noise
	$(BIN)/python -m loadtests.bench.gate $(ARGS)

compare: $(VENV)/test.stamp $(VENV)/peers/.stamp node-peers ## see that other servers of this kind deliver, then measure them beside this one
	$(BIN)/python -m pytest -m peers tests/integration/test_peers.py
	$(BIN)/python -m loadtests compare $(ARGS)

load: $(VENV)/test.stamp ## put load on a node, or on your own system: make load ARGS="fan-out --target URL"
	@$(BIN)/python -m loadtests $(if $(ARGS),run $(ARGS),list)

dashboard: $(VENV)/test.stamp ## draw the Grafana dashboard from what a Prometheus sees of nodes under load
	$(BIN)/python scripts/dashboard.py
	@$(BIN)/python -m loadtests.dashboard $(ARGS)

soak: $(VENV)/test.stamp node $(VENV)/deploy/.stamp ## run the long sizes of the tests, then harm three nodes under load for ten minutes
	$(BIN)/python -m pytest -m soak -o faulthandler_timeout=7200 $(if $(REQUIRE_ALL),--leave-nothing-out)
	$(BIN)/python -m loadtests.soak $(ARGS)

format: $(VENV)/test.stamp ## put the source into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

images: ## build an image of each program, with docker or BUILDER=podman
	$(foreach it,gateway auth load,$(BUILDER) build --file deploy/docker/$(it).Dockerfile $(ARGS) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		--tag realtime-gateway$(if $(filter-out gateway,$(it)),-$(it)):$(VERSION) . &&) true

lock: $(VENV)/test.stamp ## resolve the dependencies of pyproject.toml anew
	$(BIN)/python scripts/locks.py make

clean: ## remove what was installed and kept
	rm -rf $(VENV) .demo build $(E2E)/node_modules $(MODELS)/node_modules $(PEERS)/node_modules .coverage* .mypy_cache .ruff_cache .hypothesis .import_linter_cache

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

# The same source, its hot path through mypyc; see setup.py. Who runs it puts the folder ahead on PYTHONPATH.
$(COMPILED)/.stamp: setup.py pyproject.toml $(shell find gateway auth_service -name '*.py') | $(VENV)/test.stamp
	rm -rf $(COMPILED) build
	GATEWAY_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-cache-dir --target $(COMPILED) .
	rm -rf build
	@touch $@

# Versions of the official Python SDK, each in a folder of its own: they disagree on what they need.
$(VENV)/sdk/%/.stamp: requirements/sdk-%.txt | $(VENV)/test.stamp
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target $(@D) -r $<
	@touch $@

# An environment of its own each: what these need disagrees with what we need, and must not be found by accident.
$(VENV)/peers/.stamp $(VENV)/deploy/.stamp: $(VENV)/%/.stamp: requirements/%.txt | $(VENV)/test.stamp
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -m pip --python $(@D) install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/audit/.stamp: requirements/audit.txt | $(BIN)/python
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target $(@D) -r $<
	@touch $@

# The official JavaScript SDK, and servers in Node to compare with: where Node is.
.PHONY: node node-peers
ifneq ($(and $(shell command -v node 2>/dev/null),$(shell command -v npm 2>/dev/null),$(wildcard $(E2E)/package-lock.json)),)
node: $(E2E)/node_modules/.stamp $(MODELS)/node_modules/.stamp
node-peers: $(PEERS)/node_modules/.stamp
else
node node-peers:
endif

$(E2E)/node_modules/.stamp $(MODELS)/node_modules/.stamp $(PEERS)/node_modules/.stamp: %/node_modules/.stamp: %/package.json %/package-lock.json
	npm --prefix $* ci --no-audit --no-fund --loglevel=error
	@touch $@
