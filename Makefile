# Everything runs in .venv, which `make` builds; nothing is needed but Python 3.11 or newer, make and git.
# A step that was interrupted is done again by the next make: its mark in .venv is written last.

PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
UV := UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_HTTP_TIMEOUT=180 UV_HTTP_RETRIES=5 VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv
APP ?= demo
PORT ?= 8080
RETRY = for try in 1 2 3; do $(1) && break; [ $$try = 3 ] && { echo "$(2)" >&2; exit 1; }; echo "Trying again"; sleep $$try; done

.DEFAULT_GOAL := setup
.PHONY: setup app demo serve test lint format bench lock clean help

setup: .venv/.ready ## Build .venv (the default)

.venv/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed and $(PYTHON) is not: set PYTHON=python3.11 or the like." >&2; exit 1; }
	@echo "> Making .venv"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv || { echo "The venv module is missing: on Debian and Ubuntu, apt-get install python3-venv." >&2; exit 1; }
	@$(call RETRY,$(BIN)/pip install -q --disable-pip-version-check --retries 5 --timeout 60 uv==$(UV_VERSION),uv could not be installed: check the network and run make again.)
	@touch $@

.venv/.ready: .venv/.uv requirements-dev.lock shared/pyproject.toml
	@echo "> Installing the locked packages into .venv"
	@$(call RETRY,$(UV) pip sync -q --require-hashes --compile-bytecode requirements-dev.lock,The packages could not be installed: check the network and run make again.)
	@$(call RETRY,$(UV) pip install -q --no-deps --compile-bytecode -e shared,firelaunch itself could not be installed: run make again.)
	@touch $@

app: setup ## Make an app under apps/, asking up to seven questions
	@$(BIN)/firelaunch new

demo: setup ## Make apps/demo, start it, talk to it; ONCE=1 ends after the exchange
	@$(BIN)/firelaunch demo $(if $(ONCE),--once) $(if $(filter file,$(origin PORT)),,--port $(PORT))

serve: setup ## Run an app in the foreground: make serve APP=demo PORT=8080
	@[ "$(APP)" != demo ] || [ -f apps/demo/firelaunch.toml ] || $(BIN)/firelaunch new --no-input app_name=Demo
	@exec $(BIN)/firelaunch serve $(APP) --port $(PORT)

test: lint ## Check style and types, and run all tests
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: setup ## Check style and types
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/mypy

format: setup ## Put the code into its form
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .

bench: setup ## Run the benchmarks, or one of them: make bench ONLY=start
	@$(BIN)/python -m bench $(ONLY)

lock: setup ## Renew the lock files
	@$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" shared/pyproject.toml --extra cloud -o requirements.lock
	@$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" shared/pyproject.toml --extra cloud --extra testing requirements-dev.in -c requirements.lock -o requirements-dev.lock

clean: ## Remove what make has built; apps stay
	@rm -rf .venv build

help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | awk -F: '{ printf "make %-8s %s\n", $$1, $$2 }'
