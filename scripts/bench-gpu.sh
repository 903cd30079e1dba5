#!/usr/bin/env bash
# Compares training on a GPU: ours with fused, grouped and plain operations, and PyTorch, in one run.
#
# usage: scripts/bench-gpu.sh [--data DIR] [--seeds N] [--rounds N] [--seconds S]
#
# First runs the tests that need a GPU, unless TRAINER=… names a trainer. Then prints, for the reference's
# default model (depth 8, width 512, heads of 128, windows SSSL, sequences of 2048, vocabulary 8192, bf16):
#   - tokens/s by turns: fused, grouped and plain operations (AUTOSWARM_OPERATIONS), PyTorch eager and
#     torch.compile
#   - the peak GPU memory of each process, from nvidia-smi
#   - with --data, a folder that `trainer prepare` wrote: what fused and grouped operations learn in 32 steps
#     beside the plain ones, over 8 seeds (curves.py)
#
# PYTHON=… names an interpreter that has PyTorch 2.11.0 with CUDA; without one, PyTorch is left out.
# Expects a machine prepared by AUTOSWARM_LIBTORCH=cuda scripts/libtorch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data= seeds=8 rounds=3 seconds=10
while [ $# -gt 0 ]; do
    case $1 in
    --data) data=$2 ;;
    --seeds) seeds=$2 ;;
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    *) echo "bench-gpu: \`$1\` is no option; see the head of this file" >&2 && exit 2 ;;
    esac
    shift 2
done

command -v nvidia-smi >/dev/null ||
    { echo 'bench-gpu: nvidia-smi is not there, so there is no GPU to measure' >&2 && exit 1; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

if [ -z "${TRAINER:-}" ]; then
    cargo build --quiet --release --package autoswarm-trainer --bin trainer --locked
    TRAINER=target/release/trainer
    cargo test --locked --package autoswarm-trainer --test it cuda:: 2>&1 | tee target/bench-gpu-tests.txt
    ! grep 'NOT RUN' target/bench-gpu-tests.txt || { echo 'bench-gpu: no test saw a GPU' >&2 && exit 1; }
fi

# 64 of the reference's 256 sequences a step: here one micro-batch is a step.
shape=8,512,2048,64,8192
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

# Runs a command, and writes its peak GPU memory, MiB, to FILE: `watched FILE COMMAND…`
watched() {
    local file=$1
    shift
    "$@" <&0 & # without <&0 the shell gives a command in the background no input
    local process=$! most=0 now
    while kill -0 "$process" 2>/dev/null; do
        now=$(nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader,nounits |
            awk -F', ' -v pid="$process" '$1 == pid { print $2 }')
        [ "${now:-0}" -le "$most" ] || most=$now
        sleep 0.2
    done
    echo "$most" >"$file"
    wait "$process"
}

# Prints a line of the table, `line NAME`: a command wrote $output/line, and `watched` wrote $output/memory.
line() {
    "${PYTHON:-python3}" - "$1" "$output" <<'EOF'
import json, sys
name, output = sys.argv[1:]
row = json.loads(open(f"{output}/line").read().strip().splitlines()[-1])
speed, memory = row["tokens_per_second"], open(f"{output}/memory").read().strip()
share = f'{row["flop_utilisation"]:6.1%} of a product' if "flop_utilisation" in row else ""
print(f"{name:<16} {speed:>10.0f} tokens/s {share:20} {memory:>6} MiB")
EOF
}

ours() { # OPERATIONS
    watched "$output/memory" env AUTOSWARM_OPERATIONS="$1" "$TRAINER" bench --json \
        --config scripts/parity/gpu.toml --device cuda:0 --dtype bf16 --shape "$shape" --seconds "$seconds" \
        >"$output/line"
    line "$1"
}

theirs() { # NAME MODE
    echo "$seconds" >"$output/seconds"
    watched "$output/memory" env PYTHONDONTWRITEBYTECODE=1 \
        "$PYTHON" scripts/parity/speed.py "$2" "$shape" 2 cuda:0 128 <"$output/seconds" >"$output/line"
    line "$1"
}

for _ in $(seq "$rounds"); do
    for form in fused grouped plain; do ours "$form"; done
    if [ -n "${PYTHON:-}" ]; then
        theirs eager eager
        theirs torch.compile compile
    fi
done

if [ -n "$data" ]; then
    python3 scripts/parity/curves.py --trainer "$TRAINER" --data "$data" \
        --config scripts/parity/gentle-gpu.toml --device cuda:0 --dtype bf16 \
        --tokens $((32 * 131072)) --context 2048 --seeds "$seeds" --forms fused grouped
fi
