# Every command of the project; `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help demo run test check fast fix chaos hostile doctor bench api secrets compose-images mon profile config clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/ready ## set everything up, build examples/react-app through the service, show it live
	@$(RUN) cli.py demo

run: $(VENV)/ready ## serve on PORT (3001) until Ctrl-C, with all it needs
	@$(RUN) cli.py run

test: check ## all tests: what check runs, then sandboxes and the whole service, three at a time, then faults
	$(RUN) -m tests.with_engine $(VENV)/bin/pytest -q --durations=10 -n 3 --dist loadfile -m "(engine or e2e) and not faults"
	$(VENV)/bin/pytest -q --durations=10 -m faults

chaos: $(VENV)/ready ## the fault tests in full: 30 kills, 400 jobs, every fault of docs/reliability.md
	@$(RUN) -m tests.faults.chaos

hostile: $(VENV)/ready ## every hostile job of docs/security.md against the whole service, as a table
	@$(RUN) -m tests.hostile

check: $(VENV)/ready ## what needs no Docker: format, lint, types, spelling, fast tests with branch coverage
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/codespell
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest -q -m "not engine and not e2e and not faults and not hostile"
	$(VENV)/bin/coverage combine -q
	$(VENV)/bin/coverage report

fast: $(VENV)/ready ## only the fast tests
	@$(VENV)/bin/pytest -q -m "not engine and not e2e and not faults and not hostile"

fix: $(VENV)/ready ## format, and mend what the linter can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/ready ## measure against the bare host, plain docker run and other queues (see bench/README.md)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@$(RUN) -m bench

api: $(VENV)/ready ## write what is made from the API's own description: docs/api.md and examples/ts-client
	@$(RUN) cli.py reference > docs/api.md
	@cd examples/ts-client && npm ci --silent --no-audit --no-fund --ignore-scripts
	@$(RUN) cli.py openapi > examples/ts-client/openapi.json
	@cd examples/ts-client && npm run --silent generate && npm run --silent check

doctor: $(VENV)/ready ## say what this host lacks, and the fix of each
	@$(RUN) cli.py doctor

secrets: $(VENV)/ready ## write the secrets that docker-compose needs into .env; what is there stays
	@$(RUN) cli.py secrets

compose-images: $(VENV)/ready ## make the images that docker-compose.yml names, pulled or built here
	@PYTHON=$(RUN) deploy/images

mon: $(VENV)/ready ## what Redis is doing, command by command, until Ctrl-C
	@$(RUN) cli.py mon

profile: $(VENV)/ready ## where a process spends ten seconds: make profile PID=… writes .data/profile.svg
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check py-spy==0.4.2
	@mkdir -p .data && $(VENV)/bin/py-spy record --pid $(PID) --duration 10 --subprocesses --output .data/profile.svg

config: $(VENV)/ready ## the settings in effect, secrets hidden
	@$(RUN) cli.py config

clean: ## remove the virtual environment and all data
	rm -rf $(VENV) .data .coverage* .mypy_cache .pytest_cache .ruff_cache

# A Debian without python3-venv can import venv but not make one: the sentence names the package.
$(VENV)/ready: requirements.txt requirements-dev.txt
	@echo "Python environment: making $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; this is `$(PYTHON) --version`."; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv --clear $(VENV); } || \
	  { echo "No virtual environment can be made. Run: sudo apt-get install python3-venv"; exit 1; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
