#!/bin/sh
# Tests the admin API of the `gateway` program with schemathesis, which it installs as it is pinned in
# gateway-kit/schemathesis: into the target directory, once, and again only when a pin changes.
#
# usage: admin.sh [EXAMPLES [SEED]]    requests per operation; default 100, seed 1
#
# Needs Python 3.11, the network for that one time, and the program built (`make check-admin`).
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "admin: $*" >&2
    exit 1
}

case ${1:-} in
-h | --help)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | grep -v '^set'
    exit 0
    ;;
esac
examples=${1:-100} seed=${2:-1}
case $examples$seed in
*[!0-9]*) fail "EXAMPLES and SEED are numbers, not \"$examples\" and \"$seed\"" ;;
esac

target=${CARGO_TARGET_DIR:-target}
case $target in
/*) ;;
*) target=$PWD/$target ;;
esac
out=$target/schemathesis
pins=$PWD/gateway-kit/schemathesis
program=$target/debug/gateway
[ -x "$program" ] || fail "$program is missing: cargo build -p gateway-kit --bin gateway"
python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer with venv is missing (Debian: python3-venv)"

mkdir -p "$out"
stamp=$(cksum <"$pins/requirements.txt"; python3 --version)
if [ "$stamp" != "$(cat "$out/installed" 2>/dev/null)" ]; then
    echo "admin: installs schemathesis into $out"
    rm -f "$out/installed"
    python3 -m venv --clear "$out/py"
    timeout 300 "$out/py/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --retries 2 --no-deps --only-binary :all: --require-hashes -r "$pins/requirements.txt" ||
        fail "schemathesis cannot be installed (no network?)"
    echo "$stamp" >"$out/installed"
fi

token=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
log=$out/gateway.log
ADMIN_TOKEN=$token LOG_LEVEL=info LOG_FORMAT=json "$program" --config "$pins/gateway.toml" >"$log" 2>&1 &
gateway=$!
trap 'kill "$gateway" 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM

address=
for _ in $(seq 100); do
    address=$(sed -n 's/.*"the admin listens".*"address":"\([^"]*\)".*/\1/p' "$log")
    [ -z "$address" ] || break
    kill -0 "$gateway" 2>/dev/null || { cat "$log" >&2; fail "the gateway did not start"; }
    sleep 0.1
done
[ -n "$address" ] || fail "the gateway does not say where its admin listens; see $log"

check() { # further arguments
    cd "$out"
    timeout 1200 "$out/py/bin/st" --config-file "$pins/schemathesis.toml" run \
        "http://$address/admin/openapi.json" --header "Authorization: Bearer $token" \
        --seed "$seed" --generation-database none --no-color --warnings off "$@"
}
# Wrong tokens are limited, and right ones are then refused as well: that check comes last.
check --checks all --exclude-checks ignored_auth --max-examples "$examples"
check --checks ignored_auth --max-examples 1 --phases fuzzing
kill -0 "$gateway" 2>/dev/null || fail "the gateway has ended; see $log"
if grep -q '"level":"ERROR"' "$log"; then
    grep '"level":"ERROR"' "$log" >&2
    fail "the gateway has logged errors"
fi
echo "admin: no finding"
