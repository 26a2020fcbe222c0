# `make test` is the one check: the same at home and in CI.
# `make help` lists the targets.

CARGO   ?= cargo
CRATES  := resilience-core resilience-tower webhook-verify gateway-kit
TARGET  := $(or $(CARGO_TARGET_DIR),target)
# One thread per core for the tests; every test binds its own free port.
RUN_TESTS := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo 'nextest run --no-fail-fast' || echo 'test --no-fail-fast')

# With the features that the tests are built with, so that nothing is compiled twice.
AS_TESTS := --workspace --all-features --examples

.DEFAULT_GOAL := help
.PHONY: check-admin help test deps fmt clippy features tree unit doctest doc loom miri interop fuzz-check fuzz-smoke fuzz examples consistency check-consistency check-outbox tour bench bench-gateway check-gateway services-start services-stop clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: deps fmt clippy features tree unit doctest doc loom miri interop fuzz-check fuzz-smoke examples consistency tour ## everything below, in order: what CI runs
	@echo "make test: all checks passed"
# Built once and not again: what a second build would need is 3 GB.
test: export CARGO_INCREMENTAL := 0

deps: ## install what the checks need (Debian and Ubuntu), else say what is missing
	@sh scripts/deps.sh

fmt: ## formatting
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path benches/gateway/peers/Cargo.toml --check

clippy: ## lints, warnings denied, all targets and features
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings

features: ## each library alone without default features, then with each feature alone
	@set -e; for crate in $(CRATES); do \
		echo "check -p $$crate --no-default-features"; \
		$(CARGO) check --quiet --locked -p $$crate --no-default-features; \
	done; \
	for crate in resilience-core resilience-tower webhook-verify; do \
		for feature in $$(awk '/^\[/ { on = /^\[features\]/ } on && /^[a-z0-9-]+ =/ { print $$1 }' $$crate/Cargo.toml); do \
			echo "check -p $$crate --no-default-features --features $$feature"; \
			$(CARGO) check --quiet --locked -p $$crate --no-default-features --features $$feature; \
		done; \
	done

tree: ## what must not be depended on
	@set -e; for banned in tokio tower tower-service http hyper; do \
		if $(CARGO) tree --locked -p resilience-core -e normal --all-features --prefix none | grep -q "^$$banned v"; then \
			echo "resilience-core depends on $$banned"; exit 1; \
		fi; \
	done; echo "resilience-core: no tokio, tower, http or hyper"
	@set -e; for only in metrics:tracing tracing:metrics breaker:metrics breaker:tracing; do \
		if $(CARGO) tree --locked -p resilience-tower -e normal --no-default-features --features $${only%:*} --prefix none | grep -q "^$${only#*:} v"; then \
			echo "resilience-tower with $${only%:*} alone depends on $${only#*:}"; exit 1; \
		fi; \
	done; echo "resilience-tower: metrics and tracing only where asked for"

unit: ## unit, integration and browser tests
	$(CARGO) $(RUN_TESTS) --workspace --all-features --locked

doctest: ## examples in the documentation
	$(CARGO) test --doc --workspace --all-features --locked

doc: ## documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --all-features --no-deps --locked

loom: ## model check of the lock-free parts
	RUSTFLAGS="--cfg resilience_loom" $(CARGO) test --release --locked -p resilience-core --lib \
		--target-dir $(TARGET)/loom -- loom

tour: ## the reference application, end to end, as a check
	$(CARGO) build --quiet --locked $(AS_TESTS) --bin nestcms
	$(TARGET)/debug/nestcms tour

bench: ## every bench beside its peers, and the table of ratios into README.md (FILTER=part of a name: those only; FILTER=webhook: into its README.md)
	@if [ -z "$(FILTER)" ]; then rm -rf "$(TARGET)/criterion"; fi
	$(CARGO) bench --locked -p benches -- $(FILTER)
	$(CARGO) run --release --locked -p benches --bin ratios -- $(if $(FILTER),,--all --write README.md)
	if [ -z "$(FILTER)" ] || [ "$(FILTER)" = webhook ]; then \
		$(CARGO) run --release --locked -p benches --bin ratios -- --only webhook --write webhook-verify/README.md; \
	fi

bench-gateway: ## the gateway beside HAProxy, nginx, Pingora and bare hyper, and the table into its README.md (ROUNDS=, SECONDS=)
	@CARGO_TARGET_DIR=$(abspath $(TARGET)) sh benches/gateway/run.sh --rounds $(or $(ROUNDS),4) \
		--seconds $(or $(SECONDS),3) --write gateway-kit/README.md

miri: ## small races and calls of the core under Miri (needs nightly; says so if it is absent)
	@CARGO_TARGET_DIR=$(TARGET) sh scripts/miri.sh

interop: ## webhook-verify against the providers' own libraries (installed once, as pinned)
	@CARGO_TARGET_DIR=$(abspath $(TARGET)) sh scripts/interop.sh

fuzz-check: ## format and lints of the fuzz targets
	cd fuzz && $(CARGO) fmt --check && $(CARGO) clippy --locked --target-dir $(abspath $(TARGET)) -- -D warnings

fuzz-smoke: ## each fuzz target for a fixed number of runs from a fixed seed
	@CARGO_TARGET_DIR=$(abspath $(TARGET)) sh scripts/fuzz.sh 20000

fuzz: ## each fuzz target for ten million runs; keeps what it finds in target/corpus
	@CARGO_TARGET_DIR=$(abspath $(TARGET)) FUZZ_CORPUS=$(abspath $(TARGET))/corpus sh scripts/fuzz.sh 10000000

examples: ## each example of the layers runs to its end
	$(CARGO) build --quiet --locked $(AS_TESTS)
	@set -e; for example in resilience-tower/examples/*.rs webhook-verify/examples/*.rs gateway-kit/examples/*.rs; do \
		name=$$(basename $$example .rs); echo "example $$name"; \
		log=$(TARGET)/example-$$name.log; \
		timeout 60 $(TARGET)/debug/examples/$$name >$$log 2>&1 || { cat $$log; echo "example $$name failed"; exit 1; }; \
	done

services-start: ## real PostgreSQL, MariaDB, Redis and NATS on free ports; their URLs as lines for an environment file
	@$(CARGO) run --quiet --locked -p engines --bin services -- start --detach --dir $(TARGET)/services

services-stop: ## end them and remove their data
	@$(CARGO) run --quiet --locked -p engines --bin services -- stop --dir $(TARGET)/services

consistency: ## a short run of the consistency check on a real PostgreSQL cluster
	$(CARGO) build --quiet --locked $(AS_TESTS) --bin check-consistency
	timeout 300 $(TARGET)/debug/check-consistency --checks 10000 --faults pause,kill-replica,cut

check-consistency: ## a million checked reads while a real PostgreSQL cluster fails, and 100 million simulated decisions (CHECKS=, SEED=, FAULTS=, DECISIONS=)
	$(CARGO) run --release --locked -p consistency -- \
		--checks $(or $(CHECKS),1000000) --seed $(or $(SEED),1) --faults $(or $(FAULTS),all) --tasks 64
	ROUTE_DECISIONS=$(or $(DECISIONS),100000000) $(CARGO) test --release --locked -p resilience-core --all-features --test main -- route_simulation:: --nocapture

check-outbox: ## 100 thousand events through an outbox on real PostgreSQL and NATS while its dispatcher is killed: none missed, none twice (EVENTS=, KILLS=)
	$(CARGO) run --release --locked -p nestcms --bin check-outbox -- \
		--events $(or $(EVENTS),100000) --kills $(or $(KILLS),20)

check-admin: ## schemathesis against the admin API of the gateway program (installed once, as pinned; EXAMPLES=, SEED=)
	$(CARGO) build --quiet --locked -p gateway-kit --bin gateway
	@CARGO_TARGET_DIR=$(abspath $(TARGET)) sh scripts/admin.sh $(or $(EXAMPLES),100) $(or $(SEED),1)

check-gateway: ## 500 thousand requests while backends are killed, weights are shifted, and the configuration is replaced: none fails, no POST twice (REQUESTS=, RUNS=kill,shift,reload)
	$(CARGO) build --release --locked -p gateway-kit -p check-gateway --bin gateway --bin check-gateway
	$(TARGET)/release/check-gateway --gateway $(TARGET)/release/gateway \
		--requests $(or $(REQUESTS),500000) $(if $(RUNS),--runs $(RUNS),)

clean: ## remove what the build made
	$(CARGO) clean
