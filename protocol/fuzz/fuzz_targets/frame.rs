//! libFuzzer target: the decoder of a frame of a reconciliation that a peer leads.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_node::FRAME);
