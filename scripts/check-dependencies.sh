#!/usr/bin/env bash
# Checks the directions of the dependencies that ARCHITECTURE.md promises. Dev-dependencies are free.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
status=0

# Fails if package $1 depends, directly or not, on a package whose name matches the extended regex $2. $3 says
# why it must not.
forbid() {
    local tree found
    tree=$(cargo tree --locked --offline --edges normal,build --target all --prefix none \
        --format '{p}' --package "$1")
    # `|| true`, because grep fails without a match, which is the good case.
    found=$(awk 'NR > 1 { print $1 }' <<<"$tree" | sort -u | grep -xE "$2" || true)
    [ -z "$found" ] && return
    printf '%s must not depend on %s: %s\n' "$1" "$(paste -sd ' ' - <<<"$found")" "$3"
    status=1
}

readonly tensors='tch|torch-sys'
readonly runtimes='tokio.*|async-std|smol|futures-executor|mio'
# libp2p-identity is not among these: it is keys and signatures, no network.
readonly networks='libp2p|libp2p-(core|swarm|gossipsub|tcp|quic|kad|noise|request-response)|reqwest|hyper.*|axum|quinn.*|socket2|ureq'
readonly files='git2|libgit2-sys|sled|tempfile|rustix|walkdir|notify|memmap2'

forbid autoswarm-protocol "$tensors|$runtimes|$networks|$files|autoswarm-(node|trainer)" \
    'values, bytes and judgement do no IO'
forbid autoswarm-node "$tensors|autoswarm-trainer" \
    'a crash of libtorch must stay the crash of a child process'
forbid autoswarm-trainer "$runtimes|$networks|autoswarm-node" \
    'an experiment knows no peers and opens no socket'
for package in autoswarm-node autoswarm-trainer autoswarm-tests; do
    forbid "$package" 'openssl|openssl-sys|native-tls' \
        'TLS is rustls, so that nothing of the system is needed'
done
exit $status
