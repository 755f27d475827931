PYTHON ?= python3
BIN := .venv/bin
# pip compiles what it installs on one core, which takes longer than to install it; this takes all, and leaves out
# nearly half, which nothing imports. Some packages hold files that are no Python, which is told by the status alone.
INSTALL = $(BIN)/pip install -q --disable-pip-version-check --no-compile -r $< && \
	{ $(BIN)/python -m compileall -qq -j 0 -x '/(tests|plotly|networkx|mypyc?)/|/transformers/models/(?!__|auto|llama)' .venv/lib || true; }
MAKEFLAGS += -j3  # Chromium comes while pip installs, and numba compiles the kernels while mypy reads

.PHONY: demo test lint lint-python lint-js chromium kernels assets screenshots

demo: .venv/installed ## install and start the page
	$(BIN)/python app.py

# Two processes at once share two cores well only as long as a thread that waits does not spin.
test: lint chromium kernels ## install what is needed, Chromium included, and run everything
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --ignore tests/browser
	$(BIN)/python -m pytest tests/browser

lint: lint-python lint-js ## formatters, linters, types and the direction of imports

lint-python: .venv/installed-dev
	@rm -f app/components.pyi # Gradio writes this stub at import; it does not type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Node and npm come from a wheel, so that Python, make and git are all that must be there.
NPM = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm

lint-js: node_modules/installed ## formatter, linter and type checker of assets/js
	@$(NPM) run --silent lint

node_modules/installed: package-lock.json .venv/installed-dev
	@$(NPM) ci --silent --ignore-scripts
	@touch $@

chromium:
	@sh tests/browser/install_chromium.sh

kernels: .venv/installed
	@$(BIN)/python -m calm generate --device cpu --max-new-tokens 16 >/dev/null

assets: .venv/installed ## rebuild the vector map and the example of the first screen
	$(BIN)/python -m calm map
	$(BIN)/python -m app.build

screenshots: .venv/installed-dev chromium ## retake the pictures of the README
	$(BIN)/python -m tests.browser.screenshots

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(INSTALL)
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(INSTALL)
	@touch $@
