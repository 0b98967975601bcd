# Two commands matter: `make demo` shows it, `make test` proves it. Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 3
BENCH ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: image manifests help install demo test check soak rounds faults bench lock conformance clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

install: $(STAMP) ## Make the virtual environment from the lock file

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version 2>&1). Set PYTHON=python3.11." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Could not make a virtual environment. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (once, and after each change of the lock file)"
	@$(PIP) install --require-hashes --no-deps --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## See an agent query a database (ARGS="--once", ARGS="--port 0")
	@$(BIN)/gateway demo $(ARGS)

test: $(STAMP) ## Run every test, against private copies of real servers
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --durations=10 $(ARGS)

check: $(STAMP) ## Lint, formatting, types, insecure code, and packages with known vulnerabilities
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/bandit --quiet --recursive gateway --configfile pyproject.toml
	@$(BIN)/python -m tests.checks.advisories

soak: $(STAMP) ## Half an hour under load that must leave no trace (ARGS="--minutes 5"), then `make rounds`
	@$(BIN)/python -m tests.soak $(ARGS)
	@$(MAKE) --no-print-directory rounds ARGS=

rounds: $(STAMP) ## The same tests with many more rounds
	@GATEWAY_TEST_ROUNDS=$${GATEWAY_TEST_ROUNDS:-2000} $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --timeout=3600 $(ARGS)

faults: $(STAMP) ## Break everything around a gateway under load, print what callers saw (ARGS="-k mariadb", ARGS="--write")
	@$(BIN)/python -m tests.faults $(ARGS)

bench: $(STAMP) ## Measure what a call costs, beside others (BENCH=call, ARGS="--rounds 3")
	@$(BIN)/python -m tests.bench $(BENCH) $(ARGS)

conformance: $(STAMP) ## Run the official MCP conformance suites (needs npm)
	@$(BIN)/python -m tests.conformance.run $(ARGS)

image: ## Build the container image with the engine that is there (IMAGE=name:tag, ENGINE=podman)
	@engine="$(ENGINE)"; \
	for each in docker podman buildah; do \
		if [ -z "$$engine" ] && command -v $$each >/dev/null && $$each info >/dev/null 2>&1; then engine=$$each; fi; \
	done; \
	if [ -z "$$engine" ]; then \
		echo "No container engine answers: neither docker, podman nor buildah is there and running." >&2; \
		echo "Install or start one (Debian: apt-get install podman), or name yours: make image ENGINE=..." >&2; \
		exit 1; \
	fi; \
	version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' gateway/__init__.py); \
	image="$(IMAGE)"; test -n "$$image" || image=localhost/mcp-database-gateway:$$version; \
	case "$$engine" in *docker*) format=;; *) format="--format docker";; esac; \
	echo "Building $$image with $$engine"; \
	$$engine build $$format --file Containerfile --tag "$$image" --build-arg VERSION=$$version \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(ARGS) .

manifests: $(STAMP) ## Render and check the Kubernetes manifests (needs kubectl 1.25, or fetches one)
	@$(BIN)/python -m tests.k8s.check
	@$(BIN)/python -m pytest -q tests/k8s --ignore=tests/k8s/test_image.py --ignore=tests/k8s/test_rolling.py $(ARGS)

lock: $(STAMP) ## Resolve the dependencies anew
	@$(PIP) install uv
	@$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --output-file requirements.lock

clean: ## Remove what the other commands made
	rm -rf $(VENV) .cache dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
