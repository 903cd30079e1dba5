//! What a GPU computes, against the plain operations. Where there is none, nothing is compared and standard error says so.

use std::io::Write;

use autoswarm_trainer::{
    device::DeviceName,
    harness::budget::Deadline,
    model::{Model, Operations, Role, Shape, attention::Attention},
    optimizer::{Gradients, Optimizer},
};
use tch::{Device, Kind, Tensor};

use crate::support::tiny;

/// Returns the first GPU, or says on standard error, which no test runner captures, that a test did not run.
fn gpu(test: &str) -> Option<Device> {
    match DeviceName::Cuda(0).open() {
        Ok(device) => Some(device),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {failure}");
            None
        }
    }
}

fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[]);
    norm(&(ours - theirs)) / norm(theirs)
}

#[test]
fn windows_by_flash_kernels_are_those_of_the_masks() {
    let Some(device) = gpu("windows_by_flash_kernels_are_those_of_the_masks") else { return };
    let toml = "width = 128\nhead_dim = 32\nkv_group = 2\nwindow_pattern = \"S\"\nshort_window = 0.2";
    let shape = Shape::new(&tiny(toml).effective(320), 40, 320);
    let window = shape.windows[0];
    assert!(window.is_some_and(|window| window < 320));
    let [flash, masked] =
        [true, false].map(|flash| Attention::new(&shape, 1.0, flash, Kind::BFloat16, device));
    let random =
        |heads| Tensor::randn([2, 320, heads, 32], (Kind::BFloat16, device)).detach().set_requires_grad(true);
    for window in [window, None] {
        let (q, k, v) = (random(4), random(2), random(2));
        let [ours, theirs] = [&flash, &masked].map(|attention| {
            let y = attention.apply(&q, &k, &v, window);
            let loss = (y.to_kind(Kind::Float) * Tensor::arange(32, (Kind::Float, device))).mean(Kind::Float);
            let mut all = Tensor::run_backward(&[&loss], &[&q, &k, &v], false, false);
            all.push(y);
            all
        });
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let difference = difference(ours, theirs);
            assert!(difference < 0.02, "{window:?}: {difference}"); // bf16 has 8 bits
        }
    }
}

#[test]
fn a_gpu_learns_as_the_plain_operations_do() {
    let Some(device) = gpu("a_gpu_learns_as_the_plain_operations_do") else { return };
    let config = tiny("projection_init = 0.5\nunembedding_init = 0.3").effective(32);
    let rows = (Tensor::arange(4 * 33, (Kind::Int64, device)) * 7).remainder(39).view([4, 33]);
    for (kind, tolerance) in [(Kind::Float, 2e-3), (Kind::BFloat16, 0.03)] {
        let [ours, plain] = [Operations::Grouped, Operations::Plain].map(|operations| {
            let model = Model::new(&config, 40, 32, 7, kind, device).with_operations(operations);
            let mut optimizer = Optimizer::new(&config, &model);
            let step = |step| {
                let loss = model.loss(&rows, None, &Deadline::never()).expect("no deadline");
                let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
                let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
                let gradients: Gradients = roles.into_iter().zip(gradients).collect();
                let progress = f64::from(step) / 20.0;
                optimizer
                    .step(&model.parameters, gradients, progress, &Deadline::never())
                    .expect("no deadline");
                loss.double_value(&[])
            };
            (0..20).map(step).collect::<Vec<f64>>()
        });
        assert!(plain[19] < plain[0], "nothing was learned: {plain:?}");
        let worst = ours.iter().zip(&plain).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        assert!(worst < tolerance, "{kind:?}: {ours:?}, plain {plain:?}");
    }
}
