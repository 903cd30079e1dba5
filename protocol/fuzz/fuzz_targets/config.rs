//! libFuzzer target: the decoder of a train config on the wire.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::CONFIG);
