#!/usr/bin/env bash
# Simulates every condition of node/docs/simulation.md and prints its table:
#   scripts/simulate.sh
#   SEEDS=3 COMPUTE=4 ONLY='16 nodes,16 silent' scripts/simulate.sh     fewer seeds, hours and conditions
# FIRST_SEED=101 takes other seeds; LIES=results makes liars lie about that alone (claims, results, verdicts).
#
# From new runs of scripts/surface/collect.py to new figures:
#   cp RUNS.csv tests/data/surface-runs.csv
#   scripts/simulate.sh fit        writes tests/data/surface.json, and says how good it is
#   scripts/simulate.sh targets    writes tests/data/targets.json
#   scripts/simulate.sh
#
# Small swarms of the real trainer, under a virtual clock (TRAINER=, DATA=, MEMO=, SEEDS=). This takes hours,
# and goes on where it was stopped:
#   scripts/simulate.sh real
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=tests/data/surface-runs.csv

# Optimised as a release, but in the dev profile's folder, beside what the tests have built already.
export CARGO_PROFILE_DEV_OPT_LEVEL=3
cargo build --quiet --workspace --locked --bin test-bed
bed() { "${CARGO_TARGET_DIR:-target}/debug/test-bed" "$@"; }

case "${1:-compare}" in
fit)
    bed fit "$runs" >tests/data/surface.json.new
    mv tests/data/surface.json.new tests/data/surface.json
    bed score --parameters tests/data/surface.json "$runs" ;;
targets)
    bed optimum --climbs "${CLIMBS:-200}" >tests/data/targets.json.new
    mv tests/data/targets.json.new tests/data/targets.json
    cat tests/data/targets.json ;;
compare)
    bed compare --seeds "${SEEDS:-10}" --first-seed "${FIRST_SEED:-1}" --compute "${COMPUTE:-8}" \
        --threads "${THREADS:-2}" ${ONLY:+--only "$ONLY"} ${LIES:+--lies "$LIES"} ;;
real)
    trainer=(--trainer "${TRAINER:-target/debug/trainer}" --data "${DATA:-target/search/data}"
        --memo "${MEMO:-target/search/swarm.jsonl}")
    for seed in $(seq 1 "${SEEDS:-1}"); do
        bed real-swarm --nodes 4 --experiments 30 --seed "$seed" "${trainer[@]}"
        bed real-swarm --nodes 4 --experiments 30 --silent --seed "$seed" "${trainer[@]}"
        bed real-swarm --nodes 1 --experiments 120 --seed "$seed" "${trainer[@]}"
    done ;;
*)
    echo "simulate.sh: \`$1\` is not known; use fit, targets, real, or nothing" >&2
    exit 2 ;;
esac
