# The only two commands a fresh machine needs are `make demo` and `make test`.
# Every target creates .venv from requirements/lock.txt (hash-locked) when it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# How requirements are locked.
COMPILE := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q
SOURCES := common client namesrv broker operator tools e2e examples conftest.py

.PHONY: chaos demo test test-peers test-kubernetes bench images e2e-kind pages lint format types e2e lock clean help

help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Start a cluster from a RocketMQCluster document, produce, consume, show it, stop it
	@$(BIN)/python -m rocketmq_tools.demo

test: $(STAMP) ## Every test this machine can run; what it cannot run is skipped with the reason
	$(BIN)/python -m pytest -m "not peers" -n auto --dist loadgroup $(PYTEST_ARGS)

test-peers: $(STAMP) ## Apache's Java clients, mqadmin, broker and the Go client against ours
	$(BIN)/python -m pytest -m peers e2e/peers -n 2 --dist loadfile $(PYTEST_ARGS)

bench: $(STAMP) ## Ours against Apache's broker in the same run; writes docs/performance.md and its picture
	$(BIN)/python -m e2e.performance $(or $(BENCH_ARGS),--write)

e2e: $(STAMP) ## Real processes on this machine
	$(BIN)/python -m pytest e2e/local $(PYTEST_ARGS)

chaos: $(STAMP) ## Crash states, failing calls, bit flips, kills, power cuts, full disks; CHAOS_ARGS=--long for hours
	$(BIN)/python -m e2e.chaos $(or $(CHAOS_ARGS),--short)

test-kubernetes: $(STAMP) ## The operator on a real kube-apiserver (builds it and Helm from Go modules once: some minutes; needs etcd-server)
	$(BIN)/python -m e2e.kubernetes.binaries
	$(BIN)/python -m pytest e2e/kubernetes $(PYTEST_ARGS)

images: $(STAMP) ## Container images of broker, name server and operator; BASE_IMAGE chooses the base; without a Docker engine one is started
	$(BIN)/python -m e2e.kind.images

e2e-kind: $(STAMP) ## The operator on a real cluster of three nodes (builds nodes from Go modules and Debian packages once; root)
	$(BIN)/python -m e2e.kubernetes.binaries --kind
	ROCKETMQ_REQUIRE_KIND=1 $(BIN)/python -m pytest e2e/kind $(PYTEST_ARGS)

pages: $(STAMP) ## Rewrite what is generated: reference pages, chart schemas, golden manifests, docs/protocol.md
	$(BIN)/python -m rocketmq_operator.tests.chart_schemas
	$(BIN)/python -m rocketmq_operator.tests.reference_page
	$(BIN)/python -m rocketmq_operator.tests.golden_files
	$(BIN)/python -m rocketmq_tools.protocol_page > docs/protocol.md
	$(BIN)/python -m rocketmq_tools.client_page > docs/client.md

lint: $(STAMP) ## ruff and the layer contracts
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --cache-dir .import_linter_cache

format: $(STAMP) ## Let ruff rewrite the sources
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy -p rocketmq_common -p rocketmq_remoting -p rocketmq_testkit -p rocketmq_client -p rocketmq_namesrv \
	  -p rocketmq_store -p rocketmq_broker -p rocketmq_operator -p rocketmq_tools

lock: ## Re-resolve requirements/*.txt from pyproject.toml (needs uv)
	uv pip compile pyproject.toml $(COMPILE) --extra operator --group dev -o requirements/lock.txt
	uv pip compile pyproject.toml $(COMPILE) --constraint requirements/lock.txt -o requirements/server.txt
	uv pip compile pyproject.toml $(COMPILE) --constraint requirements/lock.txt --extra operator -o requirements/operator.txt
	echo hatchling | uv pip compile - $(COMPILE) --constraint requirements/lock.txt -o requirements/build.txt

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
