# `make` sets everything up; `make help` lists the rest. Nothing but Python 3.11+, make and git is needed.

ifeq ($(OS),Windows_NT)
$(error firelaunch runs on Linux and macOS, and on Windows under WSL. Install it in PowerShell with: wsl --install; then clone the repository there and run make)
endif

PYTHON ?= python3
APP ?= demo
BIN := .venv/bin

.DEFAULT_GOAL := setup
.PHONY: setup help app demo serve test test-long lint format mutants rules-score rules-fuzz deny-matrix formats clients fuzz-api fuzz-metering providers test-deploy soak chaos chaos-budget chaos-jobs chaos-rag chaos-stripe web types test-web bench house docs docs-site lock audit sbom clean pictures

##@ Begin

setup: ## Put everything into .venv; an interrupted set-up goes on where it stopped
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there: install Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) tools/setup.py

help: ## List these targets
	@awk -f tools/help.awk $(MAKEFILE_LIST)

app: setup ## Make an app under apps/, asking seven questions; elsewhere: make app INTO=../products
	@$(BIN)/firelaunch new $(if $(INTO),--into "$(INTO)")

demo: setup ## Make apps/demo, start it, talk to it, stay up; ONCE=1 ends after the exchange
	@exec $(BIN)/firelaunch demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

serve: setup ## Run an app of apps/ in the foreground: make serve APP=demo PORT=8080
	@[ "$(APP)" != demo ] || [ -e apps/demo ] || $(BIN)/firelaunch new --no-input app_name=Demo
	@exec $(BIN)/firelaunch serve $(if $(PORT),--port $(PORT)) "$(APP)"

##@ Check a change

lint: setup ## Check style and types
	@echo "ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; echo "Mend it with: make format" >&2; exit 1; }
	@echo "mypy (the first run takes half a minute), for this machine and for macOS"
	@$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin & macos=$$!; $(BIN)/mypy; here=$$?; wait $$macos && exit $$here

format: setup ## Format the code, and mend what ruff can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# Where bytecode is not kept, each worker would compile all tests anew, which takes it a quarter of a minute.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 3 --dist worksteal --durations=15

test: lint ## Check style and types, and run every test
	@echo "pytest"
	@$(PYTEST) $(ARGS)

test-long: setup ## Run the tests that 'make test' leaves out for their length
	@LONG=1 $(PYTEST) $(ARGS)

test-web: setup ## Go people's ways through the web client in Chromium: build/web.json, pictures in build/web; SHORT=1, ONLY=offline
	@PYTHONPATH=tests SHORT=$(SHORT) ONLY="$(ONLY)" $(BIN)/python -m web

mutants: setup ## Run the tests of metering, scope and admission against every small change of them: build/mutants.json; ONLY=scope, ONLY=slots, SHORT=1
	@ONLY="$(ONLY)" SHORT=$(SHORT) PYTHONPATH=tests $(BIN)/python -m mutants

##@ Write what is derived

docs: setup ## Write the settings, the rates, the architecture's picture, the costs, the limits of scale and the table of providers anew from the code
	@$(BIN)/python tools/settings_docs.py
	@$(BIN)/python tools/limits_docs.py
	@$(BIN)/python tools/architecture_docs.py
	@$(BIN)/python tools/cost_docs.py
	@$(BIN)/python tools/scale_docs.py
	@PYTHONPATH=tests $(BIN)/python -m providers.docs

docs-site: setup ## Build the documents as a site, and check their links: build/docs/site
	@$(BIN)/python tools/docs_site.py

pictures: setup ## Take the documents' pictures with Chromium (and Node), for docs-site: build/pictures
	@PYTHONPATH=tests $(BIN)/python -m pictures

types: setup ## Write the web client's types of the API anew, after a change of the API
	@PYTHONPATH=tests $(BIN)/python -m web.api_types

web: setup ## Build the template's web client, in build/; of an example: make web EXAMPLE=mealcoach; of an app: docs/web.md
	@PYTHONPATH=tests $(BIN)/python -m web.site $(EXAMPLE)

lock: setup ## Resolve the lock files anew
	@tools/lock

sbom: setup ## Write bills of materials of the locked packages (CycloneDX): build/sbom
	@$(BIN)/python tools/supply_chain.py sbom

##@ Measure and compare

bench: setup ## Run the benchmarks, or one: make bench ONLY=start; SHORT=1 only sees that they work
	@$(BIN)/python bench/run.py $(if $(SHORT),--short) $(ONLY)

house: setup ## Measure rooms, floors, circles and the files that a message walks through: build/house.json
	@PYTHONPATH=tests $(BIN)/python -m house

providers: setup ## Play the quirks of other people's model servers to the client that apps use: build/providers.json
	@PYTHONPATH=tests $(BIN)/python -m providers

formats: setup ## Read a sample of each format of documents, and the files of DIR: build/formats.json
	@PYTHONPATH=tests $(BIN)/python -m formats $(DIR)

clients: setup ## Generate clients of an app's API, compile them and run them, and lint its document: build/clients.json
	@PYTHONPATH=tests $(BIN)/python -m clients

audit: setup ## Look for known vulnerabilities of the locked packages; STRICT=1 fails where a database can't be reached
	@$(BIN)/python tools/supply_chain.py audit $(if $(STRICT),--strict)

##@ Security rules

rules-score: setup ## Run the cases for firestore.rules against every small change of the rules
	@mkdir -p build
	@$(BIN)/firelaunch test-rules firestore.rules tests/rules/cases.yaml --allow tests/rules/equivalent.yaml --json build/rules.json --html build/rules.html

rules-fuzz: setup ## Ask our parser and formulas of rules, and the emulator, about the same: make rules-fuzz EACH=2000 REQUESTS=5000
	@PYTHONPATH=tests $(BIN)/python -m rules_fuzz $(or $(EACH),2000) $(or $(REQUESTS),5000)

deny-matrix: setup ## Try every token, path and operation against firestore.rules, in Python and (with Node) JavaScript: build/deny.json
	@PYTHONPATH=tests $(BIN)/python -m deny_matrix

##@ Break it

fuzz-api: setup ## Fuzz a served app by its OpenAPI document: make fuzz-api EXAMPLES=300
	@PYTHONPATH=tests $(BIN)/python -m fuzz_api $(or $(EXAMPLES),300)

fuzz-metering: setup ## Compare what is settled with what a model server charged, whatever goes wrong: make fuzz-metering TURNS=10000
	@PYTHONPATH=tests $(BIN)/python -m fuzz_metering $(or $(TURNS),10000)

chaos: setup ## Play faults of the machine to a served app: disk, memory, clock, network, kill -9: build/chaos.json; ONLY=dns
	@ONLY="$(ONLY)" PYTHONPATH=tests $(BIN)/python -m chaos

chaos-budget: setup ## Kill processes while 1,000 guests use up a ceiling, against a model server's own books: build/chaos-budget.json
	@PYTHONPATH=tests $(BIN)/python -m chaos_budget

chaos-jobs: setup ## Kill workers at random while they have 1,000 jobs and schedules to do: build/chaos-jobs.json
	@PYTHONPATH=tests $(BIN)/python -m chaos_jobs

chaos-rag: setup ## Kill, delete and cancel in each phase of indexing and re-embedding: build/chaos-rag.json
	@PYTHONPATH=tests $(BIN)/python -m chaos_rag

chaos-stripe: setup ## Send Stripe's events shuffled, repeated, at once, and with losses: build/chaos-stripe.json
	@PYTHONPATH=tests $(BIN)/python -m chaos_stripe $(or $(EVENTS),10000) $(or $(SUBSCRIPTIONS),200)

soak: setup ## Load a served app for MINUTES=20; memory, threads, files and sockets stay flat: build/soak.json; ONLY=embedded
	@ONLY="$(ONLY)" PYTHONPATH=tests $(BIN)/python -m soak $(or $(MINUTES),20)

test-deploy: setup ## Deploy with the real gcloud to a server that plays Google's APIs; some minutes: build/deploy.json
	@PYTHONPATH=tests $(BIN)/python -m deploy
	@PYTHONPATH=tests $(BIN)/python -m deploy.verify_broken_off

##@ Begin anew

clean: ## Take away .venv and caches; apps and their data stay
	@rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
