//! Compares what a GPU computes with the plain operations.
//!
//! Where there is no GPU, nothing is compared and standard error says so. There `emulated.rs` runs these
//! tests once more, with a CPU that passes for a GPU.

use std::{collections::BTreeMap, io::Write, sync::LazyLock};

use autoswarm_protocol::EffectiveConfig;
use autoswarm_trainer::{
    device::DeviceName,
    harness::budget::Deadline,
    model::{Model, Operations, Role, Shape, attention::Attention},
    optimizer::{Gradients, Optimizer},
    shim,
};
use tch::{Device, Kind, Reduction, Tensor};

use crate::support::{CONFIGS, SCALES, tiny};

/// The environment variable by which `emulated.rs` says that the CPU passes for a GPU.
pub(crate) const EMULATED: &str = "AUTOSWARM_TEST_GPU_ON_CPU";

/// Returns the first GPU, or what passes for one. Else it says on standard error, which no test runner
/// captures, that a test did not run.
fn gpu(test: &str) -> Option<Device> {
    if std::env::var_os(EMULATED).is_some() {
        static OPENED: LazyLock<Result<(), String>> = LazyLock::new(shim::cuda::open_on_cpu);
        OPENED.as_ref().expect("the kernels compile");
        return Some(Device::Cpu);
    }
    match DeviceName::Cuda(0).open() {
        Ok(device) => Some(device),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {failure}");
            None
        }
    }
}

fn norm(x: &Tensor) -> f64 {
    x.to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[])
}

/// Returns ‖ours − theirs‖ / ‖theirs‖, in f64.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let [ours, theirs] = [ours, theirs].map(|x| x.to_kind(Kind::Double));
    norm(&(ours - &theirs)) / norm(&theirs)
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

/// Returns rows `[B, T + 1]` of tokens that only `seed` decides.
fn drawn_rows(seed: u64, batch: i64, length: i64, vocabulary: i64, device: Device) -> Tensor {
    let mut bytes = vec![0; 2 * (batch * length) as usize];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let tokens: Vec<i64> =
        bytes.as_chunks().0.iter().map(|pair| i64::from(u16::from_le_bytes(*pair)) % vocabulary).collect();
    Tensor::from_slice(&tokens).view([batch, length]).to_device(device)
}

/// Returns a loss and its gradients for rows `[B, T + 1]`, with the given form of operations and number
/// format.
fn gradients(
    config: &EffectiveConfig,
    (vocabulary, rows, seed): (i64, &Tensor, u64),
    operations: Operations,
    kind: Kind,
) -> (f64, Gradients) {
    let context = rows.size()[1] as usize - 1;
    let model = Model::new(config, vocabulary as usize, context, seed, kind, rows.device());
    let is_ready = kind != Kind::BFloat16 || model.is_fused();
    assert!(is_ready, "unset AUTOSWARM_OPERATIONS, or see why the kernels do not compile");
    let model = model.with_operations(operations);
    let loss = model.share_of_loss(0.5, rows, None, &Deadline::never()).expect("no deadline");
    let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
    let gradients = Tensor::run_backward(&[&(&loss * 0.5)], &parameters, false, false);
    (loss.double_value(&[]) / 0.5, roles.into_iter().zip(gradients).collect())
}

/// Sums over batches: the squares of the exact gradients, and the squared errors of the fused and of the
/// plain ones in bf16.
#[derive(Default)]
struct Off {
    exact: f64,
    fused: f64,
    plain: f64,
}

/// Checks that the fused gradients are as near to f32 as the plain ones in bf16 are. The errors are summed
/// over `batches` batches, each with a model of its own.
fn check_gradients(toml: &str, vocabulary: i64, context: i64, batches: u64, device: Device) {
    let config = tiny(&format!("{SCALES}{toml}")).effective(context as usize);
    let mut sums: BTreeMap<Role, Off> = BTreeMap::new();
    for seed in 0..batches {
        let rows = drawn_rows(seed, 3, context + 1, vocabulary, device);
        let of = |operations, kind| gradients(&config, (vocabulary, &rows, seed), operations, kind);
        let (loss, exact) = of(Operations::Plain, Kind::Float);
        let (fused_loss, fused) = of(Operations::Fused, Kind::BFloat16);
        let (plain_loss, plain) = of(Operations::Plain, Kind::BFloat16);
        let limit = 2.0 * (plain_loss - loss).abs() + 2e-3 * loss;
        assert!((fused_loss - loss).abs() < limit, "{toml}: {fused_loss}, plain {plain_loss}, in f32 {loss}");
        for (role, exact) in &exact {
            let sum = sums.entry(*role).or_default();
            sum.exact += norm(exact).powi(2);
            sum.fused += norm(&(&fused[role] - exact)).powi(2);
            sum.plain += norm(&(&plain[role] - exact)).powi(2);
        }
    }
    for (role, sum) in sums {
        assert!(sum.exact > 1e-12, "{toml}: {role:?} has no gradient, so nothing is compared");
        let [fused, plain] = [sum.fused, sum.plain].map(|square| (square / sum.exact).sqrt());
        // The gradient of a factor is one number per layer, the sum of the rounding of every token.
        let is_factor = matches!(role, Role::ResidualFactor | Role::FeedbackFactor);
        let limit = if is_factor { 2.0 * plain + 0.02 } else { 1.15 * plain + 0.001 };
        assert!(fused < limit, "{toml}: {role:?} is off by {fused:.4}, plain by {plain:.4}");
    }
}

#[test]
fn fused_gradients_on_a_gpu_are_as_exact_as_plain_ones() {
    let Some(device) = gpu("fused_gradients_on_a_gpu_are_as_exact_as_plain_ones") else { return };
    for toml in CONFIGS {
        check_gradients(toml, 40, 48, 6, device);
    }
    // Rows that are not a whole number of warps or blocks, and the widest head.
    let wide =
        "width = 320\nhead_dim = 64\nvalue_gate_width = 32\nwindow_pattern = \"S\"\nshort_window = 0.3";
    check_gradients(wide, 4104, 200, 1, device);
    check_gradients("width = 512\nhead_dim = 256\nvalue_gate_width = 32", 8192, 64, 2, device);
}

#[test]
fn losses_by_token_and_hopeless_ones_are_the_plain_ones_on_a_gpu() {
    let Some(device) = gpu("losses_by_token_and_hopeless_ones_are_the_plain_ones_on_a_gpu") else { return };
    if device.is_cuda() {
        shim::cuda::open(0).expect("the kernels compile");
    }
    let logits = Tensor::randn([5, 4104], (Kind::Float, device)).to_kind(Kind::BFloat16) * 4.0;
    let targets = Tensor::from_slice(&[0i64, 1, 7, 4095, 4103]).to_device(device);
    for softcap in [0.0, 15.0] {
        let capped = logits.to_kind(Kind::Float);
        let capped = if softcap == 0.0 { capped } else { (capped / softcap).tanh() * softcap };
        let plain = capped.cross_entropy_loss(&targets, None::<Tensor>, Reduction::None, -100, 0.0);
        let ours = shim::cross_entropy(&logits, &targets, softcap, None);
        let worst = (&ours - &plain).abs().max().double_value(&[]);
        assert!(worst < 1e-4, "{softcap}: {worst}");
        for outside in [-1i64, 4104, i64::MAX] {
            let targets = Tensor::from_slice(&[0, outside, 7, 8, 9]).to_device(device);
            let losses = shim::cross_entropy(&logits, &targets, softcap, None);
            assert!(losses.double_value(&[1]).is_nan() && losses.double_value(&[2]).is_finite());
        }
        let hopeless = Tensor::full([2, 16], f64::NAN, (Kind::BFloat16, device));
        let loss = shim::cross_entropy(&hopeless, &targets.narrow(0, 0, 2), softcap, Some(1.0));
        assert!(loss.double_value(&[]).is_nan());
    }
    let table = Tensor::ones([4, 8], (Kind::Float, device));
    let rows = shim::gather(&table, &Tensor::from_slice(&[-1i64, 4, 3]).to_device(device), Kind::BFloat16);
    assert!(rows.double_value(&[0, 0]).is_nan() && rows.double_value(&[1, 7]).is_nan());
    assert!((rows.double_value(&[2, 3]) - 1.0).abs() < 1e-6);
}

/// Returns the losses of 24 steps on one batch. At these rates a rounding error stays small; at the default
/// ones it grows for hundreds of steps.
fn losses(seed: u64, kind: Kind, operations: Operations, device: Device) -> Vec<f64> {
    const RATES: &str =
        "warmup = 0.2\nmatrix_lr = 0.01\nembedding_lr = 0.15\nunembedding_lr = 0.001\nscalar_lr = 0.1";
    const STEPS: u32 = 24;
    let config = tiny(&format!("projection_init = 0.5\nunembedding_init = 0.3\n{RATES}")).effective(32);
    let rows = drawn_rows(seed, 4, 33, 40, device);
    let model = Model::new(&config, 40, 32, seed, kind, device).with_operations(operations);
    let mut optimizer = Optimizer::new(&config, &model);
    let step = |step| {
        let loss = model.loss(&rows, None, &Deadline::never()).expect("no deadline");
        let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
        let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
        let gradients: Gradients = roles.into_iter().zip(gradients).collect();
        let progress = f64::from(step) / f64::from(STEPS);
        optimizer.step(&model.parameters, gradients, progress, &Deadline::never()).expect("no deadline");
        loss.double_value(&[])
    };
    (0..STEPS).map(step).collect()
}

#[test]
fn a_gpu_learns_as_the_plain_operations_do() {
    let Some(device) = gpu("a_gpu_learns_as_the_plain_operations_do") else { return };
    for (kind, operations, tolerance) in [
        (Kind::Float, Operations::Grouped, 1e-5),
        (Kind::BFloat16, Operations::Grouped, 2e-3),
        (Kind::BFloat16, Operations::Fused, 2e-3),
    ] {
        for seed in 1..=3 {
            let [ours, plain] =
                [operations, Operations::Plain].map(|operations| losses(seed, kind, operations, device));
            assert!(plain[plain.len() - 1] < 0.1 * plain[0], "little was learned: {plain:?}");
            let [sum, right]: [f64; 2] = [&ours, &plain].map(|losses| losses.iter().sum());
            let off = (sum - right).abs() / right;
            assert!(off < tolerance, "{kind:?} {operations:?}, {seed}: {off}; {ours:?}, plain {plain:?}");
        }
    }
}
