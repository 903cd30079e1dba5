#!/usr/bin/env bash
# Fuzzes every decoder of bytes from peers: `scripts/fuzz.sh [SECONDS_PER_TARGET=600] [TARGET…]`. JOBS=N runs
# N targets at once. With cargo-fuzz, libFuzzer is guided by coverage; without it, the same targets run on
# mutations of valid inputs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly seconds=${1:-600} fuzz=protocol/fuzz
shift || true

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'there is no cargo-fuzz (`cargo install --locked cargo-fuzz` brings it): fuzzing without coverage, each target in turn'
    exec env FUZZ_SECONDS="$seconds" cargo test --locked --release -p autoswarm-protocol -p autoswarm-node \
        --test decoders -- --nocapture mutations
fi

targets=("$@")
[ ${#targets[@]} -gt 0 ] ||
    mapfile -t targets < <(cd "$fuzz/fuzz_targets" && printf '%s\n' *.rs | sed 's/\.rs$//')

# With the workspace's versions of packages. No sanitizer: nothing that is fuzzed is unsafe, and without one
# the stable toolchain is enough.
cp Cargo.lock "$fuzz/Cargo.lock"
(cd protocol && cargo fuzz build --sanitizer none)
binaries=$fuzz/target/$(rustc --version --verbose | sed -n 's/^host: //p')/release
"$binaries/seeds" "$fuzz/corpus"

# Fuzzes target $1; the log stays beside its corpus.
one() {
    local target=$1 folder=$fuzz/corpus/$1 limit=4096 status=0
    case $target in
    record | content | body) limit=32769 ;;
    # Larger inputs are refused unread, as the tables of the tests show.
    ask | answer | frame | lead) limit=65536 ;;
    esac
    mkdir -p "$fuzz/artifacts/$target"
    "$binaries/$target" "$folder" -max_total_time="$seconds" -max_len=$limit -rss_limit_mb=1024 -timeout=10 \
        -print_final_stats=1 -artifact_prefix="$fuzz/artifacts/$target/" \
        >"$fuzz/artifacts/$target.log" 2>&1 || status=$?
    awk -v target="$target" -v status=$status '
        /^stat::number_of_executed_units/ { runs = $2 }
        /^#[0-9]+.* cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cover = $(i + 1) }
        END { printf "%-16s %12d runs, %6d edges, %s\n", target, runs, cover, status ? "FOUND SOMETHING" : "nothing found" }
    ' "$fuzz/artifacts/$target.log"
    return $status
}

found=0 running=0
for target in "${targets[@]}"; do
    one "$target" &
    running=$((running + 1))
    if [ $running -ge "${JOBS:-1}" ]; then
        wait -n || found=1
        running=$((running - 1))
    fi
done
while [ $running -gt 0 ]; do
    wait -n || found=1
    running=$((running - 1))
done
[ $found -eq 0 ] || echo "inputs that broke a promise: $fuzz/artifacts/*/"
exit $found
