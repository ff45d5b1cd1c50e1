PYTHON ?= python3
PIP := .venv/bin/python -m pip

.DEFAULT_GOAL := help
.PHONY: help demo test lab app bench audit lint lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## compare the channels of the shipped scenario; results in out/demo
	.venv/bin/sendlab compare notebooks/scenarios/team_day.toml --out out/demo

# Two at a time: some tests mostly wait. A file stays in one process, and the long ones come early in the alphabet.
test: lint ## run the checkers and all tests
	.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

lab: .venv/installed ## open the notebooks in JupyterLab
	.venv/bin/sendlab lab

app: .venv/installed ## ask which channel in a browser, without code
	.venv/bin/sendlab app

bench: .venv/installed ## run the benchmarks
	.venv/bin/python -m benchmarks

audit: .venv/installed ## audit other people's mailers again, and write AUDIT.md
	.venv/bin/python tests/mailers.py

lint: .venv/installed ## run ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy simlib fake_servers loadtests

lock: .venv/installed ## pin the newest versions that pyproject.toml allows
	.venv/bin/uv pip compile pyproject.toml --extra test --extra dev --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements.lock

clean: ## remove .venv and everything else that was made
	rm -rf .venv out dist .hypothesis .mypy_cache .pytest_cache .ruff_cache node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +

# pip -qq hides all but errors.
.venv/installed: requirements.lock pyproject.toml
	@echo "Installing into .venv: takes a minute or two"
	@$(PYTHON) -m venv .venv
	@$(PIP) -qq --disable-pip-version-check install --require-hashes -r requirements.lock
	@$(PIP) -qq --disable-pip-version-check install --no-deps --no-build-isolation -e .
	@touch $@
