//! libFuzzer target: the decoder of the frames that a peer answers to a reconciliation of this node.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_node::LEAD);
