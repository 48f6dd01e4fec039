# The verbs of storefront. `make` lists them. The workflow and .ci/run call these and nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Another Python than the one that scripts/setup.sh finds: make PYTHON=python3.12 run
PYTHON ?=
# More words for the tool behind a verb: make test ARGS="-k ready -x"
ARGS ?=

BIN := .venv/bin
PY := $(BIN)/python
SERVICES := catalogue user gateway links
PYPROJECTS := chassis/pyproject.toml functions/redirect/pyproject.toml $(SERVICES:%=services/%/pyproject.toml) stack/pyproject.toml

##@ Use

.PHONY: run
run: setup  ## Serve the whole storefront on http://127.0.0.1:8000; Ctrl-C stops it
	@exec $(PY) -m stack $(ARGS)

.PHONY: observe
observe: setup  ## Watch what `make run` serves with Prometheus and Alertmanager, on http://127.0.0.1:9090
	@exec $(PY) -m stack observe

.PHONY: bench
bench: setup  ## Measure it beside its peers, with wrk (a quarter of an hour)
	@$(PY) -m loadtest.bench $(ARGS)

LOCUST = $(BIN)/locust --config loadtest/locust.conf
LOAD_DIR = .run/load
.PHONY: load
load: setup  ## Visit what `make run` serves for a minute, and judge it; ARGS="--shape ramp" for more
	@exec $(LOCUST) --headless --shape smoke --csv $(LOAD_DIR)/load --html $(LOAD_DIR)/report.html \
		--json-file $(LOAD_DIR)/load $(ARGS)

.PHONY: load-ui
load-ui: setup  ## The same with locust's web interface, on http://127.0.0.1:8089
	@exec $(LOCUST) --web-host 127.0.0.1 --users 100 --spawn-rate 20 $(ARGS)

# Under three minutes, to see that it runs: make evidence QUICK=1
QUICK ?=
.PHONY: evidence
evidence: setup  ## Measure every claim, before and after, and write a report (15 minutes; QUICK=1: 3)
	@sh scripts/uv.sh pip install --quiet --python $(PY) --require-hashes -r requirements/peers.txt || \
		echo "Envoy could not be installed here: the report will say that it was not measured." >&2
	@$(PY) -m loadtest.evidence $(if $(QUICK),--quick) $(ARGS)

.PHONY: sizing
sizing: setup images  ## Measure what a pod of each service does within its limits, with Docker (6 minutes)
	@$(PY) -m loadtest.sizing $(if $(QUICK),--quick) $(ARGS)

##@ Containers

.PHONY: up
up: images  ## The same and what watches it, in containers: http://localhost:8000, Grafana on :3000
	@sh scripts/up.sh $(ARGS)

.PHONY: down
down:  ## Stop what `make up` started; the data stays
	@sh scripts/up.sh --down

# More words for docker build: make images IMAGE_FLAGS="--network host"
IMAGE_FLAGS ?=
.PHONY: images
images:  ## Build the image of every service
	@for service in $(SERVICES); do \
		echo "storefront-$$service:1.0.0" && \
		DOCKER_BUILDKIT=1 docker build --quiet --build-arg SERVICE=$$service \
			--build-arg COMMIT="$$(git rev-parse --short=10 HEAD 2>/dev/null || echo unknown)" \
			--tag storefront-$$service:1.0.0 $(IMAGE_FLAGS) . >/dev/null || exit; \
	done

.PHONY: sbom
sbom: setup  ## Write a bill of materials of each image and of the function to build/sbom (CycloneDX)
	@$(PY) -m scripts.sbom

##@ Check

.PHONY: test
test: setup  ## Test against a real PostgreSQL and Valkey; ARGS="-k ready" for some
	@$(PY) -m pytest -n $$(($$($(PY) -c 'import os; print(os.cpu_count() or 1)') * 2)) --dist worksteal \
		-m "not slow and not rules and not containers and not kubernetes and not faults and not hostile" $(ARGS)

.PHONY: test-slow
test-slow: setup  ## Run the tests that take long: end to end, fuzzing, memory, packaging
	@$(PY) -m pytest -n 3 --dist worksteal -m slow $(ARGS)

# Everything, three times, for an hour and a quarter: make faults LONG=1
# Where its percentiles leave a promise open: make faults LONG=1 ROUNDS=9 ARGS="-k read_only"
LONG ?=
ROUNDS ?=
.PHONY: faults
faults: setup  ## Cut real parts of a whole storefront while traffic flows (5 minutes; LONG=1 for more)
	@LONG='$(LONG)' ROUNDS='$(ROUNDS)' $(PY) -m pytest -m faults tests/faults $(ARGS)

.PHONY: hostile
hostile: setup  ## Send it what a stranger may send (3 minutes; LONG=1 for more)
	@LONG='$(LONG)' $(PY) -m pytest -n 2 --dist worksteal -m hostile tests/hostile $(ARGS)

.PHONY: rules
rules: setup  ## Check and test alerts, recording rules, log pipelines and dashboards
	@$(PY) -m pytest -n 2 --dist worksteal -m rules tests/observability $(ARGS)

.PHONY: k8s-check
k8s-check: setup  ## Render what is in k8s/, validate it and hold it against the code
	@$(PY) -m pytest -n 2 --dist worksteal -m "kubernetes and not containers" tests/kubernetes $(ARGS)

.PHONY: test-containers
test-containers: setup  ## Build the images, bring the storefront up with Docker and test it
	@$(PY) -m pytest -m containers tests/containers tests/kubernetes $(ARGS)

.PHONY: lint
lint: style typecheck imports lock-check text  ## Check style, types, imports between packages, pins and text

.PHONY: typecheck
typecheck: setup  ## Check types
	@$(PY) -m mypy

.PHONY: lock-check
lock-check: setup  ## Check that the pins are what every pyproject.toml asks for
	@$(PY) scripts/check_pins.py

# An accepted one is in requirements/accepted.toml. Without the internet it says so and passes; ARGS=--online fails then.
.PHONY: audit
audit: setup  ## Check that nothing that is pinned has a known vulnerability
	@$(PY) -m scripts.audit $(ARGS)

.PHONY: style imports text
style: setup
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
imports: setup
	@$(BIN)/lint-imports --no-logo
text: setup
	@$(PY) scripts/check_text.py
	@$(PY) scripts/variables.py --check
	@$(PY) scripts/figures.py --check
	@$(PY) -m scripts.licences --check

##@ Change

.PHONY: format
format: setup  ## Format the code and mend what can be mended by itself
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

.PHONY: docs
docs: setup  ## Write what the READMEs and .env.example take from the code and the last results anew
	@$(PY) scripts/variables.py
	@$(PY) scripts/figures.py

.PHONY: licences
licences: setup  ## Write the list of what is shipped and under which licence anew
	@$(PY) -m scripts.licences

.PHONY: dashboards
dashboards: setup  ## Make Grafana's dashboards anew, from Python and the runbook
	@$(PY) -m observability.grafana.generator

# dev.txt first; the services take its versions, so that what is tested is what is shipped.
COMPILE = sh scripts/uv.sh pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-emit-package storefront-chassis --no-emit-package storefront-links-lookup \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
.PHONY: lock
lock: setup  ## Compile the pins in requirements/; UPGRADE=1 takes the newest versions
	@$(COMPILE) requirements/uv.in -o requirements/uv.txt
	@$(COMPILE) requirements/dev.in $(PYPROJECTS) --all-extras -o requirements/dev.txt
	@$(COMPILE) requirements/peers.in -o requirements/peers.txt
	@for service in $(SERVICES); do \
		$(COMPILE) services/$$service/pyproject.toml -c requirements/dev.txt -o requirements/$$service.txt || exit; \
	done
	@$(COMPILE) requirements/load.in -c requirements/dev.txt -o requirements/load.txt
	@$(COMPILE) k8s/tools/requirements.in -c requirements/dev.txt -o k8s/tools/requirements.txt
	@$(COMPILE) functions/redirect/pyproject.toml --extra function -c requirements/dev.txt -o functions/redirect/requirements.txt

##@ House

.PHONY: setup
setup:  ## Make .venv (every verb does so when it has to); PYTHON=python3.12 for another Python
	@PYTHON='$(PYTHON)' sh scripts/setup.sh

.PHONY: clean
clean:  ## Remove .venv and every cache; the data in .run stays
	@rm -rf .venv .venv.lock .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis \
		build tests/observability/node/node_modules k8s/tools/node_modules k8s/tools/python k8s/tools/kubectl
	@find . -path ./.git -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## List the verbs
	@awk 'BEGIN { FS = ":.*  ## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*  ## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
