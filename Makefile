# Two commands: `make demo` and `make test`; each first makes the environment if it is missing or out of date.
PYTHON ?= python3
RUN := .venv/bin/python
STAMP := .venv/.made

.DEFAULT_GOAL := help
.PHONY: help env demo study recipes test lint format lab bench check clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

env: $(STAMP)  ## make .venv from requirements.txt (PYTHON=python3.12 chooses the interpreter)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python %d.%d is too old: numpy 2.4 and pandas 3 need 3.11 or newer; try: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Making .venv: some minutes, up to 6 GB"
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: env  ## demo data, every stage, submissions/demo.csv, and a table of scores
	$(RUN) -m lib.run params/demo.yaml
	$(RUN) -m lib.demo report --run runs/demo --submission submissions/demo.csv --data data/demo

recipes: env  ## every recipe, tiny, and a table
	$(RUN) -m lib.run params/demo.yaml --stages demo,eda,crop
	$(RUN) -m lib.runner.recipes

study: env  ## one ingredient at a time on the demo data, and a page (half an hour)
	$(RUN) -m lib.run params/demo.yaml --stages demo,eda,crop
	$(RUN) -m lib.run params/study.yaml

test: lint  ## lint, format and every test
	$(RUN) -m pytest

lint: env  ## ruff on code and notebooks, changing nothing
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: env  ## ruff's format and its safe mends
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lab: env  ## JupyterLab over this folder
	.venv/bin/jupyter lab

bench: env  ## every stage beside its peer and its limit: runs/bench/benchmark.csv (needs the demo data, a quiet machine)
	$(RUN) -m lib.run params/demo.yaml --stages demo,eda,crop
	$(RUN) -m lib.run params/bench.yaml

check: env  ## check every parameter file against the notebooks, running none
	@find params -name '*.yaml' | sort | while read -r file; do echo "$$file"; $(RUN) -m lib.run --check "$$file" >/dev/null || exit 1; done

clean:  ## remove the environment and caches; data, work, runs and submissions stay
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
	find lib tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
