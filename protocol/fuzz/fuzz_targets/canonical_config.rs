//! libFuzzer target: the decoder of a train config's canonical bytes.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::CANONICAL_CONFIG);
