# Needs Linux, Python >= 3.11 with venv, and make. Everything is installed into .venv; the first call takes a few minutes.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
EXTRAS_DEMO := dmc,viz
EXTRAS_DEV := $(EXTRAS_DEMO),dev
EXTRAS_LOCKED := dmc mazes data viz view track export dev

.PHONY: help demo test test-slow lint format doctor readme constraints clean

help:
	@echo "make demo         observe, learn, plan and distil on cartpole-swingup; writes runs/demo/report.html"
	@echo "make test         the tests, two at a time (under 10 minutes)"
	@echo "make test-slow    the long tests, two at a time (under 30 minutes)"
	@echo "make lint         ruff, pyright, import-linter"
	@echo "make format       let ruff format the code"
	@echo "make doctor       versions, devices, rendering, and what is missing"
	@echo "make readme       write the tables of README.md from benchmarks/results/"
	@echo "make constraints  write constraints.txt anew"
	@echo "make clean        remove .venv and caches (keeps runs/)"

demo: .venv/installed-demo
	$(BIN)/sailplan demo

# Most of these tests' time is compilation: optimising less takes a fifth off.
test: .venv/installed-dev
	XLA_FLAGS=--xla_backend_optimization_level=0 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: .venv/installed-demo
	$(BIN)/sailplan doctor

readme: .venv/installed-demo
	$(BIN)/sailplan readme

# dm-control stands apart because of Python >= 3.13: see the dmc extra in pyproject.toml.
constraints: .venv/installed-dev
	echo dm-control | $(BIN)/uv pip compile pyproject.toml - $(EXTRAS_LOCKED:%=--extra %) --upgrade --quiet \
	    --universal --python-version 3.11 --no-annotate --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make constraints" --output-file constraints.txt

clean:
	rm -rf .venv .jax_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find planners worldmodels mpc benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python >= 3.11 is needed, this is {sys.version}")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; echo "No venv: on Debian, apt-get install python3-venv"; exit 1; }

.venv/installed-demo: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable ".[$(EXTRAS_DEMO)]"
	$(BIN)/python -c "import dm_control" 2>/dev/null || $(PIP) --no-deps dm-control
	touch $@

.venv/installed-dev: .venv/installed-demo
	$(PIP) --editable ".[$(EXTRAS_DEV)]"
	touch $@
