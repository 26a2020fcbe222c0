#!/bin/sh
# Tests webhook-verify against the providers' own libraries, which it installs as they are pinned in
# webhook-verify/interop: into the target directory, once, and again only when a pin changes.
#
# Needs Python 3.11, PHP, and the network for that one time. Node 20 with npm is used where it is
# installed; elsewhere it comes from PyPI, pinned as well.
set -eu
cd "$(dirname "$0")/.."

case ${CARGO_TARGET_DIR:-target} in
/*) out=${CARGO_TARGET_DIR}/interop ;;
*) out=$PWD/${CARGO_TARGET_DIR:-target}/interop ;;
esac
pins=$PWD/webhook-verify/interop

fail() {
    echo "interop: $*" >&2
    exit 1
}

python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer with venv is missing (Debian: python3-venv)"
command -v php >/dev/null 2>&1 || fail "PHP is missing (Debian: php-cli)"

has_node() {
    command -v npm >/dev/null 2>&1 &&
        node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null
}

# Runs a step of at most MINUTES; shows the end of its log when it fails.
step() { # name, minutes, command...
    name=$1 limit=$2
    shift 2
    timeout "$((limit * 60))" "$@" >"$out/$name.log" 2>&1 && return
    tail -n 15 "$out/$name.log" >&2
    fail "$name failed (no network?); the whole log is $out/$name.log"
}

install_python() {
    step venv 2 python3 -m venv --clear "$out/py"
    step pip 4 "$out/py/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --retries 2 --no-deps --only-binary :all: --no-compile --require-hashes "$@"
}

install_node() {
    mkdir -p "$out/node"
    cp "$pins/.npmrc" "$pins/package.json" "$pins/package-lock.json" "$out/node"
    cd "$out/node"
    step npm 4 npm ci --loglevel=error --omit=dev --fetch-retries=2
}

install() {
    echo "interop: installs the providers' libraries into $out"
    rm -f "$out/installed"
    if has_node; then
        install_python -r "$pins/requirements.txt" &
        (install_node) && failed= || failed=npm
        wait $! && [ -z "$failed" ] || exit 1
    else
        install_python -r "$pins/requirements.txt" -r "$pins/requirements-node.txt"
        PATH="$out/py/bin:$PATH"
        (install_node)
    fi
    ln -sf "$(command -v node)" "$out/node/run"
    echo "$stamp" >"$out/installed"
}

mkdir -p "$out"
stamp=$(cat "$pins"/requirements*.txt "$pins/package-lock.json" "$pins/.npmrc" scripts/interop.sh |
    cksum; python3 --version)
[ "$stamp" = "$(cat "$out/installed" 2>/dev/null)" ] && [ -x "$out/node/run" ] || install

# Node finds libraries beside the program.
cp "$pins/drive.mjs" "$out/node"

# The same features as the other tests, so that nothing is built twice.
WEBHOOK_INTEROP=$out ${CARGO:-cargo} test --quiet --workspace --all-features --locked \
    --test interop -- --ignored --nocapture
