//! Golden tests that pin the semantics of the trainer.
//!
//! **When a change moves these numbers, `TRAINER_SEMANTICS` moves with them**: results before and after it
//! are no longer comparable, and every arena changes.

use autoswarm_protocol::outcome::TRAINER_SEMANTICS;

use crate::support::{report, settings, tiny};

/// The tolerance of the golden losses: above the differences between instruction sets, far below any change
/// of meaning.
const TOLERANCE: f64 = 1e-4;

#[track_caller]
fn check(toml: &str, expected: [f64; 3], bpb: f64) {
    let report = report(&settings(tiny(toml), 512 * 3, 42));
    // The curve is smoothed. This undoes it: s₁ = l₁, s₂ = (.9 s₁·w₁ + .1 l₂)…, each divided by 1 − .9ⁿ.
    let mut raw = 0.0;
    let mut losses = Vec::new();
    for (point, seen) in report.curve.iter().zip(1..) {
        let sum = point.loss * (1.0 - 0.9f64.powi(seen));
        losses.push((sum - 0.9 * raw) / 0.1);
        raw = sum;
    }
    let got = (losses.clone(), report.validation.get());
    assert!(losses.iter().zip(expected).all(|(a, b)| (a - b).abs() < TOLERANCE), "{got:?}");
    assert!((report.validation.get() - bpb).abs() < TOLERANCE, "{got:?}");
}

#[test]
fn golden_losses_of_the_default_parts() {
    assert_eq!(TRAINER_SEMANTICS, 2);
    // Blocks that start as the identity would turn rounding into whole steps (see examples/parity.rs).
    check("projection_init = 0.5\nunembedding_init = 0.05", [5.530_455, 4.772_584, 3.915_323], 4.982_071);
}

#[test]
fn golden_losses_of_the_other_parts() {
    let toml = "norm = \"rms_learned\"\nnorm_place = \"sandwich\"\nactivation = \"swiglu\"\n\
        block = \"parallel\"
        head = \"tied\"\nembedding_init = 0.05\nwindow_pattern = \"S\"\nkv_group = 2\n\
        matrix_optimizer = \"adamw\"
        matrix_lr = 0.01\ngradient_clip = 0.5\ninit_kind = \"orthogonal\"\nprojection_init = 0.5\n\
        dropout = 0.1";
    check(toml, [5.626_162, 6.824_184, 3.396_249], 4.552_728);
}
