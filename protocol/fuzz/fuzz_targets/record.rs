//! libFuzzer target: the decoder of a whole record.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::RECORD);
