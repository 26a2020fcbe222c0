#!/bin/sh
# Installs what `make test` needs beside Rust and make; elsewhere than on Debian
# and Ubuntu it says what is missing and how to get it.
set -eu

missing=""
need() { # command, Debian package
    command -v "$1" >/dev/null 2>&1 && return
    # Where Debian has servers, which the PATH of ordinary users lacks.
    for dir in /usr/sbin /usr/local/sbin /usr/lib/postgresql/*/bin; do
        [ ! -x "$dir/$1" ] || return 0
    done
    missing="$missing $2"
}

for component in rustfmt clippy-driver; do
    if ! command -v "$component" >/dev/null 2>&1; then
        echo "$component is missing: rustup component add rustfmt clippy" >&2
        exit 1
    fi
done

# Miri is a component of nightly; without it `make miri` says that it is skipped.
if command -v rustup >/dev/null 2>&1 && rustup toolchain list | grep -q '^nightly' &&
    ! cargo +nightly miri --version >/dev/null 2>&1; then
    rustup component add --toolchain nightly miri rust-src ||
        echo "Miri could not be added to nightly; make miri will skip" >&2
fi

need cc build-essential
# For libFuzzer.
need c++ build-essential
need chromium chromium
need chromedriver chromium-driver
# The engines that tests start for themselves.
need initdb postgresql
need mariadbd mariadb-server
need redis-server redis-server
need nats-server nats-server
# A real upstream for the gateway.
need nginx nginx-light
# For the providers' own libraries; Node comes from PyPI where it is missing.
need php php-cli
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing (Debian package names)." >&2
    echo "Install a C compiler, Chromium, its chromedriver, PostgreSQL 15, MariaDB, Redis 7, NATS, PHP and Python 3.11 with your package manager, then run make again." >&2
    exit 1
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing:$missing. As root: apt-get install -y$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

# Ubuntu's chromium package only points to a snap; the driver there is chromium-chromedriver.
if [ -r /etc/os-release ] && grep -q '^ID=ubuntu' /etc/os-release; then
    missing=$(echo "$missing" | sed 's/chromium-driver/chromium-chromedriver/; s/chromium\( \|$\)/chromium-browser\1/')
fi

# Tests start the servers they need, so the packages shall start none; where the
# machine has a policy of its own, that one holds.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null

# Nor when the machine starts again; only those that were not there before.
if command -v systemctl >/dev/null 2>&1; then
    for package in $missing; do
        case $package in
            postgresql | redis-server | nats-server) unit=$package ;;
            mariadb-server) unit=mariadb ;;
            nginx-light) unit=nginx ;;
            *) continue ;;
        esac
        $as_root systemctl disable --quiet "$unit" 2>/dev/null || true
    done
fi
