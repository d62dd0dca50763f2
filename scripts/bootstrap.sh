#!/bin/sh
# Makes the virtual environment with exactly what requirements.lock says.
# Everything else is installed by Ansible, which this environment brings; Debian's python3 may come without
# the means to make one (python3-venv), which is the only package installed here.
set -eu
python=$1
venv=$2

"$python" - <<'CHECK' || { echo "error: $python is older than 3.11; fix: make PYTHON=python3.11 ..." >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "error: python3-venv is missing and there is no sudo; fix: install python3-venv as root" >&2; exit 1; }
        as_root=sudo
    fi
    echo "installing python3-venv"
    $as_root apt-get update -q
    $as_root apt-get install -qy --no-install-recommends python3-venv
fi

echo "making $venv"
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
