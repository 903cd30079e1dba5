//! Canonical config, fuzzed.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::CANONICAL_CONFIG);
