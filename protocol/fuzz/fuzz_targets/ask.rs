//! libFuzzer target: the decoder of what a peer asks.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_node::ASK);
