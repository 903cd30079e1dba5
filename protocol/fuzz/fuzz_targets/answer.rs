//! libFuzzer target: the decoder of what a peer answers to a request.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_node::ANSWER);
