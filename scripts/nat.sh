#!/usr/bin/env bash
# Lets two real nodes meet across NAT: each is behind a router of its own, and a relay has a public address.
#
#   scripts/nat.sh [cone|symmetric]…
#
# cone: the router maps an inner port to the same outer port for all connections, so that hole punching works.
# symmetric: each connection has an outer port of its own, so that only the relay is left. Both are tried
# unless one is named.
#
# All of it runs in network namespaces of this machine; the routers are nftables. Prints how the two nodes
# reached each other, and whether a record got through. Needs root, iproute2, nftables and python3. Touches
# nothing outside its namespaces, and removes them at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(id -u)" = 0 ] || { echo "this needs root: it makes network namespaces" >&2; exit 1; }
for tool in ip nft python3; do
    command -v "$tool" >/dev/null ||
        { echo "\`$tool\` is missing: apt-get install iproute2 nftables python3" >&2; exit 1; }
done
[ $# -gt 0 ] || set -- cone symmetric

# BINARIES=… names a folder that has `node` and `fake-trainer` already.
binaries=${BINARIES:-$PWD/target/debug}
[ -n "${BINARIES:-}" ] || cargo build --locked -p autoswarm-node -p autoswarm-tests --bins
export AUTOSWARM_TRAINER=$binaries/fake-trainer FAKE_TRAINER=slow=0.2,sigma=0.0005

prefix=nat$$
folder=$(mktemp -d)
processes=()

# Runs a command in one of the namespaces.
in_space() {
    local space=$1
    shift
    ip netns exec "$prefix-$space" "$@"
}

clean() {
    for process in "${processes[@]}"; do
        kill "$process" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    processes=()
    for space in net relay router1 router2 home1 home2; do
        ip netns del "$prefix-$space" 2>/dev/null || true
    done
}
trap 'clean; rm -rf "$folder"' EXIT

# Connects a namespace with the public network, `net`, at an address.
connect() {
    local space=$1 address=$2
    in_space net ip link add "to-$space" type veth peer name wan netns "$prefix-$space"
    in_space net ip link set "to-$space" master bridge up
    in_space "$space" ip address add "$address/24" dev wan
    in_space "$space" ip link set wan up
}

# Makes a home behind router N: a private network, address translation for what leaves it, and a firewall
# against connections from outside.
home() {
    local n=$1 masquerade=$2
    connect "router$n" "203.0.113.1$n"
    in_space "router$n" ip link add lan type veth peer name lan netns "$prefix-home$n"
    in_space "router$n" ip address add "192.168.$n.1/24" dev lan
    in_space "router$n" ip link set lan up
    in_space "home$n" ip address add "192.168.$n.2/24" dev lan
    in_space "home$n" ip link set lan up
    in_space "home$n" ip route add default via "192.168.$n.1"
    in_space "router$n" sysctl -qw net.ipv4.ip_forward=1
    in_space "router$n" nft -f - <<RULES
table ip nat {
    chain out { type nat hook postrouting priority srcnat; oifname wan $masquerade; }
}
table ip filter {
    chain through { type filter hook forward priority filter; policy accept;
        iifname wan ct state established,related accept
        iifname wan drop
    }
    chain here { type filter hook input priority filter; policy accept;
        iifname wan drop
    }
}
RULES
}

# Starts a node in a namespace.
node() {
    local name=$1
    shift
    # Not by `in_space`: a function in the background is a subshell, and the signal would end that and not the
    # node.
    ip netns exec "$prefix-$name" "$binaries/node" --home "$folder/$name" "$@" --no-mdns --json \
        >"$folder/$name.json" 2>"$folder/$name.log" &
    processes+=($!)
}

# Prints the value of a Python expression over a node's `status`.
status() {
    "$binaries/node" --home "$folder/$1" status --json 2>/dev/null |
        python3 -c "import json, sys; status = json.load(sys.stdin); status = status.get('network') or status; print($2)"
}

# Waits a minute until an expression over a node's status is true.
wait_for() {
    local name=$1 what=$2 expression=$3
    for _ in $(seq 120); do
        [ "$(status "$name" "bool($expression)" 2>/dev/null)" != True ] || return 0
        sleep 0.5
    done
    echo "$name: $what did not happen within a minute; its log ends so:" >&2
    tail -n 20 "$folder/$name.log" >&2
    exit 1
}

meet() {
    local kind=$1 masquerade=masquerade
    [ "$kind" != symmetric ] || masquerade="masquerade fully-random"
    for space in net relay router1 router2 home1 home2; do
        ip netns add "$prefix-$space"
        in_space "$space" ip link set lo up
    done
    in_space net ip link add bridge type bridge
    in_space net ip link set bridge up
    connect relay 203.0.113.1
    home 1 "$masquerade"
    home 2 "$masquerade"

    rm -rf "${folder:?}"/*
    printf 'some text\n%.0s' $(seq 1000) >"$folder/text.txt"
    cat >"$folder/little.toml" <<TOML
name = "little"
description = "a little text"
[objective]
metric = "val_bpb"
corpus = { source = "path", path = "$folder/text.txt" }
tokenizer = { kind = "bytes" }
evaluation = { context = 256, tokens = 65536 }
dtype = "f32"
min_effect = 0.0001
TOML
    node relay seed "$folder/little.toml" --serve-only \
        --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/udp/4001/quic-v1
    wait_for relay "listening" "'203.0.113.1' in status['ticket']"
    local ticket
    ticket=$(status relay "status['ticket'].split('@')[0] + '@' + next(a for a in status['ticket'].split('@')[1].split(',') if '203.0.113.1/${TRANSPORT:-tcp}' in a)")
    node home1 join "$ticket" --budget 1s --devices cpu:1x1 --seed 1
    node home2 join "$ticket" --observe
    wait_for home1 "a slot at the relay" "status['relays']"
    wait_for home2 "a slot at the relay" "status['relays']"
    local began=$SECONDS one
    one=$(status home1 "status['peer']")
    wait_for home2 "meeting the other" "[p for p in status['peers'] if p['peer'] == '$one']"
    echo "$kind: both have a slot at the relay, and they are connected $((SECONDS - began)) s later"
    local direct="[p for p in status['peers'] if p['peer'] == '$one' and 'p2p-circuit' not in p['address']]"
    for _ in $(seq 40); do
        [ "$(status home2 "bool($direct)")" != True ] || break
        sleep 0.5
    done
    if [ "$(status home2 "bool($direct)")" = True ]; then
        echo "$kind: the routers let them through to each other: $(status home2 "$direct[0]['address']")"
    else
        echo "$kind: no way through the routers; the relay carries what they say ($(status home2 "status['counts']['not_punched']") attempts failed)"
    fi
    wait_for home2 "a record of the other" "status['records'] > 0"
    local author
    author=$("$binaries/node" --home "$folder/home2" discoveries list --json | head -n 1 |
        python3 -c "import json, sys; line = sys.stdin.readline(); print(json.loads(line)['author'] if line else '')")
    echo "$kind: $(status home2 "status['records']") records of the other arrived${author:+, a discovery by $author among them}"
    clean
}

for kind in "$@"; do
    case $kind in
        cone | symmetric) meet "$kind" ;;
        *) echo "\`$kind\` is no kind of router: cone or symmetric" >&2; exit 2 ;;
    esac
done
