# Everything a developer runs. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where the fleet keeps what it built, outside the checkout; roles/local_fleet has the same default.
export MODELFLEET_HOME ?= $(HOME)/.cache/modelfleet
export MODELFLEET_LOGS ?= $(MODELFLEET_HOME)/logs

PYTHON ?= python3
BIN := .venv/bin
STAGES := ANSIBLE_STDOUT_CALLBACK=modelfleet.serving.stages
PLAYBOOK := $(BIN)/ansible-playbook
FLEET := $(STAGES) $(PLAYBOOK) playbooks/local_fleet.yml

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: env
env: .venv/.complete build/collections/ansible_collections/modelfleet/serving ## Make the locked Python environment

# uv, from the machine or from PyPI into an environment of its own.
UV := $(or $(shell command -v uv 2>/dev/null),build/uv/bin/uv)
build/uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv build/uv \
		|| { echo "Python's venv is missing: install python3-venv, or uv"; exit 1; }
	@build/uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/.complete: requirements.lock $(filter build/%,$(UV))
	@echo "The Python environment"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	@touch $@

# The checkout under the name that Ansible knows it by.
build/collections/ansible_collections/modelfleet/serving:
	@mkdir -p $(@D) && ln -sfn ../../../.. $@

.PHONY: fleet
fleet: env ## Make the local fleet: three clusters and their endpoint
	@$(FLEET)

.PHONY: demo
demo: fleet ## Serve models from three clusters, lose one of them and no request
	@$(STAGES) $(PLAYBOOK) modelfleet.serving.site
	@$(STAGES) $(PLAYBOOK) modelfleet.serving.demo

.PHONY: status
status: env ## Show clusters, models, versions, health and traffic
	@$(STAGES) $(PLAYBOOK) modelfleet.serving.status

.PHONY: clean
clean: env ## Remove the clusters and the endpoint, keep what was built
	@$(FLEET) --extra-vars local_fleet_state=absent

.PHONY: distclean
distclean: env ## Remove the fleet with everything that was built, and the environment
	@$(FLEET) --extra-vars local_fleet_state=absent --extra-vars local_fleet_purge=true
	@rm -rf .venv build

.PHONY: conformance
conformance: env ## Check a prediction server: SERVER=host:rest_port:grpc_port, or the local fleet's own
	@tests/conformance/run "$(SERVER)"

# The quality gates are pytest tests, one line each with its time. Unit tests and gates share the two workers.
# `make test` leaves out what is slow, by SELECT; each target by itself runs all of its tests.
SELECT ?=
PYTEST = $(BIN)/pytest $(SHOWN)
SHOWN = -vv --tb=short $(SELECT)

.PHONY: lint
lint: env ## Check style, types, YAML, Ansible and the changelog
	@$(PYTEST) -n 2 tests/sanity/test_lint.py

.PHONY: unit
unit: env ## Run the unit tests, without Docker
	@$(BIN)/pytest -n 2 -m 'not ansible and not kubernetes' tests/unit tests/benchmarks

.PHONY: doors
doors: env ## Run the same tasks inside the controller, as modules, and behind a real sshd
	@$(PYTEST) -n 2 --dist loadfile tests/doors

# The lock gives each Python another ansible-core, so these are its environments; one of them is .venv.
VERSIONS := 2.19 2.20 2.21
PYTHON_2.19 := 3.11
PYTHON_2.20 := 3.12
PYTHON_2.21 := 3.13
OURS = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
OTHER_VERSIONS = $(foreach version,$(VERSIONS),$(if $(filter $(PYTHON_$(version)),$(OURS)),,$(version)))

# uv takes a Python from the path, or downloads one; pyenv keeps its own off the path.
with_python = export PATH="$$PATH:$$(printf '%s:' "$$(pyenv root 2>/dev/null)"/versions/$(1).*/bin)"
build/versions/%/.complete: requirements.lock $(filter build/%,$(UV))
	@echo "The Python environment with ansible-core $*"
	@$(call with_python,$(PYTHON_$*)); \
		test -x $(@D)/bin/python || $(UV) venv --quiet --python $(PYTHON_$*) $(@D)
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python $(@D)/bin/python requirements.lock
	@$(@D)/bin/python -c 'from ansible.release import __version__ as v; assert v.startswith("$*."), v'
	@touch $@

# The sanity tests of two versions take a processor each; the others measure time.
.PHONY: versions
versions: env $(OTHER_VERSIONS:%=build/versions/%/.complete) ## Run what starts Ansible, and its sanity tests, with every other ansible-core
	@failed=; for version in $(OTHER_VERSIONS); do \
		echo "ansible-core $$version"; \
		build/versions/$$version/bin/pytest -n 2 --dist loadfile tests/doors || failed="$$failed doors-$$version"; \
	done; \
	$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=target $(OTHER_VERSIONS:%=sanity-%) \
		|| failed="$$failed sanity"; \
	if [ -n "$$failed" ]; then echo "Failed with other versions:$$failed"; exit 1; fi

.PHONY: $(VERSIONS:%=sanity-%)
$(VERSIONS:%=sanity-%): sanity-%: build/versions/%/.complete
	@echo "ansible-core $*"
	@build/versions/$*/bin/pytest $(SHOWN) tests/sanity/test_ansible_test.py

.PHONY: sanity
sanity: env ## Run ansible-test sanity
	@$(PYTEST) tests/sanity/test_ansible_test.py

.PHONY: package
package: env ## Build the collection, install it into a clean place and look at it there
	@$(PYTEST) tests/sanity/test_package.py

# Beside the development environment, since botocore and the Kubernetes client want different versions of python-dateutil.
build/balancers/python/.complete: tests/balancers/requirements.lock .venv/.complete
	@echo "The Python environment of the clouds' balancers"
	@$(UV) venv --quiet --clear --python $(BIN)/python build/balancers/python
	@$(UV) pip sync --quiet --require-hashes --python build/balancers/python $<
	@touch $@

CLOUDS := $(patsubst %,tests/balancers/test_%.py,cloudflare google_cloud route53 traffic_manager)
.PHONY: balancers
balancers: env build/balancers/python/.complete ## Run the tests of each balancer, against the real one or a cloud's stand-in
	@$(PYTEST) $(CLOUDS:%=--ignore %) tests/balancers
	@build/balancers/python/bin/pytest -n 2 $(SHOWN) $(CLOUDS)

.PHONY: faults
faults: env build/balancers/python/.complete ## Run the tests of what goes wrong in a real fleet, on the local one
	@$(PYTEST) --ignore tests/faults/test_cloud_endpoints.py tests/faults
	@$(if $(SELECT),,build/balancers/python/bin/pytest $(SHOWN) tests/faults/test_cloud_endpoints.py)

.PHONY: routes
routes: env ## Run the tests of the routes through the local fleet's real edge
	@$(PYTEST) tests/routes

.PHONY: images
images: env ## Run the tests of images, with a real Docker engine and on the local fleet
	@$(PYTEST) tests/images

# Beside the development environment, since an object store brings much.
build/stores/python/.complete: tests/stores/requirements.lock .venv/.complete
	@echo "The Python environment of the object store"
	@$(UV) venv --quiet --clear --python $(BIN)/python build/stores/python
	@$(UV) pip sync --quiet --require-hashes --python build/stores/python $<
	@touch $@

.PHONY: stores
stores: env build/stores/python/.complete ## Run the tests of filling, verifying and emptying stores, on the local fleet
	@$(PYTEST) tests/stores

# Beside the development environment, since Event-Driven Ansible brings its own ansible-core and much else.
build/automation/.complete: tests/automation/requirements.lock $(filter build/%,$(UV))
	@echo "The Python environment of Event-Driven Ansible"
	@$(call with_python,$(PYTHON_2.21)); $(UV) venv --quiet --clear --python $(PYTHON_2.21) build/automation/python
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python build/automation/python/bin/python $<
	@touch $@

.PHONY: autoscaling
autoscaling: env ## Run the tests of scaling by metrics of one's own, with a real Prometheus on the local fleet
	@$(PYTEST) tests/autoscaling

.PHONY: automation
automation: env test-packages build/automation/.complete ## Run the tests of the automatic failover, some of them on the local fleet
	@build/automation/python/bin/pytest $(SHOWN) tests/automation

.PHONY: molecule
molecule: env ## Run the molecule scenarios on the local fleet
	@$(PYTEST) tests/scenarios

# Beside the development environment, since the package ansible, which brings kubernetes.core, is big.
build/bench/python/.complete: tests/benchmarks/requirements.lock .venv/.complete
	@echo "The benchmark's Python environment"
	@$(UV) venv --quiet --clear --python $(BIN)/python build/bench/python
	@$(UV) pip install --quiet --compile-bytecode --no-deps --only-binary :all: --require-hashes --python build/bench/python --requirement $<
	@touch $@

.PHONY: bench
bench: fleet build/bench/python/.complete build/automation/.complete ## Measure applying a bundle, rolling out a version, verifying a store, failing over
	@$(STAGES) $(PLAYBOOK) -i localhost, tests/benchmarks/setup.yml
	@build/bench/python/bin/python tests/benchmarks/apply.py
	@build/bench/python/bin/python tests/benchmarks/rollout.py
	@$(BIN)/python tests/benchmarks/verify.py
	@$(BIN)/python tests/benchmarks/planner.py
	@$(STAGES) $(PLAYBOOK) modelfleet.serving.site
	@$(BIN)/python tests/benchmarks/failover.py

# What only tests use, where it can be installed; elsewhere the tests that need it are skipped, and say so.
# A command, and after a colon its package where that is called otherwise.
TEST_PACKAGES := haproxy chromium busybox sshd:openssh-server named:bind9 java:default-jre-headless
.PHONY: test-packages
test-packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then for package in $(TEST_PACKAGES); do \
		PATH="$$PATH:/usr/sbin" command -v $${package%%:*} >/dev/null && continue; \
		package=$${package##*:}; \
		echo "Installing $$package"; \
		{ apt-get update && apt-get install --yes --no-install-recommends $$package; } >/dev/null || exit 1; \
	done; fi

# Every part runs, also after one has failed, so that one run shows all there is to mend, and how long each takes. What
# failed is said again at the end, after everything that scrolled past.
.PHONY: test
test: env test-packages ## Run everything
	@set -o pipefail; failed=; mkdir -p build/test; part() { \
		name=$$1; start=$$SECONDS; shift; \
		"$$@" 2>&1 | tee build/test/$$name.log || failed="$$failed $$name"; \
		echo "$$name: $$((SECONDS - start)) s"; \
	}; \
	part unit $(BIN)/pytest -n 2 tests/unit tests/benchmarks; \
	part sanity $(PYTEST) -n 2 --dist loadfile tests/sanity; \
	part doors $(MAKE) --no-print-directory doors; \
	part versions $(MAKE) --no-print-directory versions; \
	for target in fleet balancers conformance faults routes images stores autoscaling automation molecule; do \
		part $$target $(MAKE) --no-print-directory SELECT="-m 'not slow'" $$target; \
	done; \
	for name in $$failed; do \
		echo "$$name, the whole of it in build/test/$$name.log:"; \
		sed -n '/^=.* short test summary info =/,/^=/p' build/test/$$name.log | cut -c1-2000 | grep . \
			|| tail -n 20 build/test/$$name.log; \
	done; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed"; exit 1; fi
