# One-line recipes. README and CI work without `just`.

# Real Bitcoin blocks in, roots out, proofs verified.
example:
    cargo run --release -p hedgerow-examples --bin bitcoin_utxo

# Every test but those of GPU backends, coins, benches and examples.
test:
    cargo test

# Every test of the default features.
test-all:
    cargo test --workspace

# Every package as it would be published.
package *args:
    .ci/package {{args}}

# What CI runs.
ci:
    .ci/run

# The crash net: power loss, failing calls, damage, killed processes.
crash minutes="10":
    .ci/crash {{minutes}}

# Power loss at random calls for this many hours.
soak hours:
    cargo run --profile torture -p hedgerow-torture -- crash --all-paths --minutes $(({{hours}} * 60))

# What is too long for every change; some hours.
nightly:
    .ci/nightly

# Lints, formatting, documentation.
lint:
    cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# All metadata engines (needs clang and libclang-dev).
test-engines:
    cargo test -p hedgerow -p hedgerow-metadb --features hedgerow/rocksdb,hedgerow/sled,hedgerow-metadb/rocksdb,hedgerow-metadb/sled

# The hand-offs between writer, stages and waiters under shuttle, in that many orders of events.
shuttle schedules="1000000":
    HEDGEROW_SCHEDULES={{schedules}} cargo test -p hedgerow --lib stages -- --nocapture

# The mixed soak: every answer is compared with the model at its height.
soak-answers seconds="600":
    HEDGEROW_SOAK_SECONDS={{seconds}} HEDGEROW_TEST_LIMIT_SECONDS=$(({{seconds}} + 600)) cargo test -p hedgerow --test soak -- --nocapture

# Real processes: children killed for so many minutes, then a full file system, then several processes for one store.
torture *args="--minutes 5":
    cargo build --profile torture -p hedgerow-torture --bin torture
    "${CARGO_TARGET_DIR:-target}/torture/torture" kill {{args}}
    "${CARGO_TARGET_DIR:-target}/torture/torture" full
    "${CARGO_TARGET_DIR:-target}/torture/torture" two

# ThreadSanitizer and Miri, where a nightly toolchain is.
sanitize *parts:
    .ci/sanitize {{parts}}

# The CUDA backend: PTX up to date, no spills, the engine on the fake driver (compilers from PyPI).
cuda:
    .ci/cuda

# The GPU backend on a software adapter (installs lavapipe).
wgpu:
    .ci/wgpu

# Forged proofs of all families, none of which may be believed.
forge attempts="1200000":
    HEDGEROW_FORGE={{attempts}} HEDGEROW_TEST_LIMIT_SECONDS=3600 cargo test -p hedgerow --test forge -- --nocapture

# Every recorded workload, block by block.
replay:
    cargo build --release -p hedgerow-cli && .ci/replay target/release/hedgerow

# The criterion benches of the layers.
bench *args:
    cargo bench -p hedgerow-benches {{args}}

# The goals of CPU hashing and whether they are met, beside other people's crates: some minutes to build, one to run.
bench-hash *args:
    RUSTFLAGS="-C target-cpu=native" cargo build --locked --manifest-path benches/compare/Cargo.toml -p sha2-native --profile one-unit --target-dir benches/compare/target/native
    cargo run --release --locked --manifest-path benches/compare/Cargo.toml --bin hash-goals -- --native benches/compare/target/native/one-unit/sha2-native {{args}}

# Proofs of many keys, ours beside other people's: some ten minutes to build, some to run, 8 GB of memory and disk.
bench-proofs *args:
    cargo run --release --locked --manifest-path benches/compare/stores/Cargo.toml --bin proofs-many -- {{args}}

# What writing and reading costs, ours beside other people's: `just bench-engines race --rounds 3 --out results.jsonl --dir DIR`
bench-engines *args:
    cargo run --release --locked --manifest-path benches/compare/stores/Cargo.toml --bin engines -- {{args}}

# The first sync of a Bitcoin node, beside RocksDB under a cache as Bitcoin Core's: `just bench-coins --rounds 3 --dir DIR`
bench-coins *args:
    RUSTFLAGS="-C target-cpu=native" cargo run --release --locked --manifest-path benches/compare/coins/Cargo.toml --bin coins -- {{args}}

# The end-to-end run on 1, 2, 4, ... cores as one table: `just cores -- --keys 1000000 --blocks 40`
cores *args:
    cargo build --release -p hedgerow-benches --bin speed --bin cores
    cargo run --release -p hedgerow-benches --bin cores -- {{args}}

# The end-to-end run.
speed *args:
    cargo run --release -p hedgerow-benches --bin speed -- {{args}}

# Licences and advisories (needs cargo-deny).
deny:
    cargo deny check
