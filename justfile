# Short names for what people type. CI runs the same: .ci/run calls ./check.

# Everything CI runs
ci:
    ./check

# What fails most often, in seconds
quick:
    cargo fmt --all --check
    cargo xtask tidy
    cargo clippy --workspace --all-targets -- -D warnings

# Unit and room tests
test *args:
    cargo nextest run --workspace {{args}}

# System tests against a real S3 server: `just system -k warm`
system *args:
    ./check --only system -- {{args}}

# Long fault runs of the page store and of who reads it, some ten minutes and more: tests named
# soak_*, else ignored
soak *args:
    cargo test -p larder-client --test it -- --ignored --nocapture --test-threads 1 soak_ {{args}}
    cargo test -p larder-pages --test it -- --ignored --nocapture --test-threads 1 soak_ {{args}}

# docs/config.md anew from the code
config-docs:
    cargo xtask config-docs

# The demonstration: data, store, Larder, one table
up *args:
    ./up {{args}}
