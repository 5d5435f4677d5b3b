# make demo   set up, then adapt the shipped network to a drive without labels and report the gain, in ten minutes on two cores
# make test   set up, then lint, format, types, layers and the tests that take under 10 s each
# make docs   the documentation site into site/; a warning is an error
# make setup  .venv with pinned versions; does nothing where it is already up to date
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-ros lint docs clean

VENV ?= .venv
PYTHON ?=
EXTRAS ?= test
BIN := $(VENV)/bin
THREADS := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
PYTEST := $(THREADS) $(BIN)/python -m pytest -n 2

help:
	@sed -n 's/^# make /make /p' Makefile
	@echo "make test-all, make test-ros, make lint, make clean"

setup:
	@python="$(PYTHON)"
	for candidate in python3 python3.12 python3.11 python3.10; do
	  [ -z "$$python" ] && command -v "$$candidate" >/dev/null || continue
	  "$$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && python=$$candidate
	done
	if [ -z "$$python" ]; then
	  echo "kd_seg needs Python 3.10, 3.11 or 3.12 and found none; install one (package python3), or say make setup PYTHON=its/path." >&2
	  exit 1
	fi
	files="setup.py setup.cfg constraints.txt Makefile pyproject.toml"
	digest=$$({ cat $$files; "$$python" --version; echo "$(EXTRAS) $(CURDIR)"; } | sha256sum | cut -c1-16)
	if [ "$$(cat $(VENV)/kd_seg.stamp 2>/dev/null)" = "$$digest" ]; then exit 0; fi
	if [ ! -x $(BIN)/pip ]; then
	  if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	    echo "Python $$version cannot make environments; install the package python$$version-venv (or python3-venv), then run make again." >&2
	    exit 1
	  fi
	  echo "== $(VENV) with $$("$$python" --version)"
	  "$$python" -m venv $(VENV)
	fi
	echo "== torch first, then the rest; the first time this downloads for some minutes"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m kd_seg.core.system_libraries
	echo "$$digest" > $(VENV)/kd_seg.stamp
	echo "== ready: $(BIN)/kd-seg --help"

lint: setup
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	@$(PYTEST) -m "not slow"

test-all: lint
	@$(PYTEST)

# Under every middleware that is installed; needs a sourced ROS 2 and an environment that sees it (docs/vehicle.md).
# The package rmw_implementation, which loads one of them, stands in the same list.
test-ros:
	@for rmw in $$(python3 -c 'from ament_index_python import get_resources; print(*get_resources("rmw_typesupport"))'); do
	  [ "$$rmw" = rmw_implementation ] && continue
	  echo "== $$rmw"
	  PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 RMW_IMPLEMENTATION=$$rmw $(THREADS) \
	    python3 -m pytest -p xdist -p pytest_timeout -n 0 -m ros
	done

docs: setup
	@$(BIN)/python -c "import material, mkdocstrings" 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python docs/gen_config.py
	$(BIN)/python docs/gen_cli.py
	$(BIN)/python -m mkdocs build --strict --quiet
	echo "Open site/index.html; the search needs a server: $(BIN)/python -m http.server -d site"

DRIVE := datasets/demo_drive
STREETS := datasets/demo_streets
STEPS := 600

demo: setup
	@kd="$(BIN)/kd-seg"
	rm -rf runs/demo_adapted
	$$kd simulate $(DRIVE) --sensor vlp16 --sequences 4 --scans 25 --seed 1 --rare 4
	$$kd simulate $(STREETS) --sensor vlp16 --sequences 24 --scans 4 --seed 2 --rare 4
	$$kd train configs/adapted.yaml "purpose=Trained further on labelled streets of the drive's sensor alone." \
	  data.root=$(STREETS) run.folder=runs/demo_streets run.steps=$(STEPS) --overwrite
	$$kd adapt $(DRIVE) --streets $(STREETS) --out runs/demo_adapted teacher.views=1 training.run.steps=$(STEPS)
	score="--data $(DRIVE) --sequences 00,01,02,03"
	echo "== the shipped network on the drive"
	$$kd eval taught $$score
	echo "== trained further on labelled streets of the drive's sensor"
	$$kd eval runs/demo_streets $$score --out runs/demo_streets/evaluation.json
	echo "== adapted: the same, and the drive itself, whose labels nothing opened until now"
	$$kd eval runs/demo_adapted/round_1/run $$score --out runs/demo_adapted/round_1/run/evaluation.json
	$$kd report runs/demo_streets runs/demo_adapted/round_1/run --out runs/demo_report.html
	echo "Open runs/demo_report.html and runs/demo_adapted/adaptation.png"

clean:
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find kd_seg ros_nodes tests launch -name __pycache__ -type d -prune -exec rm -rf {} +
