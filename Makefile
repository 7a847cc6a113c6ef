# `make` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench oracle versions install

help: ## This list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST)

demo: ## Run the demos: Rowcast, a private Postgres, live to-dos and a chat
	.ci/install.sh postgres
	cargo build --release --locked
	examples/run.sh

# Tests wait most of their time: for commits, restarts, time limits. Two at once for each core.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test: install lint ## Install what is missing, then check everything
	cargo test --locked

lint: ## Format, lints and documentation, warnings as errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet

bench: ## Benchmarks
	cargo bench --locked

# 60 s unless said otherwise; a seed that failed is run again with ROWCAST_SEED=…
oracle: export ROWCAST_ORACLE_SECONDS ?= 60
oracle: ## Search for rows that we judge other than Postgres does
	cargo test --locked --test integration oracle:: -- --nocapture

# Those of tests/postgres that are not the installed one; `make versions VERSIONS=18` runs one.
VERSIONS ?= 14 16 17 18
versions: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
versions: install ## Run the integration tests on other versions of Postgres, with pgoutput
	.ci/install.sh versions
	cargo test --locked --test integration --no-run
	for version in $(VERSIONS); do \
	  echo "PostgreSQL $$version"; \
	  ROWCAST_TEST_POSTGRES=$$version cargo test --locked --test integration -- --skip versions:: || exit 1; \
	done

install: ## Install what tests and the demo need, where apt-get is
	.ci/install.sh
