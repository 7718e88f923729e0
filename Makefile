# Two commands: `make demo` shows the whole system, `make test` tests it. The first of either sets everything up.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check bench torture setup clean
.DELETE_ON_ERROR:

demo: setup            ## the whole system with two dozen players, until Ctrl-C; SECONDS=120 ends by itself
	$(BIN)/headrace demo $(if $(SECONDS),--seconds $(SECONDS))

test: setup            ## every test, the real stack and a browser included
	$(BIN)/python -m tests.whole

check: setup           ## what is quick: style, types, import rule, tests without the stack
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not stack and not browser"

bench: setup           ## measurements, build/bench/<name>.json; ONLY=loader runs one
	$(BIN)/python -m infra.bench $(if $(ONLY),--only $(ONLY))

torture: setup         ## faults at random under load, build/bench/torture.json; SECONDS, SEED
	$(BIN)/python -m infra.bench.torture $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

clean:                 ## what commands wrote here; the virtual environment and downloads stay
	@for dir in .headrace .headrace/demo*; do HEADRACE_STATE_DIR=$$dir $(BIN)/headrace down 2>/dev/null || true; done
	rm -rf build .headrace .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Set-up: each step runs again only when what it reads has changed.
setup: $(VENV)/.headrace-setup

$(VENV)/.headrace-venv:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on this machine. Do: install Python 3.11, or name yours with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) infra/stack/preflight.py
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.headrace-lock: requirements.lock $(VENV)/.headrace-venv
	@$(BIN)/python infra/stack/install.py requirements.lock
	@touch $@

$(VENV)/.headrace-package: pyproject.toml $(VENV)/.headrace-lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.headrace-setup: infra/stack/jars.toml $(wildcard edge/board/package-lock.json) $(VENV)/.headrace-package
	@$(BIN)/headrace setup
	@touch $@
