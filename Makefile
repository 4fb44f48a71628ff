# The two verbs of the README, and what else there is. CARGO_TARGET_DIR is obeyed.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET)/release
MODULES := $(notdir $(wildcard modules/*))
ARGS ?=

.PHONY: run test test-long lint bench prepare

# Builds the server and its modules, and starts it with all of them. ARGS: a configuration file, --directive value …
run:
	cargo build --release -p mortise-core $(MODULES:%=-p mortise-%)
	$(RELEASE)/mortise-server $(ARGS) $(MODULES:%=--loadmodule $(RELEASE)/libmortise_%.so)

# Everything that takes less than twenty minutes on two cores; installs what it needs.
test: prepare lint
	cargo test --workspace

# What takes longer: steps on a million members and keys; parsers under random input, and under input that libFuzzer
# finds by coverage; a million random policies and calls against the slow model of ACL rules; ten million random commands
# beside redis-server; the power cut a hundred thousand times; a server killed a thousand times; fifty primaries lost under
# Sentinel, and a thousand connections of replicas.
FUZZ_SECONDS ?= 300
DIFFER_COMMANDS ?= 10000000
SENTINEL_ROUNDS ?= 50
CUTS ?= 1000
SIMULATE_POINTS ?= 100000
KILL_ROUNDS ?= 1000
test-long: test
	cargo test --release -p mortise-core --test stalls -- --ignored --nocapture --test-threads 1
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$$(date +%s) cargo test --release -p mortise-core --test requests --test payloads --test files --test journals -- --nocapture
	ACL_MODEL_PAIRS=1000000 ACL_MODEL_SEED=$$(date +%s) cargo test --release -p mortise-acl --test model -- --nocapture
	SIMULATE_POINTS=$(SIMULATE_POINTS) SIMULATE_SEED=$$(date +%s) cargo test --release -p mortise-tests --test simulate -- --nocapture
	KILL_ROUNDS=$(KILL_ROUNDS) cargo test --release -p mortise-tests --test killed -- --nocapture
	SENTINEL_ROUNDS=$(SENTINEL_ROUNDS) cargo test --release -p mortise-tests --test sentinel -- --nocapture
	CUTS=$(CUTS) DIFFER_SEED=$$(date +%s) cargo test --release -p mortise-tests --test replication_cuts -- --nocapture
	DIFFER_COMMANDS=$(DIFFER_COMMANDS) DIFFER_SEED=$$(date +%s) cargo test --release -p mortise-tests --test differential -- --nocapture
	cargo fuzz --version || cargo install --locked cargo-fuzz
	cd fuzz && for target in request config glob acl restore blobs file journal manifest; do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 || exit 1; \
	done

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

prepare:
	tests/prepare.sh

# Mortise beside redis-server, in turns. BENCH: options of `mortise-bench compare`, such as "--only get,set".
bench:
	cargo build --release -p mortise-core -p mortise-hello -p mortise-ratelimit -p mortise-benches
	$(RELEASE)/mortise-bench compare \
		--server 'redis=redis-server --port {port} --dir {dir} --save "" --appendonly no' \
		--server 'mortise=$(RELEASE)/mortise-server --port {port} --dir {dir} --save "" --loadmodule $(RELEASE)/libmortise_hello.so --loadmodule $(RELEASE)/libmortise_ratelimit.so' \
		--json $(TARGET)/bench.json $(BENCH)
