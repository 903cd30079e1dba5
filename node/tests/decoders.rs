//! Runs this crate's fuzz targets on stable: every decoder of bytes from peers, on tables and mutations.
//!
//! The sibling of `protocol/tests/decoders.rs`, which says how to run them for longer.

// Printed are figures, for `--nocapture`; `pub` are the modules of the fuzz crate.
#![allow(clippy::print_stdout, unreachable_pub)]

#[path = "../../protocol/fuzz/src/meter.rs"]
mod meter;
#[path = "../../protocol/fuzz/src/mutate.rs"]
mod mutate;
#[path = "../../protocol/fuzz/src/of_node.rs"]
mod of_node;
#[path = "../../protocol/fuzz/src/target.rs"]
mod target;

use mutate::Effort;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// Mutated inputs for each target in CI.
const INPUTS: u64 = 2000;

#[test]
fn what_somebody_thought_of_is_refused_or_has_one_meaning() {
    for target in of_node::TARGETS {
        println!("{}", mutate::tables(target).line(target));
    }
}

#[test]
fn mutations_are_refused_or_have_one_meaning() {
    let seed = mutate::seed_from_env();
    println!("SEED={seed}");
    for target in mutate::chosen(of_node::TARGETS) {
        println!("{}", mutate::drive(target, seed, Effort::from_env(INPUTS)).line(target));
    }
}
