#!/usr/bin/env bash
# Draws node/docs/live-view.svg: the screen of a real `node solo`, as a terminal showed it.
#
#   scripts/picture.sh [ARGUMENTS OF solo]     without any: --budget 5s --devices cpu:1x1
#
# The session runs in a pseudo-terminal, in a home of its own that is removed at the end. The picture is taken
# once VERDICTS verdicts (default 6) stand on the screen, one of them a keep, while a run is half done. If MINUTES
# (default 15) pass first, it shows what then stands there. Nothing is edited: it is what the node printed.
#
# NODE is another binary than target/release/node (scripts/run.sh builds that one), OUT another file to write.
# The terminal emulator, pyte, is installed to target/picture.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
node=${NODE:-$target/release/node}
venv=$target/picture
[ $# -gt 0 ] || set -- --budget 5s --devices cpu:1x1

[ -x "$node" ] || {
    echo "picture: $node is not there; \`scripts/run.sh --version\` builds it, or NODE names another" >&2
    exit 1
}
if ! "$venv/bin/python" -c 'import pyte' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check pyte==0.8.2 >&2
fi

# The node stands in an empty folder, so that its home has a short name and no program.md steers it.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
node=$(realpath "$node") out=$(realpath "${OUT:-$root/node/docs/live-view.svg}") venv=$(realpath "$venv")
cd "$folder"
AUTOSWARM_HOME=home "$venv/bin/python" "$root/scripts/picture.py" --out "$out" \
    --verdicts "${VERDICTS:-6}" --minutes "${MINUTES:-15}" -- "$node" solo "$@"
