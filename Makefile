# What a developer types. Everything works from a fresh clone on Debian with nothing but Rust; see CONTRIBUTING.md.

CARGO   ?= cargo
# Small enough to build quickly, optimised enough to run quickly; release and bench alone use link-time optimisation.
PROFILE := --profile ci --locked
DENY    := -- -D warnings
# What we do not build into the program, and test all the same.
ALL     := --features relay-rtt,axum,redis,tower-sessions,sql,kafka,nats
FUZZ_SECONDS ?= 20

.PHONY: help install demo test lint bench fuzz docs soak

help:
	@echo "make demo    a weak sample app, and the same app with the guard in front"
	@echo "make test    install what the tests need, then run all of them with nothing skipped"
	@echo "make lint    format, clippy, docs, dependency rules"
	@echo "make bench   hot path, stores, rules, sessions beside others, proxy (installs nginx, haproxy, wrk)"
	@echo "make fuzz    every fuzz target for FUZZ_SECONDS=20 seconds"
	@echo "make docs    the manual, in target/doc"
	@echo "make soak    the long sizes of the tests: hours, not for CI"

install:
	tests/install

demo:
	$(CARGO) run --release --locked -- demo

test: install
	PORTCULLIS_TEST_ALL=1 $(CARGO) test $(PROFILE) $(ALL)
	for store in carried cached embedded file redis postgres; do \
		PORTCULLIS_TEST_STORE=$$store $(CARGO) test $(PROFILE) $(ALL) --test it -- sessions:: || exit 1; \
	done

lint:
	@tests/components
	$(CARGO) fmt --check
	$(CARGO) clippy $(PROFILE) --all-targets $(DENY)
	$(CARGO) clippy $(PROFILE) --all-targets $(ALL) $(DENY)
	$(CARGO) clippy $(PROFILE) --lib --no-default-features --features layer $(DENY)
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(PROFILE) $(ALL) --no-deps
	@tests/workspaces
	@tests/dependencies

# By name: without one, cargo would link every unit test with the slowest optimisation too.
bench:
	tests/install bench
	$(CARGO) bench --locked --bench hot_path --bench allocations --bench stores --bench events --bench proxy
	$(CARGO) run --release --locked --manifest-path benches/rules/Cargo.toml
	$(CARGO) run --release --locked --manifest-path benches/peers/Cargo.toml

fuzz:
	@tests/fuzz/run $(FUZZ_SECONDS)

docs:
	$(CARGO) doc --no-deps --locked

# The same tests in the long sizes: PORTCULLIS_SOAK is read where a test has two. What they tell goes to benches/README.md.
soak: install
	PORTCULLIS_TEST_ALL=1 PORTCULLIS_SOAK=1 $(CARGO) test --release --locked $(ALL) -- --nocapture
