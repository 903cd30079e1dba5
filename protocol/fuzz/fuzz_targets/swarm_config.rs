//! libFuzzer target: the decoder of a swarm config.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::SWARM_CONFIG);
