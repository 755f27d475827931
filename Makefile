PYTHON ?= python3
BIN := .venv/bin
# pip compiles what it installs on one core, which takes longer than to install it; this takes all. Some packages hold
# files that are no Python, which is told by the status alone.
INSTALL = $(BIN)/pip install -q --disable-pip-version-check --no-compile -r $< && \
	{ $(BIN)/python -m compileall -qq -j 0 .venv/lib || true; }

.PHONY: demo test lint assets screenshots

demo: .venv/installed ## install and start the page
	$(BIN)/python app.py

test: .venv/installed-dev lint ## install what is needed, Chromium included, and run everything
	@sh tests/browser/install_chromium.sh
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	@rm -f app/components.pyi # Gradio writes this stub at import; it does not type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

assets: .venv/installed ## rebuild the vector map and the example of the first screen
	$(BIN)/python -m calm map
	$(BIN)/python -m app.build

screenshots: .venv/installed-dev ## retake the pictures of the README
	@sh tests/browser/install_chromium.sh
	$(BIN)/python -m tests.browser.screenshots

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(INSTALL)
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(INSTALL)
	@touch $@
