# Two commands: `make demo` and `make test`; each first makes the environment if it is missing or out of date.
PYTHON ?= python3
RUN := .venv/bin/python
STAMP := .venv/.made

.DEFAULT_GOAL := help
.PHONY: help env lock demo study recipes test lint format lab soak soakcluster bench check clean

help:  ## list the targets, as here
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 16

env: $(STAMP)  ## .venv from requirements.lock (PYTHON=python3.12 chooses the interpreter)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python %d.%d is too old: numpy 2.4 and pandas 3 need 3.11 or newer; try: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Making .venv: some minutes, up to 6 GB"
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lock: env  ## make requirements.lock again, after a change of requirements.txt
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --output-file requirements.lock requirements.txt

demo: env  ## synthetic people, every stage, submissions/demo.csv, a table of scores
	$(RUN) -m lib.run params/demo.yaml
	$(RUN) -m lib.demo report --run runs/demo --submission submissions/demo.csv --data data/demo

recipes: env  ## every recipe in its smallest form, and a table (22 minutes)
	$(RUN) -m lib.run params/demo.yaml --stages demo,eda,crop
	$(RUN) -m lib.runner.recipes

study: env  ## one ingredient at a time on the demo data, and a page (22 to 37 minutes)
	$(RUN) -m lib.run params/demo.yaml --stages demo,eda,crop
	$(RUN) -m lib.run params/study.yaml

test: lint  ## what lint checks, every test on two cores, and what share of lib/ they reach
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --cov

lint: env  ## rules and format of code and notebooks, types, words; changes nothing
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(RUN) .ci/words.py

format: env  ## format code and notebooks, and fix what ruff can fix safely
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lab: env  ## JupyterLab over this folder, without its news and update checks (.jupyter/overrides.json)
	.venv/bin/jupyter lab --LabApp.app_settings_dir="$(CURDIR)/.jupyter"

soakcluster: env  ## lose a node of an emulated Ray cluster, compared with a serial batch (needs Ray)
	$(RUN) tests/soak_cluster.py

soak: env  ## kill a chain of runs at random moments and compare what it leaves (15 minutes)
	$(RUN) tests/soak.py

bench: env  ## speed and memory against peers and limits (14 minutes, on a quiet machine)
	$(RUN) -m lib.run params/demo.yaml --stages demo,eda,crop
	$(RUN) -m lib.run params/bench.yaml

check: env  ## check every parameter file, running nothing
	@find params -name '*.yaml' -not -path 'params/tasks/*' -not -path 'params/sweeps/*' | sort | while read -r file; do echo "$$file"; $(RUN) -m lib.run --check "$$file" >/dev/null || exit 1; done

clean:  ## remove the environment and caches; data, work, runs and submissions stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* *.egg-info
	find lib tests notebooks .ci \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
