#!/bin/sh
# Installs what the tests need beside Rust, from Debian's registry: a real redis-server to compare with, Python and Node
# for the rounds of client libraries. What is there already is left alone.
set -eu

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need redis-server redis-server
need redis-cli redis-tools
need python3 python3
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
need node nodejs
need openssl openssl
need npm npm
need cc gcc
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Please install:$missing" >&2
    exit 1
fi
# Installing redis-server must not start a daemon: the tests start their own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
