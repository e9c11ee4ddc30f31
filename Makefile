# The target folder stays outside the checkout, so that a fresh clone reuses what is compiled (RocksDB: a quarter of an hour).
export CARGO_TARGET_DIR ?= $(HOME)/.cache/meridian/target

# New inputs and crashes are kept beside what is compiled; see docs/fuzzing.md.
FUZZ_DIR := $(CARGO_TARGET_DIR)-fuzz
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard proofs/fuzz/corpus/* integration/fuzz/corpus/*))
# RocksDB as the product has it, where that is compiled.
FUZZ_ROCKSDB = $(dir $(firstword $(shell ls -t $(CARGO_TARGET_DIR)/release/build/librocksdb-sys-*/out/librocksdb.a 2>/dev/null)))
# What never ends with a network's threads is no leak; and to weigh what each input reaches takes longer than the input.
FUZZ_NETWORK := -detect_leaks=0 -rss_limit_mb=4096 -entropic=0

# For the soak: how many members are killed, how many files damaged, how often a host is killed at each marked place, how
# many rounds the storm over bad connections has, how many networks are simulated, how long no endpoint of the chain
# answers, how long an OP Stack client goes on while a member is killed every half minute, and how long each attack takes.
KILLS ?= 1000
DAMAGE ?= 10000
POINTS ?= 20
ROUNDS ?= 600
SEEDS ?= 1000
OUTAGE_SECONDS ?= 3600
ALTDA_SECONDS ?= 1800
ATTACK_SECONDS ?= 60

CARGO_FLAGS := --release --locked --workspace

.PHONY: help demo test lint dist bench load overload repair slow nearest samples altda opstack opstack-up light withholding soak deny fixtures fuzz

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

demo: ## Build, start a network of five regions on this machine, and show what it survives
	@bash .ci/deps
	cargo build $(CARGO_FLAGS) --bins
	$(CARGO_TARGET_DIR)/release/demo

test: lint deny ## Format, lints, all tests, licences and bans
	cargo build $(CARGO_FLAGS) --bins
	cargo test $(CARGO_FLAGS)

lint: ## Format and clippy
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

# The tests' own package is left out: it asks for places at which hosts are killed.
dist: ## Stripped programs with manual pages, completions, units, alert rules and docs, as one archive with checksums
	cargo build $(CARGO_FLAGS) --exclude meridian-integration --bins
	@bash .ci/dist $(CARGO_TARGET_DIR)/release $(CARGO_TARGET_DIR)/dist

deny: ## Licences, sources, banned versions and advisories, where cargo-deny is installed
	@if ! cargo deny --version >/dev/null 2>&1; then \
		if [ -n "$$CI" ]; then echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; fi; \
		echo "cargo-deny is not installed, skipped: cargo install --locked cargo-deny"; \
	elif timeout 120 cargo deny fetch db 2>/dev/null; then cargo deny --all-features check; \
	else echo "the database of advisories is out of reach: everything else is checked"; \
		cargo deny --all-features check bans licenses sources; fi

bench: ## The codec beside its peers and a floor; writes docs/benchmarks.md
	cargo bench --locked -p meridian-proofs --bench compare -- --record ../docs/benchmarks.md

load: ## Put-to-certificate and get on a network of its own, with the floor beside it; writes docs/benchmarks.md
	cargo run --release --locked --bin load -- --devnet --record docs/benchmarks.md

overload: ## What becomes of puts at twice the load that a network sustains, near and as far as the world is wide
	cargo run --release --locked --bin overload
	cargo run --release --locked --bin overload -- --wan

repair: ## How fast a replica that lost its disk is whole again, beside a plain copy, and what the load loses meanwhile
	cargo run --release --locked --bin repair

slow: ## What puts and reads lose while one replica is far away, or stands still again and again
	cargo run --release --locked --bin slow

nearest: ## How long reads take from five places of the world, from the nearest copy and from others, and beside one that fails
	cargo run --release --locked --bin nearest

samples: ## What a light client's sample costs, at a replica that has to rebuild the rows and while regions are down
	cargo run --release --locked --bin samples

altda: ## What OP Stack clients see of da altda serve, beside the OP Stack's reference server; needs Go
	cargo run --release --locked --bin altda

opstack: ## A whole OP Stack chain on a Meridian devnet, in both modes and under faults; needs Go and 800 MB of modules
	@bash .ci/deps
	cargo build $(CARGO_FLAGS) --bins
	$(CARGO_TARGET_DIR)/release/opstack

opstack-up: ## The same chain, left running to play with until Ctrl-C
	@bash .ci/deps
	cargo build $(CARGO_FLAGS) --bins
	$(CARGO_TARGET_DIR)/release/opstack --up

light: ## What a light client takes: time for each blob, memory, catching up with a hundred thousand entries
	cargo run --release --locked --bin light

withholding: ## How many light clients notice that rows are withheld, beside the bounds that they report; writes docs/sampling.md and its figure
	cargo run --release --locked --bin withholding -- --record docs/sampling.md

soak: ## Tests that take hours: kills under load and at marked places, bad and simulated connections, damaged files, attacks, an hour without a chain
	MERIDIAN_KILLS=$(KILLS) cargo test $(CARGO_FLAGS) --test kill -- --nocapture
	MERIDIAN_POINTS=$(POINTS) cargo test $(CARGO_FLAGS) --test points -- --nocapture
	MERIDIAN_ROUNDS=$(ROUNDS) cargo test $(CARGO_FLAGS) --test network -- --nocapture
	MERIDIAN_SEEDS=$(SEEDS) cargo test $(CARGO_FLAGS) --test simulation -- --nocapture
	MERIDIAN_DAMAGE=$(DAMAGE) cargo test $(CARGO_FLAGS) --test damage -- --nocapture
	MERIDIAN_ALTDA_SECONDS=$(ALTDA_SECONDS) cargo test $(CARGO_FLAGS) --test op_alt_da members_are_killed -- --nocapture
	MERIDIAN_ATTACK_SECONDS=$(ATTACK_SECONDS) MERIDIAN_ATTACK_PIN=1 cargo test $(CARGO_FLAGS) --test attack -- --nocapture
	OUTAGE_SECONDS=$(OUTAGE_SECONDS) cargo test $(CARGO_FLAGS) --test anchor an_outage -- --nocapture

fixtures: ## Rewrite the generated parts of docs and test vectors; look at the difference before committing it
	REGENERATE=1 cargo test $(CARGO_FLAGS)

fuzz: ## Each fuzz target for FUZZ_SECONDS seconds, 60 by default, with the address sanitizer
	@cargo +nightly fuzz --version >/dev/null 2>&1 || \
	{ echo "missing: rustup toolchain install nightly && cargo install --locked cargo-fuzz" >&2; exit 1; }
	@set -e; export TMPDIR=$(FUZZ_DIR)/tmp; \
	$(if $(FUZZ_ROCKSDB),export ROCKSDB_LIB_DIR=$(FUZZ_ROCKSDB) ROCKSDB_STATIC=1;) \
	for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; \
		seeds=$$(ls -d proofs/fuzz/corpus/$$target integration/fuzz/corpus/$$target 2>/dev/null || true); \
		test -n "$$seeds" || { echo "there is no target $$target" >&2; exit 1; }; \
		rm -rf $$TMPDIR; \
		mkdir -p $$TMPDIR $(FUZZ_DIR)/corpus/$$target $(FUZZ_DIR)/artifacts/$$target; \
		cargo +nightly fuzz run --fuzz-dir $${seeds%/corpus/*} --target-dir $(FUZZ_DIR) --no-cfg-fuzzing $$target \
			$(FUZZ_DIR)/corpus/$$target $$seeds -- -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
			-artifact_prefix=$(FUZZ_DIR)/artifacts/$$target/ -print_final_stats=1 \
			$$(case $$seeds in (integration/*) echo "$(FUZZ_NETWORK)";; esac); \
	done
