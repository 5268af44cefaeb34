#!/bin/sh
# Makes a Python environment with moto_server in it.
# Usage: tests/tools/moto/build.sh <directory for the programs>
set -eu
out=$1/moto
here=$(dirname "$0")
# A half made one is of no use.
rm -rf "$out"
echo "moto: fetching AWS's APIs for the tests (about 20 s, 140 MB)"
python3 -m venv "$out"
"$out/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" || {
    rm -rf "$out"
    exit 1
}
touch "$out/bin/moto_server"
