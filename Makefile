# Two commands: `make demo` and `make test`. Each creates the virtual environment first (wheels only, nothing to compile).
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: demo demo-smallest smoke test check lint contracts fast benchmarks clean install

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(READY)

demo: $(READY)  ## simulate, train, evaluate, print one table (under 10 minutes on 2 cores)
	$(RUN) opencood/tools/demo.py

demo-smallest: $(READY)  ## the same road at its smallest size: checks the pipeline, not the ranking
	$(RUN) opencood/tools/demo.py --preset smallest --out demo_output/smallest

smoke: $(READY)  ## train and test a published file of every repository at its smallest size; prints the seconds of each
	rm -rf demo_output/smoke
	$(RUN) opencood/tools/run_recipe.py opencood/recipes/smoke/[a-z]*.yaml --out demo_output/smoke

test: $(READY)  ## every test, whole runs and golden cases included
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal

check: lint contracts fast  ## before every commit: under 90 seconds

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

contracts: $(READY)
	$(VENV)/bin/lint-imports --no-cache

fast: $(READY)
	$(RUN) -m pytest -n $(WORKERS) --dist worksteal -q -m "not slow" tests/unit

benchmarks: $(READY)
	$(RUN) benchmarks/run.py

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info
