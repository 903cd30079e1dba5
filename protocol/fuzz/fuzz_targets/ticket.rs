//! libFuzzer target: the decoder of a ticket.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_node::TICKET);
