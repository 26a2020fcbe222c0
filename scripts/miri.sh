#!/bin/sh
# Runs tests of resilience-core under Miri: undefined behaviour in what the crates build on, data
# races, leaks, and the emulation of weak memory, which the processor at hand may never show.
#
# Miri runs some hundred times slower than the machine, so this takes what is small: the races of
# two threads under MIRI_SEEDS interleavings (default 16), and the calls of one thread once. Any
# other test can be run by hand: cargo +nightly miri test -p resilience-core --test main -- NAME::.
set -eu
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: SKIPPED, it is not installed. It needs nightly Rust:" >&2
    echo "  rustup toolchain install nightly --component miri --component rust-src" >&2
    exit 0
fi

miri() { # flags of Miri, then arguments of cargo
    flags=$1
    shift
    MIRIFLAGS="$flags" PROPTEST_CASES=1 cargo +nightly miri test --quiet --locked \
        -p resilience-core --all-features --target-dir "${CARGO_TARGET_DIR:-target}/miri" "$@"
}

echo "miri: races, ${MIRI_SEEDS:-16} seeds"
miri "-Zmiri-many-seeds=0..${MIRI_SEEDS:-16}" --test small -- races::
echo "miri: calls"
# Not isolated: property tests look for the file of their former failures.
miri "-Zmiri-disable-isolation" --test small -- breaker_call:: check_all:: bulkhead:: --skip threads --skip setting
