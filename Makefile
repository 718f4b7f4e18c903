# The whole project from one place: `make help` says what there is.
# Settings come from the environment or the command line: PYTHON=... make setup, make demo PROMPT="..."

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.meltproof-ready
# The first interpreter that runs and is 3.11 or 3.12 (a shim may exist and still not run).
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
CODE := serve_app deployments dispatch autoscaling engine jobs meltproof_temporal scripts examples tests
# Two tests at a time, of groups that tests/conftest.py makes and puts in order.
WORKERS := -n 2 --no-loadscope-reorder
FAST := $(addprefix tests/,contract dispatch golden unit)

export PROMPT

# Every target that `make help` lists.
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))
.NOTPARALLEL:

help: ## Say what there is
	@echo "Meltproof: an image service for your own GPUs that speaks the OpenAI Images API."
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
		| awk 'BEGIN {FS = ":.*## "} {printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything pinned (minutes the first time, nothing after that)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make setup needs Python 3.11 or 3.12 on the path" \
		"(or: make setup PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); } \
		|| { echo "no venv: on Debian or Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV): a few minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[test,train,bench]"
	@touch $@

demo: setup ## Boot, draw half a dozen prompts, leave pictures in out/ (or: make demo PROMPT="a red fox")
	@$(BIN)/python -m scripts.demo

run: setup ## Start the service on this machine and stay up: http://127.0.0.1:8000
	@$(BIN)/meltproof run configs/laptop.yaml

# Compiled first: tests start hundreds of processes, which may not be allowed to keep what they compile.
test: setup check ## Everything that must hold: style, types, arrows, tests
	$(BIN)/python -m compileall -q $(CODE)
	$(BIN)/python -m pytest $(WORKERS)

test-fast: setup ## The tests of everyday work: no Ray, no browser, no PostgreSQL, nothing slow
	$(BIN)/python -m pytest $(WORKERS) -m "not (postgres or slow)" $(FAST)

check: setup ## Style, types and import arrows only
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/mypy -p meltproof_temporal -p examples.temporal
	$(BIN)/lint-imports

fix: setup ## Format and repair what ruff can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

train: setup ## Rebuild the embedded model from openly licensed pictures (resumes where it stopped)
	$(BIN)/python -m scripts.train

eval: setup ## Score the embedded model: contact sheet, preview strip, retrieval
	$(BIN)/python -m scripts.evaluation

bench: setup ## Measure the stack against its own engine and against rivals
	$(BIN)/python -m scripts.bench

bench-company: setup ## Measure the CPU time of a picture beside its passes, by kind of process
	$(BIN)/python -m scripts.bench.company

bench-rivals: setup ## Measure the stack beside rivals as on GPUs: passes are slept by published tables
	$(BIN)/python -m scripts.bench_rivals

bench-kill: setup ## Kill decoders under load and count what was lost
	$(BIN)/python -m scripts.chaos.decoder_kills

bench-ledger: setup ## Fill the ledger with a million jobs and measure it; beside Celery on Redis
	$(BIN)/python -m scripts.bench_ledger

bench-growth: setup ## Measure how cost grows with jobs, tenants, replicas, watchers and pictures
	$(BIN)/python -m scripts.growth

bench-batch: setup ## Measure how a batch fills idle slots beside live orders, and how fast one is accepted
	$(BIN)/python -m scripts.batch

bench-fairness: setup ## Measure who waits for whom: equal tenants, paid under a flood, two lanes
	$(BIN)/python -m scripts.fairness

bench-overload: setup ## Ask ten times what the lane can do for ten minutes; count what it still does
	$(BIN)/python -m scripts.overload

bench-gateway: setup ## Measure accepting beside a bare echo of Ray Serve, what metrics cost, and how many series there are
	$(BIN)/python -m scripts.gateway

bench-accept: setup ## Measure what accepting an order costs beside a bare FastAPI insert
	$(BIN)/python -m scripts.accept

fuzz: setup ## Ask the HTTP surface everything that it does not expect, and send it hostile files
	$(BIN)/python -m tests.fuzz

bench-safety: setup ## Measure what the screens find, block wrongly, save and cost, and that nothing unscreened leaves
	$(BIN)/python -m scripts.bench_safety

bench-restore: setup ## Kill and delete a ledger under load, put the newest backup back, count what is lost
	$(BIN)/python -m scripts.restore

bench-families: setup ## Measure pipelines of diffusers in the running batch beside stock ones behind a lock
	$(BIN)/python -m scripts.families

bench-models: setup ## Add, upgrade and remove a model under load; count what restarts elsewhere
	$(BIN)/python -m scripts.models

bench-provenance: setup ## Measure what survives of the watermark, what both layers cost, and whether manifests hold
	$(BIN)/python -m scripts.provenance

bench-neighbour: setup ## Abuse the service at the rate its limits allow, beside a quiet tenant
	$(BIN)/python -m scripts.neighbour

bench-autoscaling: setup ## Play four loads to a live lane whose decoders come and go, and to the simulator
	$(BIN)/python -m scripts.autoscaling

bench-policies: setup ## Measure what scaling policies cost beside hindsight and beside each other
	$(BIN)/python -m scripts.policies

shape: setup ## Say how big the code is, and how many files one picture passes
	$(BIN)/python -m scripts.shape

conformance: setup ## Ask a running service for all of OpenAI's reference, through its own clients
	$(BIN)/python -m tests.conformance

bench-edits: setup ## Measure what changing a quarter of a picture costs beside drawing one
	$(BIN)/python -m scripts.edits

image: setup ## Build the container image, list what is in it, run it as a pod and draw a picture
	@$(BIN)/python -m scripts.image

chaos: setup ## Break everything under load for half an hour, then prove that nothing was lost
	$(BIN)/python -m scripts.chaos

chaos-cluster: setup ## Break a cluster of nodes (as root, in namespaces): nodes, head, networks, database, updates
	$(BIN)/python -m scripts.chaos_cluster
