# The project's commands. Needs Python 3.11 (or 3.10, 3.12) and make; everything else is installed into $(VENV), from constraints.txt.
PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),python3)
VENV ?= .venv
WORKERS ?= 2

SOURCE ?= synthetic
INPUT ?=
RUN ?=
ARGS ?=

# Compiled modules are kept: without them every start compiles TensorFlow's sources again.
unexport PYTHONDONTWRITEBYTECODE

bin := $(VENV)/bin
stamp := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo test lint types build-files lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo   logs -> lists -> ranker -> mAP -> SavedModel -> gRPC answer -> runs/<name>/report.html'
	@echo '            SOURCE=synthetic|canonical|trivago2019|expedia2013  INPUT=<file or folder of logs>  RUN=<name>'
	@echo '            ARGS="--force" starts a run from its first stage; see "python -m tools.demo --help"'
	@echo 'make test   all tests ($(WORKERS) processes, WORKERS=n changes that); ARGS="-k name" picks some'
	@echo 'make lint   ruff    make types   mypy    make build-files   writes the BUILD files anew'
	@echo 'make env    only the environment ($(VENV))    make lock   constraints.txt anew    make clean'

env: $(stamp)

# Made anew whenever setup.py or constraints.txt changes. The stamp comes last, so a broken install is repeated.
$(stamp): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { \
	  echo 'error: $(PYTHON) is missing or not Python 3.10-3.12.'; \
	  echo 'Install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11'; exit 1; }
	@echo '== environment: $(VENV), the exact versions of constraints.txt; needs the network once'
	@set -e; rm -f $@; started=$$(date +%s); \
	$(PYTHON) -m venv $(VENV) || { echo 'error: no venv module; on Debian or Ubuntu: apt install python3.11-venv'; exit 1; }; \
	$(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv; \
	$(bin)/uv pip install --quiet --python $(bin)/python --constraint constraints.txt \
	  --build-constraint constraints.txt --editable '.[dev]'; \
	touch $@; echo "   environment: $$(( $$(date +%s) - started )) s"

demo: $(stamp)
	@$(bin)/python -m tools.demo --source=$(SOURCE) $(if $(INPUT),--input='$(INPUT)') $(if $(RUN),--run=$(RUN)) $(ARGS)

test: $(stamp)
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(stamp)
	$(bin)/ruff check .

types: $(stamp)
	$(bin)/mypy

build-files: $(stamp)
	$(bin)/python -m tools.gen_build

# All extras but `peers` and `jax`.
LOCKED := dev bench gcs aws dask
lock: $(stamp)
	{ sed '/^#/!d' constraints.txt; $(bin)/uv pip compile --quiet --universal --python-version 3.10 $(foreach extra,$(LOCKED),--extra $(extra)) --no-annotate --no-header setup.py; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
