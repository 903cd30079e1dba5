//! The fused operations compute what the plain ones do: losses, every role's gradient, and whole steps.

use std::{collections::BTreeMap, process::Command};

use autoswarm_trainer::{
    harness::budget::Deadline,
    model::{Model, Role},
    optimizer::{Gradients, Optimizer},
    shim,
};
use tch::{Device, Kind, Tensor};

use crate::support::tiny;

const VOCABULARY: i64 = 40;
const CONTEXT: i64 = 48; // no multiple of the kernels' tiles

/// Scales under which every parameter has a gradient, as in examples/parity.rs.
const SCALES: &str = "projection_init = 0.5\nunembedding_init = 0.3\nvalue_gate_init = 0.5\nresidual_init = 0.9\nfeedback_init = 0.2\n";

/// Configs that between them reach every fused operation and every way around one.
const CONFIGS: [&str; 8] = [
    "",
    "head_dim = 16\nkv_group = 2\nwindow_pattern = \"S\"\nshort_window = 0.3",
    "activation = \"swiglu\"\nblock = \"parallel\"\nhead = \"tied\"\nsoftcap = 0.0",
    "norm = \"rms_learned\"\nnorm_place = \"sandwich\"\nactivation = \"gelu\"",
    "norm = \"layer\"\nqk_norm = false",
    "norm_place = \"post\"\nresidual_scalars = false\nvalue_embeddings = \"none\"",
    "matrix_optimizer = \"adamw\"\nmatrix_lr = 0.01\nembedding_norm = false\nqk_norm = false",
    "cautious_decay = false\nnormuon_beta2 = 0.0\nmuon_nesterov = false\nmatrix_decay = 0.1",
];

/// A model and its plain twin.
fn models(toml: &str, kind: Kind) -> [(Model, Optimizer); 2] {
    tch::set_num_threads(1); // libtorch's threads are the process's, and tests run side by side
    let config = tiny(&format!("{SCALES}{toml}")).effective(CONTEXT as usize);
    let model = || Model::new(&config, VOCABULARY as usize, CONTEXT as usize, 7, kind, Device::Cpu);
    let (fused, plain) = (model(), model().unfused());
    assert!(fused.is_fused() && !plain.is_fused(), "unset AUTOSWARM_PLAIN");
    let optimizers = [Optimizer::new(&config, &fused), Optimizer::new(&config, &plain)];
    let mut models = [fused, plain].into_iter().zip(optimizers);
    std::array::from_fn(|_| models.next().expect("two of each"))
}

fn rows() -> Tensor {
    let position = Tensor::arange(CONTEXT + 1, (Kind::Int64, Device::Cpu));
    let row = Tensor::arange(3, (Kind::Int64, Device::Cpu)).view([3, 1]);
    (position * (&row * 2 + 3) + row * 11).remainder(VOCABULARY - 1)
}

fn gradients(model: &Model) -> (f64, Gradients) {
    let loss = model.loss(&rows(), None, &Deadline::never()).expect("no deadline");
    let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
    let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
    (loss.double_value(&[]), roles.into_iter().zip(gradients).collect::<BTreeMap<_, _>>())
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[])
}

fn check_gradients(toml: &str, kind: Kind, tolerance: f64) {
    let [(fused, _), (plain, _)] = models(toml, kind);
    let ((loss, ours), (expected, theirs)) = (gradients(&fused), gradients(&plain));
    assert!((loss - expected).abs() < tolerance * expected, "{toml}: loss {loss}, plain {expected}");
    for (role, theirs) in &theirs {
        let (difference, size) = (norm(&(&ours[role] - theirs)), norm(theirs));
        assert!(size > 1e-6, "{toml}: {role:?} has no gradient, so nothing is compared");
        assert!(difference < tolerance * size, "{toml}: {role:?} differs by {difference:.2e} of {size:.2e}");
    }
}

#[test]
fn fused_gradients_are_the_plain_ones() {
    for toml in CONFIGS {
        check_gradients(toml, Kind::Float, 1e-4);
    }
}

#[test]
fn older_instruction_sets_compute_the_same() {
    for level in ["0", "3"] {
        let output = Command::new(std::env::current_exe().expect("a test has a path"))
            .args(["fused::fused_gradients_are_the_plain_ones", "--exact"])
            .env("AUTOSWARM_CPU_LEVEL", level)
            .output()
            .expect("this test starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "level {level}: {said}");
    }
}

#[test]
fn fused_gradients_in_bf16_are_within_its_rounding() {
    for toml in CONFIGS {
        check_gradients(toml, Kind::BFloat16, 0.15); // a scalar sums bf16 roundings of every token
    }
}

#[test]
fn fused_steps_are_the_plain_ones() {
    for toml in CONFIGS {
        let losses = models(toml, Kind::Float).map(|(model, mut optimizer)| {
            let mut losses = Vec::new();
            for step in 0..6 {
                let (loss, gradients) = gradients(&model);
                losses.push(loss);
                let progress = f64::from(step) / 6.0;
                optimizer
                    .step(&model.parameters, gradients, progress, &Deadline::never())
                    .expect("no deadline");
            }
            losses
        });
        let [fused, plain] = &losses;
        assert!(plain[5] < plain[0], "{toml}: nothing was learned: {plain:?}");
        let worst = fused.iter().zip(plain).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        assert!(worst < 1e-3, "{toml}: {fused:?}, plain {plain:?}");
    }
}

#[test]
fn fused_losses_by_token_are_the_plain_ones() {
    let [(fused, _), (plain, _)] = models("", Kind::Float);
    let losses = |model: &Model| {
        tch::no_grad(|| model.token_losses(&rows(), &Deadline::never())).expect("no deadline")
    };
    let difference = (losses(&fused) - losses(&plain)).abs().max().double_value(&[]);
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn tokens_outside_the_vocabulary_are_an_error_and_no_address() {
    let table = Tensor::zeros([4, 8], (Kind::Float, Device::Cpu));
    for token in [-1i64, 4, i64::MAX] {
        let tokens = Tensor::from_slice(&[0, token]);
        let failed =
            |operation: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation)).is_err();
        assert!(failed(&|| drop(shim::gather(&table, &tokens, Kind::Float))), "{token}");
        assert!(
            failed(&|| drop(shim::cross_entropy(
                &table.narrow(0, 0, 2).narrow(1, 0, 4).contiguous(),
                &tokens,
                0.0,
                true
            ))),
            "{token}"
        );
    }
}

#[test]
fn a_fused_loss_of_a_hopeless_model_is_not_a_number_and_not_a_guess() {
    let logits = Tensor::full([2, 5], f64::NAN, (Kind::Float, Device::Cpu));
    let targets = Tensor::zeros([2], (Kind::Int64, Device::Cpu));
    for softcap in [0.0, 15.0] {
        assert!(shim::cross_entropy(&logits, &targets, softcap, true).double_value(&[]).is_nan());
    }
}
