# One-line recipes. README and CI work without `just`.

# Real Bitcoin blocks in, roots out, proofs verified.
example:
    cargo run --release -p hedgerow --example bitcoin_utxo

# Every test of the default features.
test:
    cargo test --workspace

# What CI runs.
ci:
    .ci/run

# Lints, formatting, documentation.
lint:
    cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# All metadata engines (needs clang and libclang-dev).
test-engines:
    cargo test -p hedgerow -p hedgerow-metadb --features hedgerow/rocksdb,hedgerow/sled,hedgerow-metadb/rocksdb,hedgerow-metadb/sled

# The CUDA backend: PTX up to date, no spills, the engine on the fake driver (compilers from PyPI).
cuda:
    .ci/cuda

# The GPU backend on a software adapter (installs lavapipe).
wgpu:
    .ci/wgpu

# Every recorded workload, block by block.
replay:
    cargo build --release -p hedgerow-cli && .ci/replay target/release/hedgerow

# The criterion benches of the layers.
bench *args:
    cargo bench -p hedgerow-benches {{args}}

# The end-to-end run.
speed *args:
    cargo run --release -p hedgerow-benches --bin speed -- {{args}}

# Licences and advisories (needs cargo-deny).
deny:
    cargo deny check
