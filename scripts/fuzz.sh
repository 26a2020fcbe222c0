#!/bin/sh
# Builds the fuzz targets with coverage and runs each: scripts/fuzz.sh RUNS [TARGET...]
#
# The compiler flags are those of cargo-fuzz without a sanitizer (all crates forbid `unsafe`), so
# that it needs neither cargo-fuzz nor nightly: any compiler that builds the crates, and a C++
# compiler for libFuzzer. Overflow checks and debug assertions are on.
#
# FUZZ_SEED (default 1) makes a run repeatable. FUZZ_CORPUS names a directory that keeps what was
# found from one run to the next; without it each run starts from fuzz/seeds alone.
set -eu
cd "$(dirname "$0")/.."

runs=${1:?usage: scripts/fuzz.sh RUNS [TARGET...]}
shift
[ $# -gt 0 ] || set -- $(ls fuzz/fuzz_targets | sed -n 's/\.rs$//p')

host=$(rustc -vV | sed -n 's/^host: //p')
case ${CARGO_TARGET_DIR:-target} in
/*) out=${CARGO_TARGET_DIR}/fuzz ;;
*) out=$PWD/${CARGO_TARGET_DIR:-target}/fuzz ;;
esac

coverage="--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage="$coverage -Cllvm-args=-sanitizer-coverage-$option"
done
# With --target the flags do not reach build scripts and macros.
(cd fuzz && RUSTFLAGS="$coverage" ${CARGO:-cargo} build --quiet --release --locked \
    --target "$host" --target-dir "$out" $(printf -- '--bin %s ' "$@"))

for target in "$@"; do
    corpus=${FUZZ_CORPUS:+$FUZZ_CORPUS/$target}
    if [ -z "$corpus" ]; then
        corpus=$out/corpus/$target
        rm -rf "$corpus"
    fi
    mkdir -p "$corpus" "$out/artifacts"
    set -- "$corpus"
    # libFuzzer writes to the first directory and only reads the others.
    [ -d "fuzz/seeds/$target" ] && set -- "$@" "fuzz/seeds/$target"
    log=$out/$target.log
    if "$out/$host/release/$target" "$@" -runs="$runs" -seed="${FUZZ_SEED:-1}" -max_len=512 \
        -timeout=20 -artifact_prefix="$out/artifacts/$target-" >"$log" 2>&1; then
        echo "fuzz $target: $(sed -n 's/^Done/done/p' "$log"), nothing found"
    else
        tail -n 40 "$log" >&2
        echo "fuzz $target: failed; the whole log is $log" >&2
        exit 1
    fi
done
