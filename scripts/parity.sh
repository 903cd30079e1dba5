#!/usr/bin/env bash
# Compares 50 training steps of the trainer with the same model in PyTorch: the losses must agree to 0.1 %.
#
# PYTHON=… names an interpreter that has PyTorch; otherwise one is made in target/parity, which downloads
# about 4 GB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-target/parity/bin/python}
if [ -z "${PYTHON:-}" ] && ! "$python" -c 'import torch' 2>/dev/null; then
    echo 'parity: installing PyTorch 2.11.0 to target/parity' >&2
    python3 -m venv target/parity
    "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir torch==2.11.0 numpy >&2
fi

run=$(mktemp)
trap 'rm -f "$run"' EXIT
cargo run --quiet --package autoswarm-trainer --example parity "$run"
"$python" scripts/parity/reference.py "$run"
