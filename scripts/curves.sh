#!/usr/bin/env bash
# Compares what the trainer's fused and plain operations learn: pairs of runs on equal tokens, seed by seed.
#
# usage: scripts/curves.sh --data DIR [--config FILE] [--tokens N] [--seeds N] [--forms fused grouped f32]
#                          [--device cuda:0] [--dtype bf16] [--threads N]
#
# DIR is a folder that `trainer prepare` wrote. At the default rates, two runs that differ by one rounding
# part ways for hundreds of steps. At those of scripts/parity/gentle.toml they stay together, and a difference
# of a thousandth shows. TRAINER=… names a trainer; otherwise it is the release build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${TRAINER:-}" ]; then
    cargo build --quiet --release --package autoswarm-trainer --bin trainer --locked
    TRAINER=target/release/trainer
fi
PYTHONDONTWRITEBYTECODE=1 exec "${PYTHON:-python3}" scripts/parity/curves.py --trainer "$TRAINER" "$@"
