//! libFuzzer target: the decoder of a patch as text.
#![no_main]

autoswarm_fuzz::fuzz!(autoswarm_fuzz::of_protocol::PATCH_TEXT);
