//! Every decoder of bytes from peers that lives in this crate, on stable: what somebody thought of, and mutations of what is
//! valid. `FUZZ_SECONDS=600` goes on that long for each, `SEED=7` begins elsewhere; `scripts/fuzz.sh` has libFuzzer do the same.

#![allow(clippy::print_stdout, unreachable_pub)] // figures, for `--nocapture`; the modules are those of the fuzz crate

#[path = "../fuzz/src/meter.rs"]
mod meter;
#[path = "../fuzz/src/mutate.rs"]
mod mutate;
#[path = "../fuzz/src/of_protocol.rs"]
mod of_protocol;
#[path = "../fuzz/src/target.rs"]
mod target;

use mutate::Effort;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// Mutations of each decoder's seeds in CI.
const INPUTS: u64 = 2000;

#[test]
fn what_somebody_thought_of_is_refused_or_has_one_meaning() {
    for target in of_protocol::TARGETS {
        println!("{}", mutate::tables(target).line(target));
    }
}

#[test]
fn mutations_are_refused_or_have_one_meaning() {
    let seed = mutate::seed_from_env();
    println!("SEED={seed}");
    for target in mutate::chosen(of_protocol::TARGETS) {
        println!("{}", mutate::drive(target, seed, Effort::from_env(INPUTS)).line(target));
    }
}
