#!/usr/bin/env bash
# Measures how many records a second one core takes in, and fails below 5,000.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --release --locked --quiet --package autoswarm-node --example intake
