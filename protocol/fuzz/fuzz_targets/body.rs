//! libFuzzer target: the decoder of the body of a record, under a good signature.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::BODY);
