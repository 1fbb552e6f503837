# Everything a contributor types. Needs make and Python >= 3.11; the rest is installed into .venv.
# `make` alone lists the targets. PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := sdk server operator tests examples benchmarks website
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help setup demo dev test security soak planted mutants check docs format bench dist cluster images e2e clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[36mmake %-8s\033[0m %s\n", $$1, $$2}'

setup: $(READY) ## Create .venv with the three wheels (editable) and the tools

$(READY): pyproject.toml sdk/pyproject.toml server/pyproject.toml operator/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Aiki needs Python >= 3.11, $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet -e 'sdk[cli,fast]' -e 'server[dev]' -e operator --group dev --group docs
	@touch $@

demo: $(READY) ## Watch a workflow survive kill -9 of its worker and of the server (under a minute)
	@$(BIN)/python examples/onboarding/demo.py

dev: $(READY) ## Run the whole system with the onboarding example's worker
	@cd examples/onboarding && ../../$(BIN)/aiki dev workflows

test: $(READY) ## Run every test but the cluster's, with the coverage floor (some ten minutes on two cores)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 2 --dist worksteal -m "not cluster" $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

security: $(READY) ## Attack a real installation and print what held (two minutes; the full table: ARGS="--minutes 15")
	PYTHONPATH=tests $(BIN)/python -m security $(ARGS)

soak: $(READY) ## Break everything at random for some minutes (ARGS="--minutes 5 --seed 1 --break worker,postgres")
	PYTHONPATH=tests $(BIN)/python -m faults.soak $(ARGS)

planted: $(READY) ## Plant breaches of the guarantees, one at a time, and see that the tests notice (ARGS="--sample 6 --seed 1")
	@PYTHONPATH=tests $(BIN)/python -m planted $(ARGS)

mutants: $(READY) ## Change the pure modules in each small way, and print what the tests do not notice (MODULE=engine/commit/batch.py)
	@$(BIN)/pip install --quiet --group mutants
	@PYTHONPATH=tests $(BIN)/python -m planted.mutants $(MODULE)

check: $(READY) docs ## Lint, formatting, types, layers, and the documents with their links
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

docs: $(READY) ## Build the documents into site/ (open site/index.html; it needs no network)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

format: $(READY) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(READY) ## Measure rates, latencies and CPU time per run; writes benchmarks/results/
	$(BIN)/python -m benchmarks $(ARGS)

dist: $(READY) ## Build what a release publishes into dist/: wheels, sdists and the chart (needs helm)
	@$(BIN)/pip install --quiet --group release
	rm -rf dist
	for part in sdk server operator; do $(BIN)/python -m build --outdir dist $$part; done
	helm package charts/aiki --destination dist

cluster: ## Start a Kubernetes on this machine (Linux, root, Go; some eight minutes the first time)
	tests/e2e/cluster/cluster.py up

images: $(READY) ## Build the images and bring them to the cluster (KUBECONFIG, kind, or our own)
	@PYTHONPATH=tests $(BIN)/python -m e2e.images

e2e: $(READY) ## Run the tests on a Kubernetes cluster (KUBECONFIG, kind, or one of our own)
	$(BIN)/python -m pytest -m cluster tests/e2e $(ARGS)

clean: ## Remove .venv and everything that tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* dist site
