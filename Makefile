# The only two commands a fresh machine needs are `make demo` and `make test`.
# Every target creates .venv from requirements/lock.txt (hash-locked) when it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := common client namesrv broker operator tools e2e

.PHONY: demo test test-peers bench lint format types e2e chaos lock crds docs clean help

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
	$(BIN)/python -m pytest -m peers e2e/peers $(PYTEST_ARGS)

bench: $(STAMP) ## Ours against Apache's broker in the same run; writes docs/performance.md and its picture
	$(BIN)/python -m e2e.performance $(BENCH_ARGS)

e2e: $(STAMP) ## Real processes on this machine
	$(BIN)/python -m pytest e2e/local $(PYTEST_ARGS)

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

lock: ## Re-resolve requirements/lock.txt from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra operator --group dev \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/lock.txt

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
