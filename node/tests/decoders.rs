//! Every decoder of bytes from peers that lives in this crate, on stable; the sibling of `protocol/tests/decoders.rs`.

#![allow(clippy::print_stdout, unreachable_pub)] // figures, for `--nocapture`; the modules are those of the fuzz crate

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

/// Mutations of each decoder's seeds in CI.
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
