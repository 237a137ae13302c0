# Everything is set up in .venv by itself, from nothing but Python, make and a package registry.
#   make demo                     install, then run the whole job on videos that it renders
#   make test                     install with the test tools, then run the tests
#   make test PYTHON=python3.12   with another Python (remove .venv first)
#   make bench                    measure what each stage costs here
#   make soak SOAK="--budget 300" five minutes of the long tests; without SOAK all of them

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The versions in constraints.txt need Python 3.11; an older one installs by the floors in pyproject.toml.
CONSTRAINTS = $$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')

# Come with torch, differ by platform, and are chosen by torch itself; or belong to the environment, not to us.
LEFT_OUT := cuda-|nvidia-|triton|pip=|setuptools=|wheel=

# Small maths on many cores is slower than on one, and no test may look for a network.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help demo test bench soak lint format docs constraints

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/.installed ## install, then render, extract, train, evaluate and predict in ./rratag-demo
	$(BIN)/rratag demo

test: $(VENV)/.installed-dev ## install the test tools, then run all tests with branch coverage
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --cov --cov-report=term

bench: $(VENV)/.installed ## what decoding, the CNN, the cache and the head cost here, beside the naive ways
	$(BIN)/rratag bench

soak: $(VENV)/.installed-dev ## long seeded tests: kills, damaged files, bad files, links (SOAK="--budget 300" for a part)
	$(TEST_ENV) $(BIN)/python -m tests.soak $(SOAK)

lint: $(VENV)/.installed-dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## format the code and mend what can be mended without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed ## write docs/cli.md anew from the commands themselves
	$(BIN)/python -m rratag.cli.reference

constraints: ## write constraints.txt anew from a fresh install of the newest versions (run it with Python 3.11)
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch" constraints.txt.new' EXIT; \
	$(PYTHON) -m venv "$$scratch/venv"; \
	"$$scratch/venv/bin/python" -m pip install '.[dev]'; \
	{ echo '# Versions tested together, for Python 3.11 and newer. Written by `make constraints`.'; \
	  "$$scratch/venv/bin/python" -m pip list --format=freeze --exclude rratag \
	  | sed -e 's/+.*//' | tr '[:upper:]_' '[:lower:]-' | grep -v -E '^($(LEFT_OUT))' | LC_ALL=C sort; } > constraints.txt.new; \
	mv constraints.txt.new constraints.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'error: Python 3.10 or newer is needed; name one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo 'error: no virtual environment could be made; on Debian and Ubuntu install python3-venv' >&2; \
	       rm -rf $(VENV); exit 1; }

# The stamps are written last: a second run is instant, and an install that was cut short is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install $(CONSTRAINTS) -e '.[dev]'
	@touch $@ $(VENV)/.installed
