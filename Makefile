# Everything happens in .venv, made by the first Python >= 3.11 found (or: make demo PYTHON=python3.12).
# pip is used as you configured it, so a mirror or a CPU-only build of torch is a matter of pip's own settings.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PROMPT ?= a large red circle moves to the left on a white background
VIDEO ?= demo.mp4

# Threads that wait for each other sleep instead of spinning: on a busy machine spinning made a 2 s generation take 30 s.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo test check clean

help:
	@echo "make demo    install into $(VENV) and turn a sentence into $(VIDEO)"
	@echo "make test    the checks and every test"
	@echo "make check   ruff and mypy"
	@echo "make clean   remove $(VENV), $(VIDEO), builds and caches"

demo:
	@set -e; start=$$(date +%s); $(MAKE) --silent $(VENV)/package; installed=$$(date +%s); \
	$(BIN)/noisereel generate "$(PROMPT)" --output $(VIDEO) --seed 0; done=$$(date +%s); \
	echo; echo "video        $$(pwd)/$(VIDEO)"; \
	echo "install      $$((installed - start)) s"; echo "generation   $$((done - installed)) s"

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) dist build $(VIDEO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Noisereel needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are written last, so an interrupted installation is started again.
$(VENV)/package: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing noisereel and PyTorch into $(VENV); PyTorch is a large download"
	$(PIP) --editable .
	@touch $@

$(VENV)/development: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing noisereel with its development tools into $(VENV); PyTorch is a large download"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/package
