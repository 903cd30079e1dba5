#!/usr/bin/env bash
# Checks what no compiler does: each Rust file begins with a sentence about itself and is not too long, and
# the top level holds only the agreed names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
status=0

while IFS= read -r file; do
    # Skips files that are deleted, where that is not committed yet.
    [ -f "$file" ] || continue
    if ! head -n 1 "$file" | grep -q '^//! '; then
        echo "$file: the first line must be a \`//!\` sentence that says what the file is"
        status=1
    fi
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 800 ]; then
        echo "$file: $lines lines; more than 800 belong into several files"
        status=1
    fi
done < <(git ls-files --cached --others --exclude-standard -- '*.rs')

stray=$(git ls-files --cached --others --exclude-standard | cut -d/ -f1 | sort -u | grep -vxE \
    '\..*|Cargo\.(toml|lock)|(clippy|rustfmt)\.toml|(README|AGENTS|ARCHITECTURE|CHANGELOG|CONTRIBUTING|program)\.md|LICENSE-.*|node|protocol|trainer|tests|scripts|swarm-configs' || true)
if [ -n "$stray" ]; then
    printf 'at the top level, beyond the agreed names: %s\n' "$(paste -sd ' ' - <<<"$stray")"
    status=1
fi
exit $status
