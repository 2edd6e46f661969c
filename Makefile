# What people do with this repository. `make` alone lists it.

# rustup's cargo is found even where the shell has not been told about it, and servers
# where Debian keeps them, which is not on everybody's path
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

# arguments of `make run`, `make bench`, `make fuzz`, `make portal` and `make test-clients`: make run ARGS="--config my.toml"
ARGS ?=

# The documentation is for maintainers and has the private items, so links to those lead somewhere.
RUSTDOC_LINTS := -D warnings -A rustdoc::private_intra_doc_links

.DEFAULT_GOAL := help
.PHONY: help run test contract portal test-clients lint fmt fuzz bench instructions order openapi compatibility schema plots tools image

help: ## list these
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## build for production and start the gateway at http://127.0.0.1:8080
	@.ci/install build
	cargo run --release -- $(ARGS)

test: contract portal ## run all tests; installs what they need
	cargo test --locked

test-clients: ## generate clients in five languages, compile and run them: make test-clients ARGS="--only go"
	@.ci/install build clients
	cargo build --locked
	python3 -B tests/clients/run.py $(ARGS)

contract: ## check the API's contract alone: kept, linted, nothing broken, compatible (a part of `make test`)
	@.ci/install test
	cargo build --locked
	python3 -B tests/conformance/compatibility.py --check
	python3 -B tests/conformance/breaking.py
	python3 -B tests/conformance/lint.py
	python3 -B tests/conformance/run.py

portal: ## check the portal alone, in Chromium (a part of `make test`); ARGS=--write: its pictures, too
	@.ci/install test
	cargo build --locked
	python3 -B tests/portal/run.py $(ARGS)

lint: ## formatting, clippy, documentation, licences: no warning is left
	@.ci/install lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="$(RUSTDOC_LINTS)" cargo doc --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then \
		echo cargo deny --config .config/deny.toml check; \
		cargo deny --config .config/deny.toml check; \
	else \
		echo "cargo-deny is not installed: licences and advisories are not checked"; \
	fi

fmt: ## format the source
	cargo fmt

fuzz: ## try what nobody would write or send, 60 seconds for each target, or as many: make fuzz ARGS=600
	@.ci/install build
	FUZZ_SECONDS=$(or $(ARGS),60) cargo test --locked --test it fuzz:: -- --nocapture

bench: ## measure beside nginx and haproxy (about 20 minutes; ARGS=--quick: 6)
	@.ci/install bench
	cargo build --release --locked
	python3 tests/bench/run.py $(ARGS)

instructions: ## count the instructions of the pure parts; more than before is an error
	@.ci/install bench
	python3 tests/bench/instructions.py $(ARGS)

order: ## refresh assets/order.ld, which functions the linker places together, from what runs (about 10 minutes)
	@.ci/install bench
	python3 -B tests/bench/order.py

openapi: ## refresh openapi/openapi.json from the handlers
	@.ci/install build
	@trap "rm -f openapi/openapi.json.new" EXIT; cargo run --quiet -- openapi > openapi/openapi.json.new && mv openapi/openapi.json.new openapi/openapi.json

compatibility: ## refresh openapi/compatibility.md from its table and the document
	python3 -B tests/conformance/compatibility.py

schema: ## refresh config/schema.json from the settings
	@.ci/install build
	@trap "rm -f config/schema.json.new" EXIT; cargo run --quiet -- schema > config/schema.json.new && mv config/schema.json.new config/schema.json

plots: ## draw what the autoscaler does into docs/scaling
	@.ci/install build
	WRITE_PLOTS=1 cargo test --locked --test it scaling::simulator::the_plots_are_current

tools: ## install what the other verbs need, without running them
	@.ci/install build test lint

image: ## build the container image
	docker build --tag faas-gateway .
