#!/bin/sh
# Installs what the rounds use, from its registries: redis-py and Django into a virtual environment, ioredis and BullMQ
# into node_modules. Both are left alone once they are there. Argument: the folder for the virtual environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$1

if ! [ -f "$venv/installed" ] || ! cmp -s "$here/requirements.txt" "$venv/installed"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed"
fi
if ! cmp -s "$here/package-lock.json" "$here/node_modules/.installed"; then
    (cd "$here" && npm ci --silent --no-audit --no-fund)
    cp "$here/package-lock.json" "$here/node_modules/.installed"
fi
