#!/bin/sh
# Measures the gateway beside HAProxy, nginx, Pingora and a bare hyper proxy.
set -eu
cd "$(dirname "$0")/../.."

if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    cat <<'HELP'
usage: benches/gateway/run.sh [--rounds N] [--seconds N] [--write FILE]

CPU time per request, added latency and memory of the gateway beside HAProxy, nginx, Pingora and
a bare hyper proxy: all behind one load generator (wrk) and in front of one upstream (nginx), the
proxy alone on the first core, the rest on the second. Builds the gateway and the peers for
release (six minutes the first time), and prints a table. Says what has to be installed for it.

  --rounds N    turns of all proxies (default 4)
  --seconds N   load on one proxy in one turn (default 3)
  --write FILE  also puts the table between the two markers in FILE

A run takes about rounds × (15 × seconds + 25) seconds after the build. Nothing else should run
on the machine; ports 19480 to 19482 of loopback have to be free.
HELP
    exit 0
fi

missing=""
need() { # command, Debian package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
PATH=$PATH:/usr/sbin
need wrk wrk
need nginx nginx-light
need haproxy haproxy
need taskset util-linux
# For zlib-ng, which Pingora builds.
need cmake cmake
need c++ build-essential
if [ -n "$missing" ]; then
    echo "missing; on Debian and Ubuntu: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
if [ "$(nproc)" -lt 2 ]; then
    echo "two cores are needed: one for the proxy, one for the load and the upstream" >&2
    exit 1
fi

case ${CARGO_TARGET_DIR:-target} in
/*) target=${CARGO_TARGET_DIR} ;;
*) target=$PWD/${CARGO_TARGET_DIR:-target} ;;
esac
cargo=${CARGO:-cargo}
$cargo build --quiet --profile dist --locked -p gateway-kit --bin gateway
$cargo build --quiet --release --locked -p benches --bin proxies
# A workspace of its own, so that nothing else builds the peers.
$cargo build --quiet --profile dist --locked --manifest-path benches/gateway/peers/Cargo.toml \
    --target-dir "$target/peers"
"$target/release/proxies" --gateway "$target/dist/gateway" --peers "$target/peers/dist" "$@"
