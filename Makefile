# Everything that a person or CI does with this project. `make help` lists it.
#
# A target installs what it needs into .tools/ (ignored by git), pinned, the first time. Rust, Python 3.11 and Node 20, or
# newer, are the only things that must be there already.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON := .tools/python
NODE_MODULES := infra/node_modules/.installed
export PATH := $(CURDIR)/$(PYTHON)/bin:$(PATH)
# What is built: by default for this machine's processor. What is deployed: where it is not given, as the options say that
# are kept for the CDK, or else for arm64.
DEPLOYED = $(if $(filter file,$(origin ARCHITECTURE)),$(or $(KEPT),arm64),$(ARCHITECTURE))
KEPT = $(shell python3 -c 'import json; print(json.load(open("infra/cdk.context.json"))["architecture"])' 2> /dev/null)
ARCHITECTURE ?= $(subst aarch64,arm64,$(shell uname -m))
TARGET = $(if $(filter arm64,$(ARCHITECTURE)),aarch64,x86_64)-unknown-linux-gnu
BINARIES ?= handler redrive publisher relay
STARTUP_BUDGET ?= 2.75
export LOCAL_PORT ?= 8080
export HANDLER_PORT ?= 9000
export QUEUE_PORT ?= 9324
export CDK_OPTIONS
export DEPLOY_OPTIONS
export SEED ?= infra/dev/seed.toml

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: run
run: tools ## The main job once: publish a comment as user taylor, print it as it comes out, as one JSON line
	@python3 infra/dev/stack.py run

.PHONY: dev
dev: tools ## The same stack kept up, with reload (Ctrl-C ends it)
	@python3 infra/dev/stack.py dev

.PHONY: test
test: lint unit lean startup infra-test ## Formatting, lints, every test

.PHONY: test-full
test-full: tools ## The tests that can be larger, at full size: tens of thousands of events
	FULL=1 cargo test --locked

.PHONY: lint
lint:
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

.PHONY: unit
unit: tools
	cargo test --locked

.PHONY: lean
lean: ## Check that the deployed handler carries nothing of the other binaries
	infra/dev/lean

.PHONY: startup
startup:
	@if command -v valgrind > /dev/null; then $(MAKE) --no-print-directory bench-startup; \
	else echo "valgrind is not installed: the instructions of a start are not counted" >&2; fi

BENCH_JS := benches/javascript/node_modules/.installed
BENCH := cargo bench --locked --no-default-features --features local

.PHONY: bench
bench: $(BENCH_JS) bench-functions ## The benchmarks, as tables; BENCH_OPTIONS=--quick takes two minutes
	cargo build --release --locked --no-default-features --features local --bin local
	cargo build --release --locked --no-default-features --features relay --bin relay
	$(BENCH) --bench micro
	$(BENCH) --bench lambda -- $(BENCH_OPTIONS)
	$(BENCH) --bench relay -- $(BENCH_OPTIONS)

.PHONY: bench-startup
bench-startup: bench-functions ## Count the instructions of the handler's start, and hold them to a budget, in millions
	$(BENCH) --bench lambda -- startup --budget $(STARTUP_BUDGET)

.PHONY: bench-functions
bench-functions:
	cargo build --release --locked --no-default-features --features handler --bin handler
	cargo build --release --locked --no-default-features --example bare

# The official runtime client builds a native addon, for which it needs CMake.
$(BENCH_JS): benches/javascript/package-lock.json benches/javascript/requirements.txt
	@python3 -m venv .tools/javascript && .tools/javascript/bin/pip install --quiet -r benches/javascript/requirements.txt
	@cd benches/javascript && export PATH=$(CURDIR)/.tools/javascript/bin:$$PATH && npm ci --silent --ignore-scripts && npm rebuild --silent aws-lambda-ric
	@touch $@

# For Amazon Linux 2023, whose glibc is 2.34, whatever this machine's is: that takes zig as the linker. Each binary is built
# with its own feature alone.
.PHONY: build
build: tools $(PYTHON)/.zig ## The release artifacts that are deployed, in target/lambda/: make build ARCHITECTURE=arm64|x86_64
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	for binary in $(BINARIES); do \
	  cargo lambda build --locked --release --target $(TARGET).2.34 --no-default-features --features $$binary --bin $$binary; \
	done
	@ls -l target/lambda/*/bootstrap

.PHONY: infra-test
infra-test: tools $(NODE_MODULES)
	cd infra && TOOLS=$(CURDIR)/$(PYTHON)/bin && \
	  PYTHON=$$TOOLS/python3 CFN_LINT=$$TOOLS/cfn-lint MOTO_SERVER=$$TOOLS/moto_server npm test --silent

.PHONY: synth
synth: $(NODE_MODULES) ## Write the CloudFormation template to infra/cdk.out; needs no account and no network
	cd infra && npm run --silent synth -- $(CDK_OPTIONS)
	@echo "the template is infra/cdk.out/momento-webhook.template.json"

.PHONY: deploy
deploy: tools ## Build and deploy everything with the CDK, with the options in infra/cdk.context.json
	@python3 infra/dev/prerequisites.py deploy
	@$(MAKE) --no-print-directory $(NODE_MODULES)
	$(MAKE) build ARCHITECTURE=$(DEPLOYED)
	cd infra && npm run --silent deploy -- -c architecture=$(DEPLOYED) $(CDK_OPTIONS)

.PHONY: deploy-function
deploy-function: tools ## Build and deploy the handler's code alone: make deploy-function FUNCTION=name [DEPLOY_OPTIONS=--dry]
	@ARCHITECTURE=$(DEPLOYED) python3 infra/dev/prerequisites.py deploy-function
	$(MAKE) build ARCHITECTURE=$(DEPLOYED) BINARIES=handler
	cargo lambda deploy --binary-name handler $(DEPLOY_OPTIONS) $(FUNCTION)

.PHONY: smoke
smoke: tools ## Post a signed, harmless event to a deployed handler: make smoke URL=… SIGNING_SECRET_NAME=…
	@python3 infra/dev/smoke.py

.PHONY: dead-letters
dead-letters: tools ## Have a deployed redrive take up the dead letters: make dead-letters QUEUE=… FUNCTION=…
	@python3 infra/dev/dead_letters.py

.PHONY: tools
tools: $(PYTHON)/.installed

$(PYTHON)/.installed: infra/dev/requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python %d.%d is too old: install 3.11 or newer" % sys.version_info[:2])'
	@echo "installing cargo-lambda and moto into $(PYTHON) ..." >&2
	@python3 -m venv $(PYTHON) >&2
	@$(PYTHON)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $< >&2
	@touch $@

$(PYTHON)/.zig: $(PYTHON)/.installed
	@echo "installing zig into $(PYTHON) ..." >&2
	@$(PYTHON)/bin/pip install --quiet --disable-pip-version-check --no-deps ziglang==0.15.2 >&2
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python3" -m ziglang "$$@"\n' > $(PYTHON)/bin/zig && chmod +x $(PYTHON)/bin/zig
	@touch $@

$(NODE_MODULES): infra/package-lock.json
	@node -e 'const { node } = process.versions; if (parseInt(node) < 20) { console.error(`error: Node $${node} is too old: install 20 or newer`); process.exit(1) }'
	@echo "installing the CDK into infra/node_modules ..." >&2
	@cd infra && npm ci --silent >&2
	@touch $@

.PHONY: clean
clean: ## Remove what was built and installed
	rm -rf target .tools infra/node_modules infra/dist infra/cdk.out
