PYTHON ?= python3
BIN := .venv/bin
# pip compiles the installed files on one core, which takes longer than the installation. compileall uses all cores and
# skips files that are never imported, nearly half of them. Some files do not compile, so its exit status is ignored.
INSTALL = $(BIN)/pip install -q --disable-pip-version-check --no-compile -r $< && \
	{ $(BIN)/python -m compileall -qq -j 0 -x '/(tests|plotly|networkx|mypyc?)/|/transformers/models/(?!__|auto|llama)' .venv/lib || true; }
MAKEFLAGS += -j3  # Chromium is downloaded while pip installs; numba compiles kernels while mypy runs

.PHONY: demo test fuzz lint lint-python lint-js chromium kernels test-kernels assets audit lock soak screenshots cluster

demo: .venv/installed ## install and start the page
	$(BIN)/python app.py

# Two test processes share the cores. Waiting OpenMP threads would slow the other process down if they spun.
test: lint chromium kernels test-kernels ## install what is needed, Chromium included, and run all tests but those on Ray
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --ignore tests/browser
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist worksteal tests/browser

fuzz: .venv/installed-dev ## send 10,000 random requests to every endpoint and hidden event
	FUZZ_REQUESTS=10000 $(BIN)/python -m pytest tests/fuzz -q --hypothesis-show-statistics

lint: lint-python lint-js ## formatters, linters, types and the direction of imports

lint-python: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Node and npm come from a wheel, so that only Python, make and git are required.
NPM = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm

lint-js: node_modules/installed ## formatter, linter and type checker of assets/js
	@$(NPM) run --silent lint

node_modules/installed: package-lock.json .venv/installed-dev
	@$(NPM) ci --silent --ignore-scripts
	@touch $@

chromium:
	@sh tests/browser/install_chromium.sh

kernels: .venv/installed
	@$(BIN)/python -m calm.engine.warmup story-k4 story-ar

# The models of the tests have float32 weights. Otherwise both test processes would compile the kernels for them.
test-kernels: .venv/installed-dev
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q tests/app/test_metrics.py tests/engine/test_runs.py -k "are_counted or kernels-1"

assets: .venv/installed ## rebuild the vector map and the example of the first screen
	$(BIN)/python -m calm map
	$(BIN)/python -m app.build

audit: .venv/installed ## licences and known vulnerabilities of the requirements
	$(BIN)/python -m tests.audit

lock: .venv/installed ## write requirements.lock: every package that the requirements need, with the hashes of its files
	$(BIN)/pip install -q --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--output-file requirements.lock requirements.txt

cluster: .venv/installed-cluster ## replicas on Ray: a text survives kill -9, the page computes on the cluster
	$(BIN)/python -m pytest tests/cluster/replicas_on_ray.py

soak: .venv/installed ## 1,000 requests of 32 clients with faults; writes the figures of docs/reliability.md
	$(BIN)/python -m benchmarks.soak --write

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

.venv/installed-cluster: requirements-cluster.txt .venv/installed-dev
	$(INSTALL)
	@touch $@
