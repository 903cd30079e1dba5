//! libFuzzer target: the decoder of a patch on the wire.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::PATCH);
