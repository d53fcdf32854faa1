# Every target but help and clean starts from .venv, which follows requirements.lock.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
VENV := .venv/.made
NODE := tests/clients/node/node_modules
LLAMACLOUD := tests/clients/llamacloud
SDKS := $(patsubst $(LLAMACLOUD)/requirements-%.txt,$(LLAMACLOUD)/.sdk-%/.made,$(wildcard $(LLAMACLOUD)/requirements-*.txt))
JOBS ?= 2
SOURCES := src tests tools examples $(wildcard bench)

.PHONY: help install serve test check format-check lint types layers buf breaking generate check-generated \
	format lock bench parity clean .venv

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: .venv ## Make .venv: the turnwire command, every extra and the tools
	@echo "Installed: $(BIN)/turnwire"

.venv: $(VENV)

# uv takes seconds where pip takes minutes; pip stands in where its own configuration is needed to reach an index.
$(VENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "turnwire needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock \
		|| $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline --editable .
	@touch $@

$(NODE)/.made: tests/clients/node/package.json tests/clients/node/package-lock.json tests/clients/node/.npmrc
	cd tests/clients/node && npm ci --silent
	@touch $@

# Each version of the SDK has a folder of its own: one environment holds one version.
$(LLAMACLOUD)/.sdk-%/.made: $(LLAMACLOUD)/requirements-%.txt $(VENV)
	rm -rf $(@D)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(@D) --require-hashes -r $< \
		|| $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r $<
	@touch $@

serve: .venv ## Run the server on its embedded defaults, and print lines to try
	@exec $(BIN)/turnwire serve $(ARGS)

test: .venv $(NODE)/.made $(SDKS) ## All tests on both stores; some of them: make test K=cursor
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(if $(K),-k '$(K)') $(ARGS)

check: format-check lint types layers buf breaking check-generated ## What CI runs besides the tests: format, lint, types, layers, buf, generated code

format-check: .venv
	$(BIN)/ruff format --check $(SOURCES)

lint: .venv
	$(BIN)/ruff check $(SOURCES)

types: .venv
	$(BIN)/mypy

layers: .venv
	$(BIN)/lint-imports

buf: .venv
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto

# Against the main that others have, else the local one; a clone without either, or a main without protos, has no base.
breaking: .venv
	@for base in origin/main main; do \
		git cat-file -e "$$base:buf.yaml" 2>/dev/null || continue; \
		git cat-file -e "$$base:proto" 2>/dev/null || continue; \
		old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT; \
		git archive "$$base" buf.yaml proto third_party | tar -x -C "$$old"; \
		echo "$(BIN)/buf breaking --against $$base"; \
		$(BIN)/buf breaking --against "$$old"; \
		exit; \
	done; \
	echo "buf breaking: no main with protos to compare with"

generate: .venv ## Write gen/ from proto/
	$(BIN)/python tools/generate.py

check-generated: .venv ## Fail if gen/ is not what make generate writes
	$(BIN)/python tools/generate.py --check

format: .venv ## Rewrite the Python and proto files in the one form that check accepts
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/buf format -w proto

lock: .venv ## Write requirements.lock from pyproject.toml; newer versions: make lock ARGS=--upgrade
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --all-extras --group dev $(ARGS) pyproject.toml -o requirements.lock

bench: .venv ## Measure turns, deltas and latencies beside a bare gRPC stream
	$(BIN)/python -m bench $(ARGS)

parity: .venv ## Serve the gateway over the parity protos: make parity PORT=8090
	@exec $(BIN)/python -m tests.gateway.serve_parity $(or $(PORT),8090)

clean: ## Remove what make made, .venv too; databases stay
	rm -rf .venv $(NODE) $(dir $(SDKS)) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src gen tests tools -name __pycache__ -prune -exec rm -rf {} +
