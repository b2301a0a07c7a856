# The two commands of a fresh checkout are "make demo" and "make test"; "make help" lists the rest.

# The first Python that is new enough and can make virtual environments; another one: make PYTHON=/path/to/python.
PYTHONS := python3.13 python3.12 python3.11 python3 python3.14
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(PYTHONS); do "$$p" -c '$(USABLE)' 2>/dev/null && command -v "$$p" && break; done)

VENV := .venv
BIN := $(VENV)/bin
# What pip does where it installs a copy: else Python compiles at each start what it may not write down.
COMPILE = $(BIN)/python -m compileall -q buildkit_session

.PHONY: help demo test lint types format bench schema clean
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/.installed ## build a small example with a real daemon and show the files that come back
	$(BIN)/python -m buildkit_session.demo

test: lint types ## everything that must hold: lint, types and all tests, against real daemons
	$(BIN)/python -m buildkit_session.testing
	$(BIN)/python -m pytest

lint: $(VENV)/.developed ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.developed ## check types
	$(BIN)/mypy

format: $(VENV)/.developed ## put the code into its format
	$(BIN)/ruff format

bench: $(VENV)/.measurable ## measure beside docker buildx, grpcio and others: tables, and files in benchmarks/results
	$(BIN)/python -m buildkit_session.testing
	$(BIN)/python -m benchmarks

schema: $(VENV)/.developed ## renew buildkit_session/messages from the schema
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/buf generate schema --template schema/buf.gen.yaml

clean: ## remove what these commands have made in this folder
	rm -rf $(VENV) out/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
	  echo 'No Python 3.11 or newer with its venv module was found among: $(PYTHONS)' >&2; \
	  echo 'On Debian and Ubuntu: apt-get install python3 python3-venv; or name one: make PYTHON=/path/to/python' >&2; \
	  exit 1; \
	fi
	@"$(PYTHON)" -c '$(USABLE)' || { echo '$(PYTHON) is older than 3.11 or lacks its venv module' >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(COMPILE)
	@touch $@

# Dependency groups need pip 25.1.
$(VENV)/.developed: pyproject.toml | $(VENV)/.created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	$(COMPILE)
	@touch $@ $(VENV)/.installed

# A peer that cannot be had is reported as "not run" by the benchmark.
$(VENV)/.measurable: $(VENV)/.developed benchmarks/programs/bollard/Cargo.toml
	$(BIN)/python -m pip install --quiet --group bench || echo 'not all peers could be installed'
	cargo build --quiet --release --manifest-path benchmarks/programs/bollard/Cargo.toml --target-dir out/bollard || \
	  echo 'bollard could not be compiled'
	@touch $@
