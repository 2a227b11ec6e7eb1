# Every target sets up what it needs, so that `make repro` works in a fresh clone.
.DEFAULT_GOAL := help
.PHONY: help setup repro experiments ui test test-slow test-long regression lint bench bench-match lock clean

BIN := .venv/bin
# One test process more than there are cores, since some tests wait for servers and queues.
WORKERS = $(shell $(BIN)/python -c 'import os; print(os.cpu_count() + 1)')

INSTALL_OTHERS = $(BIN)/pip install --quiet --constraint requirements.lock --editable '.[benchmark]'

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed ## make .venv with the locked packages (the other targets do so when needed)

repro: setup ## run the pipeline: data, both trainings, evaluation, report
	$(BIN)/dvc repro

# The pattern drops dependencies and all parameters but prior and seed, so that the table fits a terminal.
experiments: setup ## list the experiments with prior, seed and headline measures
	$(BIN)/dvc exp show --drop '.*[./]|(aae|stages|latent_dim|precision|device|launcher)$$'

ui: setup ## open the experiments in MLflow, on loopback at the address that it prints
	$(BIN)/aae ui

test: setup ## run all tests but the slow ones
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

test-slow: setup ## run the tests that take minutes
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal -m slow

test-long: setup ## run the longest tests: what the gate catches, default parameters, more priors, several machines
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal -m long

regression: setup ## check that no metric got worse, compared with the main branch or BASE=REV
	$(BIN)/aae regression $(if $(BASE),--base '$(BASE)') $(ARGS)

lint: setup ## check style, formatting, types, and imports between subpackages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## measure the training step next to others, how it scales, what tracking and snapshots cost
	$(INSTALL_OTHERS)
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/tracking.py

bench-match: setup ## measure for hours how long it takes until a model passes its test, here and with others
	$(INSTALL_OTHERS)
	$(BIN)/python benchmarks/time_to_match.py $(ARGS)

# The lock must fit every build of torch, hence without its local version label (+cpu, +cu130). It must
# not contain the project itself, which `dev` names because of an extra.
lock: setup ## renew requirements.lock from pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --extra dev --strip-extras --allow-unsafe --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	    --output-file requirements.lock pyproject.toml
	sed -i.bak -e 's/+[a-z][a-z0-9.]*$$//' -e '/^aae @/d' requirements.lock && rm requirements.lock.bak

clean: ## delete .venv, so that the next target sets it up anew
	rm -rf .venv

# The set-up uses the first python that is new enough. If it fails, it leaves no stamp and the next target
# starts it again. A new pip, and bytecode that all cores compile instead of pip, halve its time.
.venv/installed: requirements.lock pyproject.toml
	@for python in $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14 ""; do \
	    test -n "$$python" || { echo "error: Python 3.11 or newer is needed and none of python3," \
	        "python3.11 … python3.14 is; name one with make PYTHON=/path/to/python3" >&2; exit 1; }; \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	echo "setting up .venv with $$($$python --version): this takes some minutes, once" && $$python -m venv --clear .venv
	$(BIN)/pip install --quiet --upgrade --constraint requirements.lock pip
	$(BIN)/pip install --quiet --no-compile --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -m compileall -q -j 0 .venv >/dev/null || true # some packages contain files for other Pythons
	@touch $@
