#!/usr/bin/env bash
# Compares training throughput with PyTorch, eager and torch.compile, by turns in one run, and prints the
# ratios.
#
# usage: scripts/bench.sh [--threads N] [--rounds N] [--seconds S] [--shape D,W,S,B,V]...
#                         [--dtype f32|bf16] [--json]
#
# A shape is depth, width, sequence length, sequences a step, and vocabulary. PYTHON=… names an interpreter
# that has PyTorch 2.11.0; otherwise one is made in target/parity, which downloads about 4 GB. TRAINER=… names
# a trainer; otherwise it is the release build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-target/parity/bin/python}
if [ -z "${PYTHON:-}" ] && ! "$python" -c 'import torch' 2>/dev/null; then
    echo 'bench: installing PyTorch 2.11.0 to target/parity' >&2
    python3 -m venv target/parity
    "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir torch==2.11.0 numpy >&2
fi
if [ -z "${TRAINER:-}" ]; then
    cargo build --quiet --release --package autoswarm-trainer --bin trainer --locked
    TRAINER=target/release/trainer
fi
PYTHONDONTWRITEBYTECODE=1 exec "$python" scripts/parity/alternate.py --trainer "$TRAINER" "$@"
