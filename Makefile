# Every target but help and clean starts from .venv, which is made anew when the lock or the package's data change.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help generate check-generated

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

generate: .venv ## Write gen/ from proto/
	$(BIN)/python tools/generate.py

check-generated: .venv ## Fail if gen/ is not what make generate writes
	$(BIN)/python tools/generate.py --check
