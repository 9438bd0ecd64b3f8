# Deep Radiomics: make book | test | smoke | lab | bench | clean. Each sets itself up first, in .venv, from Python 3.11 and pip alone.
#   make book                         the whole argument on the synthetic cohort -> build/html/index.html
#   make book PROFILE=smoke           the same, small: a few minutes
#   make book DATA=/folder/of/BraTS   on your own patients
SHELL   := /bin/bash
IS_3_11 := -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
PYTHON  ?= $(or $(shell for p in python3.11 python3 python; do $$p $(IS_3_11) && echo $$p && break; done),python3.11)
PROFILE ?= demo
DATA    ?=
SEED    ?= 0
BIN     := .venv/bin
SERIES   = --profile "$(PROFILE)" --seed "$(SEED)" $(if $(DATA),--data "$(DATA)")

.DEFAULT_GOAL := help
.PHONY: help setup book smoke test lab bench bench-gpu clean

help:
	@sed -n 's/^#//p' Makefile | head -4

setup: .venv/ready

# The stamp holds until the pins or the package's description change.
.venv/ready: requirements.lock pyproject.toml
	@"$(PYTHON)" $(IS_3_11) || { \
	  echo "Python 3.11 is needed, and '$(PYTHON)' is not it. Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv: about 230 packages, 2 to 5 minutes, once"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock torch setuptools wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@
	@echo "Set up. The command is $(BIN)/drlib"

book: .venv/ready
	$(BIN)/drlib run $(SERIES)
	$(BIN)/drlib book $(SERIES)

smoke:
	@$(MAKE) --no-print-directory book PROFILE=smoke

test: .venv/ready
	@echo "Tests, about 18 minutes on 2 cores; the slowest execute every notebook, build the book and open both in Chromium, if there is one"
	$(BIN)/python -m pytest

lab: .venv/ready
	@echo "JupyterLab on this computer only; open the address with the token that it prints. Ctrl-C ends it."
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/01_cohort.ipynb

bench: .venv/ready
	@echo "Benchmarks, about 20 minutes; let the computer do nothing else meanwhile"
	$(BIN)/python -m benchmarks
	@echo "build/bench.json is written. To see it in the book: $(BIN)/drlib run --chapters 10 --force && $(BIN)/drlib book"

bench-gpu: .venv/ready
	$(BIN)/python -m benchmarks.gpu

# Takes away what was made from the notebooks; results/ and .venv stay, for they cost time (remove them by hand).
clean:
	rm -rf build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find drlib tests -name __pycache__ -type d -prune -exec rm -rf {} +
