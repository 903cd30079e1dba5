#!/usr/bin/env bash
# Compares searches on equal training seconds and prints the table of node/docs/search.md. Searches that are
# in OUT already are not made again; a changed search needs another OUT, or `rm -r` of this one.
#   scripts/search.sh                                          20 repetitions of 1800 s on the surface
#   BUDGET=600 REPETITIONS=5 METHODS='evolve tpe' scripts/search.sh
#   GROUND=trainer REPETITIONS=10 scripts/search.sh            the real trainer: hours; may be stopped
#                                                              and started again
#   GROUND=pytorch METHODS=tpe RANGES=few scripts/search.sh    PyTorch in its place, as fast as torch.compile
#
# Variables:
#   BUDGET              training seconds (bash keeps SECONDS for itself)
#   GROUND              surface, trainer or pytorch
#   METHODS REPETITIONS
#   PREDICTORS RANGES   of "on off", and of "near close full few"
#   JOBS OUT AT         searches at once, the folder of results, the times of the table
#   TRAINER DATA MEMO   for GROUND=trainer and GROUND=pytorch
#   PYTHON              for GROUND=pytorch: an interpreter that has PyTorch 2.11.0; otherwise one is made in
#                       target/parity, a download of about 4 GB
#   PYTORCH PYTORCH_SPEED    see scripts/search/pytorch_trainer.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ground=${GROUND:-surface} budget=${BUDGET:-1800} repetitions=${REPETITIONS:-20}
methods=${METHODS:-evolve random neighbours mutations walk tpe tpe-plain cmaes cmaes-slow}
target=${CARGO_TARGET_DIR:-target}
work=$target/search
out=${OUT:-$work/$ground-$budget}
mkdir -p "$out"

# Optimised as a release, but in the dev profile's folder, beside what the tests have built already.
CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo build --quiet --workspace --locked --bin test-bed
# A copy, so that all repetitions run the same search even if the tree is built again meanwhile.
bed=$out/test-bed
[ -x "$bed" ] || cp "$target/debug/test-bed" "$bed"

if [[ $methods == *tpe* || $methods == *cmaes* ]] && ! [ -x "$work/venv/bin/python" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/search/requirements.txt
fi

options=(--ground "${ground/pytorch/trainer}" --seconds "$budget")
trainer=${TRAINER:-$target/debug/trainer} memo=$work/runs.jsonl
if [ "$ground" = pytorch ]; then
    python=${PYTHON:-target/parity/bin/python}
    if [ -z "${PYTHON:-}" ] && ! "$python" -c 'import torch' 2>/dev/null; then
        python3 -m venv target/parity
        "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir torch==2.11.0 numpy >&2
    fi
    PYTORCH_SOCKET=$(mktemp -u)
    # On the shapes of scripts/bench.sh, torch.compile was at most 1.43 times as fast as eager PyTorch, and
    # compiling takes half a minute.
    TRAINER=$trainer PYTORCH=${PYTORCH:-eager} PYTORCH_SPEED=${PYTORCH_SPEED:-1.43} \
        OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 \
        nice -n 19 "$python" scripts/search/pytorch_trainer.py serve "$PYTORCH_SOCKET" &
    trap 'kill %1; rm -f "$PYTORCH_SOCKET"' EXIT
    until [ -S "$PYTORCH_SOCKET" ]; do sleep 0.2 && kill -0 %1; done
    export PYTORCH_SOCKET
    trainer=scripts/search/pytorch_trainer.py memo=$work/pytorch-runs.jsonl
fi
if [ "$ground" != surface ]; then
    options+=(--trainer "$trainer" --data "${DATA:-$work/data}" --memo "${MEMO:-$memo}")
    options+=(--checkpoints "${CHECKPOINTS:-2}")
fi

# Prints a line for each search: the file that it fills, and its command.
commands() {
    local seed method predictor range command
    for seed in $(seq 1 "$repetitions"); do
        for predictor in ${PREDICTORS:-on}; do
            for method in $methods; do
                for range in ${RANGES:-near}; do
                    case $method in
                    tpe* | cmaes*) command="$work/venv/bin/python scripts/search/rivals.py --bed $bed" ;;
                    walk) command="python3 scripts/search/rivals.py --bed $bed" ;;
                    *) command="$bed search" ;;
                    esac
                    # Evolve has a range of its own, so other ranges would only repeat it.
                    [ "$method" != evolve ] || range=near
                    echo "$out/$method-$range-$predictor-$seed.jsonl $command --method $method --seed $seed" \
                        "--predictor $predictor --range $range ${options[*]}"
                done
            done
        done
    done | awk '!seen[$0]++'
}

# Runs a line of `commands`, unless its file is there. A command that is interrupted leaves no file.
one() {
    read -r -a words <<<"$1"
    local file=${words[0]}
    [ -s "$file" ] && return
    "${words[@]:1}" >"$file.part" && mv "$file.part" "$file"
}
export -f one
export OMP_NUM_THREADS=1
commands | tr '\n' '\0' | xargs -0 -P "${JOBS:-1}" -I{} bash -c 'one "$1"' _ {}

# The table comes from the newest build; it needs only the results.
"$target/debug/test-bed" table --at "${AT:-$budget}" "$out"/*.jsonl
