# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
INSTALL = if [ -x $(UV) ]; then VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install -q --require-hashes -r $(1) \
	|| $(BIN)/pip install -q --require-hashes -r $(1); else $(BIN)/pip install -q --require-hashes -r $(1); fi
# All but catboost, which is large and only a challenger.
EXTRAS := --extra pipeline --extra ml --extra scale
EVALUATION_BARS = $(addprefix $(ALTFORECAST_REAL_DATA)/bars/,binance_perp_1h_2023-01_2025-08.parquet \
	bybit_perp_15m_2023-11_2025-08.parquet binance_spot_15m_2024.parquet binance_spot_15m_2025-01_2025-08.parquet)
EVALUATION_TRIED = $(shell sed -nE 's/^\| ([0-9]+-)?([0-9]+) .*/\2/p' docs/reports/forecast-configurations.md | tail -n 1)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-catboost demo up run test test-fast lint format types contracts check bench docs lock reports evaluate mlflow screenshots chromium clean

help: ## list all commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed; call make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment: install the package python3-venv"; exit 1; }
	@$(BIN)/pip install -q --require-hashes -r requirements/bootstrap.lock

.setup-run: requirements/run.lock pyproject.toml | $(BIN)/python
	@echo "installing AltForecast into $(VENV) ..."
	@$(call INSTALL,requirements/run.lock)
	@$(BIN)/python -m compileall -q altforecast altforecast_io altforecast_serving altforecast_cli || true
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/altforecast.pth"
	@printf '#!%s\nfrom altforecast_cli.main import app\napp()\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/altforecast && chmod +x $(BIN)/altforecast
	@touch $@

.setup-dev: .setup-run requirements/dev.lock
	@echo "installing test tools ..."
	@$(call INSTALL,requirements/dev.lock)
	@touch $@

setup: .setup-run ## make the environment in .venv
setup-dev: .setup-dev ## the same with test and lint tools

setup-catboost: .setup-run requirements/catboost.lock ## add the optional CatBoost challenger (about 400 MB with what it needs)
	@$(call INSTALL,requirements/catboost.lock)

demo: setup ## set up, then run the whole platform on a simulated market (no keys, no network)
	@$(BIN)/altforecast demo $(ARGS)

up: setup ## start all processes on live settings
	@$(BIN)/altforecast up $(ARGS)

run: up ## same as up

test: setup-dev ## set up, then run all tests
	@$(BIN)/python -m pytest $(ARGS)

test-fast: setup-dev ## tests without processes and browser
	@$(BIN)/python -m pytest -m "not slow and not e2e" $(ARGS)

lint: setup-dev ## ruff lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup-dev ## format all code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: setup-dev ## mypy, strict
	@$(BIN)/mypy

contracts: setup-dev ## who may import whom
	@$(BIN)/lint-imports

check: lint types contracts ## all static checks

bench: setup-dev ## run the benchmarks, write docs/performance.md
	@$(BIN)/python -m benchmarks

docs: setup ## regenerate the generated pages of docs/
	@$(BIN)/altforecast config --example > .env.example
	@$(BIN)/python -m altforecast.glossary > docs/glossary.md

reports: setup ## import and build the real files of ALTFORECAST_REAL_DATA, write docs/reports/real-data-run.md
	@$(BIN)/python -m benchmarks.real_data_run

evaluate: setup ## walk forward over the real bars of ALTFORECAST_REAL_DATA, write docs/reports/forecast-evaluation.md
	@$(BIN)/altforecast evaluate --bars $(EVALUATION_BARS) --test-from 2024-07-01 --tried $(EVALUATION_TRIED) \
		--json var/forecast-evaluation.json --resume --report docs/reports/forecast-evaluation.md $(ARGS)

mlflow: setup ## open the MLflow UI of the model registry (optional: nothing else needs it)
	@$(BIN)/altforecast models ui $(ARGS)

chromium: ## install Debian's chromium for the browser tests
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; }

screenshots: setup-dev chromium ## renew the screenshots of the README
	@ALTFORECAST_SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest tests/e2e -m e2e $(ARGS)

lock: setup-dev ## renew the lock files from pyproject.toml
	@$(UV) pip compile pyproject.toml --python-version 3.11 $(EXTRAS) --no-emit-index-url --no-strip-extras --generate-hashes \
		--no-header --no-annotate -q -o requirements/run.lock
	@$(UV) pip compile pyproject.toml --python-version 3.11 $(EXTRAS) --group test --group lint -c requirements/run.lock \
		--no-emit-index-url --no-strip-extras --generate-hashes --no-header --no-annotate -q -o requirements/dev.lock
	@$(UV) pip compile pyproject.toml --python-version 3.11 --extra catboost -c requirements/run.lock \
		--no-emit-index-url --no-strip-extras --generate-hashes --no-header --no-annotate -q -o requirements/catboost.lock

clean: ## remove the environment and caches (data in var/ stay)
	@rm -rf $(VENV) .setup-run .setup-dev .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage
