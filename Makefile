# Everything that one needs, as targets. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first Python that is 3.11 or later. Say PYTHON=... to choose another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools/bin
export PATH := $(CURDIR)/$(TOOLS):$(PATH)

GRPCURL := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
GHZ := github.com/bojand/ghz/cmd/ghz@v0.121.0

# Code that a newer generator made refuses an older runtime, so the generator is the oldest release that we support.
PROTO_TOOLS := grpcio-tools==1.74.0 googleapis-common-protos==1.70.0 mypy-protobuf==5.1.0
PROTO_VENV := build/proto-venv
BENCH_VENV := build/bench-venv
PROTO_FILES := $(wildcard protos/stepwire/v1/*.proto)
# What buf compares the contract with: main where it is another commit, else the commit before.
AGAINST ?= $(shell for c in main origin/main HEAD~1; do \
	git cat-file -e $$c:protos 2>/dev/null && [ "$$(git rev-parse $$c)" != "$$(git rev-parse HEAD)" ] && echo $$c && break; done)
LOWEST := grpcio==1.74.0 grpcio-status==1.74.0 grpcio-health-checking==1.74.0 grpcio-reflection==1.74.0 \
	grpcio-testing==1.74.0 protobuf==6.31.1
# The same, and what comes with them, in whatever release is the newest.
NEWEST := $(foreach pinned,$(LOWEST),$(firstword $(subst ==, ,$(pinned)))) googleapis-common-protos

.PHONY: help
help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# -- Installing

.PHONY: python
python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Stepwire needs Python 3.11 or later, and none was found. Install one, or say: make PYTHON=/path/to/python"; \
		exit 1; fi

$(VENV)/.created: | python
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run: pyproject.toml | $(VENV)/.created
	@echo "Installing Stepwire into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli,server]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	@echo "Installing Stepwire and what its tests need into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.run

.PHONY: bench-venv
bench-venv: $(BENCH_VENV)/.installed ## Installs what the benchmark needs into build/bench-venv.

$(BENCH_VENV)/.installed: pyproject.toml | python
	$(PYTHON) -m venv $(BENCH_VENV)
	@echo "Installing Stepwire and what it is measured beside into $(BENCH_VENV) ..."
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

.PHONY: tools
tools: $(TOOLS)/grpcurl $(TOOLS)/ghz ## Installs grpcurl and ghz into build/tools/bin, where they are missing. Needs Go.

# Takes the program that the machine has, else builds the one of $(1).
define program
	@mkdir -p $(TOOLS)
	@if command -v $(@F) >/dev/null; then ln -sf "$$(command -v $(@F))" $@; \
	elif command -v go >/dev/null; then \
		echo "Installing $(@F) $(lastword $(subst @, ,$(1))) into $(TOOLS) ..."; \
		GOBIN=$(CURDIR)/$(TOOLS) go install $(1); \
	else \
		echo "NOT RUN: $(@F) is missing, and Go, which would install it, too. Its tests will be reported as not run."; \
	fi
endef

$(TOOLS)/grpcurl:
	$(call program,$(GRPCURL))

$(TOOLS)/ghz:
	$(call program,$(GHZ))

# -- Running

.PHONY: demo
demo: $(VENV)/.run ## Starts a server, runs three queries with live progress, ends.
	$(BIN)/stepwire-server demo

.PHONY: serve
serve: $(VENV)/.run ## Keeps a server running on localhost:50051.
	$(BIN)/stepwire-server serve

# -- Testing

# Tests that start servers, kill them and wait for them run two at a time, those of a file one after another; all others on
# all cores.
SERVERS := tests/e2e tests/faults tests/transport
PAIRED := --numprocesses 2 --dist loadfile $(SERVERS)
TOGETHER := --numprocesses auto --maxprocesses 8 $(SERVERS:%=--ignore=%)
# Whoever chooses tests (PYTEST_ARGS="-k ...") may choose none of one kind.
CHOSEN = $(if $(PYTEST_ARGS),|| [ $$? = 5 ])

.PHONY: test
test: $(VENV)/.dev tools ## Runs all tests. PYTEST_ARGS="-k name" chooses some.
	$(BIN)/python -m pytest -q $(TOGETHER) $(PYTEST_ARGS) $(CHOSEN)
	$(BIN)/python -m pytest -q $(PAIRED) $(PYTEST_ARGS) $(CHOSEN)

.PHONY: coverage
coverage: $(VENV)/.dev tools ## Runs all tests and says which lines they reach. Takes half as long again.
	$(BIN)/python -m pytest -q --cov --cov-report= $(TOGETHER) $(PYTEST_ARGS) $(CHOSEN)
	$(BIN)/python -m pytest -q --cov --cov-append --cov-report=term:skip-covered $(PAIRED) $(PYTEST_ARGS) $(CHOSEN)

.PHONY: test-lowest
test-lowest: | python ## Runs the client's, the contract's and the service's tests with the oldest grpcio and protobuf we support.
	$(PYTHON) -m venv build/lowest-venv
	build/lowest-venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' $(LOWEST)
	build/lowest-venv/bin/python -m pytest -q --numprocesses auto --maxprocesses 8 tests/client tests/contract tests/server/api
	build/lowest-venv/bin/python -m pytest -q tests/transport

.PHONY: test-newest
test-newest: | python ## Runs the client's and the contract's tests with the newest grpcio and protobuf that there are.
	$(PYTHON) -m venv build/newest-venv
	build/newest-venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@# Asked for alone, they come as new as they fit each other, also where our own upper bounds do not allow that yet.
	build/newest-venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade $(NEWEST)
	@build/newest-venv/bin/python -c 'import sys; from importlib.metadata import version; \
		print("With", ", ".join(f"{name} {version(name)}" for name in sys.argv[1:]), "on Python", sys.version.split()[0])' $(NEWEST)
	build/newest-venv/bin/python -m pytest -q --numprocesses auto --maxprocesses 8 tests/client tests/contract

.PHONY: test-uvloop
test-uvloop: $(VENV)/.dev tools ## Runs the tests on uvloop: what runs in the tests' own process, and the servers.
	TEST_LOOP=uvloop $(BIN)/python -m pytest -q -rs tests/client tests/server tests/e2e tests/faults $(PYTEST_ARGS)

.PHONY: test-memory
test-memory: $(VENV)/.dev tools ## Runs the tests whose servers are processes with the journal in memory.
	TEST_JOURNAL=memory $(BIN)/python -m pytest -q -rs tests/e2e tests/faults/test_bad_operations.py tests/faults/test_clock.py \
		tests/server/api tests/server/engine $(PYTEST_ARGS)

.PHONY: systems
systems: $(VENV)/.dev tools ## Shows what agents, planning, charts, tools and models stream, command by command. ROWS="S2 U4".
	$(BIN)/python -m tests.e2e.systems $(ROWS)

.PHONY: faults
faults: $(VENV)/.dev ## Runs the fault suite, and kills a server KILLS times (200). SEED=... repeats a run.
	FAULTS_LONG=1 $(BIN)/python -m pytest -q tests/faults tests/transport tests/server/api/test_bad_inputs.py $(PYTEST_ARGS)
	$(BIN)/python -m tests.faults.mutations
	$(BIN)/python -m tests.faults.kill_loop --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED))

.PHONY: clients
clients: $(VENV)/.dev ## Builds the clients of all languages, or CLIENTS="go java".
	$(BIN)/python -m tests.conformance --build-only --clients $(CLIENTS)

.PHONY: test-clients
test-clients: clients ## Runs the unit tests of the clients in Go, TypeScript and Java, and sees that their stubs are current.
	cd client/go && go vet ./... && go test ./... && ./generate.sh --check
	cd client/typescript && npm test --silent && npm run --silent generate:check
	cd client/java && mvn -q -B test

.PHONY: conformance
conformance: clients ## Tries every client with every case, or CLIENTS="go java" CASES="hole duplicates"; then all with one server.
	$(BIN)/python -m tests.conformance --no-build --clients $(CLIENTS) --cases $(CASES)
	$(BIN)/python -m tests.conformance.golden --no-build --clients $(CLIENTS)
	$(BIN)/python -m tests.conformance.together --no-build --clients $(CLIENTS)

.PHONY: bench
bench: bench-venv ## Measures Stepwire beside its peers, about half an hour, into build/bench. BENCH_ARGS="--only B1 B5".
	$(BENCH_VENV)/bin/python -m tests.bench $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: bench-venv $(VENV)/.dev ## Measures a little of it, in under 3 minutes, and fails where a ratio has collapsed.
	STEPWIRE_REQUIRE_BENCH=1 $(BIN)/python -m pytest -q tests/bench
	$(BENCH_VENV)/bin/python -m tests.bench --quick $(BENCH_ARGS)

.PHONY: lint
lint: $(VENV)/.dev build/image.binpb ## Checks form, types and the contract's rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf format protos --diff --exit-code
	$(BIN)/buf lint build/image.binpb --config protos/buf.yaml
	@if [ -n "$(AGAINST)" ]; then \
		rm -rf build/against && mkdir -p build/against; \
		git archive $(AGAINST) protos | tar -x -C build/against; \
		$(call image,build/against/protos,build/against.binpb); \
		$(BIN)/buf breaking build/image.binpb --against build/against.binpb --config protos/buf.yaml; \
	else \
		echo "NOT RUN: buf breaking: this clone has no earlier commit to compare with (git fetch --deepen 1 gets one)"; \
		[ -z "$$STEPWIRE_REQUIRE_TOOLS" ]; fi

# -- The contract

COMMON_PROTOS = $(shell $(PROTO_VENV)/bin/python -c 'import google.rpc as m; print(list(m.__path__)[0] + "/../..")')
# An image of the contract and all that it imports, from the protos in $(1), into $(2).
image = $(PROTO_VENV)/bin/python -m grpc_tools.protoc -I $(1) -I "$(COMMON_PROTOS)" \
	--include_imports --include_source_info -o $(2) $$(cd $(1) && ls stepwire/v1/*.proto)
generate = PATH=$(PROTO_VENV)/bin:$$PATH $(PROTO_VENV)/bin/python -m grpc_tools.protoc -I protos -I "$(COMMON_PROTOS)" \
	--python_out=$(1) --mypy_out=quiet:$(1) $(PROTO_FILES)

$(PROTO_VENV)/.installed: Makefile | python
	$(PYTHON) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PROTO_TOOLS)
	touch $@

build/image.binpb: $(PROTO_FILES) $(PROTO_VENV)/.installed
	@$(call image,protos,$@)

.PHONY: protos
protos: $(PROTO_VENV)/.installed ## Generates client/stepwire/v1 from protos/.
	$(call generate,client)

.PHONY: protos-check
protos-check: $(PROTO_VENV)/.installed ## Fails where client/stepwire/v1 is not what protos/ gives.
	rm -rf build/generated && mkdir -p build/generated
	$(call generate,build/generated)
	@for file in build/generated/stepwire/v1/*; do diff -u client/stepwire/v1/$$(basename $$file) $$file; done
	@echo "The generated code is fresh."

.PHONY: clean
clean: ## Removes everything that was made here.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
