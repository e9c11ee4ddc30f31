# The target folder stays outside the checkout, so that a fresh clone reuses what is compiled (RocksDB: a quarter of an hour).
export CARGO_TARGET_DIR ?= $(HOME)/.cache/meridian/target

CARGO_FLAGS := --release --locked --workspace

.PHONY: help demo test lint bench load deny fixtures

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-9s %s\n", $$1, $$2 }'

demo: ## Build, start a network of five regions on this machine, and show what it survives
	@bash .ci/deps
	cargo build --release --locked -p meridian-client -p meridian-node -p meridian-integration --bins
	$(CARGO_TARGET_DIR)/release/demo

test: lint deny ## Format, lints, all tests, licences and bans
	cargo build $(CARGO_FLAGS) --bins
	cargo test $(CARGO_FLAGS)

lint: ## Format and clippy
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

deny: ## Licences, sources and banned versions, where cargo-deny is installed
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --all-features check bans licenses sources; \
	else echo "cargo-deny is not installed, skipped: cargo install --locked cargo-deny"; fi

bench: ## Benchmarks of the codec and of signatures
	cargo bench --locked -p meridian-proofs

load: ## Put-to-certificate and get on a network of its own, with the floor beside it; writes docs/benchmarks.md
	cargo run --release --locked -p meridian-integration --bin load -- --devnet --record docs/benchmarks.md

fixtures: ## Rewrite the generated parts of docs and test vectors; look at the difference before committing it
	REGENERATE=1 cargo test $(CARGO_FLAGS)
