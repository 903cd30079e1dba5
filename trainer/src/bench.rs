//! The benchmark of training: throughput of given shapes, and how a step's time divides, on made-up tokens.
//!
//! Not here: how a whole run's time divides ([`run`]).

pub mod run;
pub mod table;

use std::{str::FromStr, time::Instant};

use autoswarm_protocol::{Knob, TrainConfig, Value};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    device::{self, DeviceName, Dtype},
    failure::Failure,
    harness::budget::Deadline,
    model::{Model, Role, Shape},
    optimizer::{Gradients, Optimizer},
    shim::{
        self,
        listen::{self, Heard, Part},
    },
};

/// The size of a model and of its batches, written `depth,width,sequence,batch,vocabulary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BenchShape {
    /// Number of transformer blocks.
    depth: i64,
    /// Width of the residual stream.
    width: i64,
    /// Number of tokens in a sequence.
    sequence: i64,
    /// Number of sequences in a step.
    batch: i64,
    /// Number of token ids.
    vocabulary: i64,
}

impl BenchShape {
    /// The shapes whose figures with PyTorch are known. The first is bound by launches, the last by matrix
    /// products, the second lies in between.
    pub const DEFAULT: [Self; 3] = [
        Self { depth: 2, width: 64, sequence: 128, batch: 16, vocabulary: 256 },
        Self { depth: 4, width: 128, sequence: 256, batch: 16, vocabulary: 256 },
        Self { depth: 4, width: 256, sequence: 256, batch: 16, vocabulary: 1024 },
    ];

    fn config(self, base: &TrainConfig) -> Result<TrainConfig, Failure> {
        let values = [(Knob::Depth, self.depth), (Knob::Width, self.width)];
        values.into_iter().try_fold(base.clone(), |config, (knob, value)| {
            config.with(knob, Value::Integer(value)).map_err(|error| Failure::own(error.to_string()))
        })
    }
}

impl FromStr for BenchShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<i64> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        match numbers[..] {
            [depth, width, sequence, batch, vocabulary] if numbers.iter().all(|&number| number > 0) => {
                Ok(Self { depth, width, sequence, batch, vocabulary })
            }
            _ => Err(format!("`{text}` is not a shape: give depth,width,sequence,batch,vocabulary")),
        }
    }
}

/// The most steps whose phases are timed.
const MOST_PHASE_STEPS: u64 = 50;

/// What was measured for one shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchResult {
    /// The shape that was measured.
    pub shape: BenchShape,
    /// The device, as it is named on the command line.
    pub device: String,
    /// Number format of the matrix products, `f32` or `bf16`.
    pub dtype: String,
    /// Threads that libtorch used on the CPU.
    pub threads: u16,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Tokens that training processed per second.
    pub tokens_per_second: f64,
    /// The throughput in FLOP/s, by the formula of [`Shape::flops_per_token`].
    pub flops_per_second: f64,
    /// The throughput as a share of the FLOP/s of one large matrix product, on the same device, threads and
    /// number format.
    pub flop_utilisation: f64,
    /// Mean seconds of each phase of a step. They are timed in separate steps, because waiting between phases
    /// costs time.
    pub phases: Phases,
    /// Mean seconds of each part of a step, timed in separate steps. Empty unless the device is a CPU.
    pub parts: Vec<PartSeconds>,
    /// Whether the fused operations ran.
    pub fused: bool,
    /// The x86-64 level of the fused operations on a CPU: 4, 3, or 0 for the instructions that every machine
    /// has.
    pub cpu_level: i32,
    /// Seconds from the start of the measurement to the end of the first step.
    pub first_step_seconds: f64,
    /// Steps over which the throughput was measured.
    pub steps: u64,
    /// Peak memory of this process so far, in bytes; 0 where it is not known.
    pub peak_memory_bytes: u64,
}

/// Mean seconds of a step in each of its three phases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Phases {
    /// The forward pass: from the tokens to the loss.
    pub forward: f64,
    /// The backward pass: from the loss to the gradients.
    pub backward: f64,
    /// The optimizer: from the gradients to the next weights.
    pub optimizer: f64,
}

/// Mean CPU seconds per step that one part of the model or the optimizer took in the main thread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PartSeconds {
    /// The part of the model or the optimizer.
    pub part: Part,
    /// Seconds to compute its values, or to take its optimizer step.
    pub forward: f64,
    /// Seconds to compute its gradients.
    pub backward: f64,
}

/// Returns the mean seconds per step of each part, from what `steps` steps took. Parts that took nothing are
/// left out.
fn part_seconds(heard: &Heard, steps: u64) -> Vec<PartSeconds> {
    let each = |seconds: f64| seconds / steps as f64;
    let seconds = heard.forward.into_iter().zip(heard.backward);
    let parts = Part::ALL.into_iter().zip(seconds).map(|(part, (forward, backward))| PartSeconds {
        part,
        forward: each(forward),
        backward: each(backward),
    });
    parts.filter(|part| part.forward + part.backward > 0.0).collect()
}

/// The settings that all shapes of a benchmark share.
#[derive(Debug, Clone)]
pub struct BenchSettings {
    /// The config that supplies everything but the size.
    pub base: TrainConfig,
    /// The device to compute on.
    pub device: DeviceName,
    /// Number format of the matrix products.
    pub dtype: Dtype,
    /// Threads on a CPU; by default one per core.
    pub threads: Option<u16>,
    /// Seconds of timed steps per shape.
    pub seconds: f64,
}

/// Measures one shape with whole optimizer steps on made-up tokens. The first two steps are not counted.
pub fn measure(shape: BenchShape, settings: &BenchSettings) -> Result<BenchResult, Failure> {
    let started = Instant::now();
    let device = settings.device.open()?;
    let kind = settings.dtype.resolve(device);
    let threads = device::set_threads(settings.threads);
    let context = shape.sequence as usize;
    let config = shape.config(&settings.base)?.effective(context);
    let model = Model::new(&config, shape.vocabulary as usize, context, 0, kind, device);
    let mut optimizer = Optimizer::new(&config, &model);
    let rows = Tensor::randint(shape.vocabulary, [shape.batch, shape.sequence + 1], (Kind::Int64, device));
    // Whole steps are timed without waits between the phases: during each wait a GPU is idle until its next
    // work arrives.
    let mut step = |mut phases: Option<&mut Phases>| -> Result<f64, Failure> {
        let mut end_phase = |of: fn(&mut Phases) -> &mut f64, tensor: &Tensor, started: Instant| {
            if let Some(phases) = &mut phases {
                *of(phases) += wait(tensor, started);
            }
        };
        let started = Instant::now();
        let loss = model.loss(&rows, None, &Deadline::never())?;
        end_phase(|phases| &mut phases.forward, &loss, started);
        let started = Instant::now();
        listen::backward();
        let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
        let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
        let gradients: Gradients = roles.into_iter().zip(gradients).collect();
        listen::part(Part::Rest);
        end_phase(|phases| &mut phases.backward, &gradients[&Role::Embedding], started);
        let started = Instant::now();
        optimizer.step(&model.parameters, gradients, 0.0, &Deadline::never())?;
        listen::part(Part::Rest);
        end_phase(|phases| &mut phases.optimizer, model.parameters.expect(Role::Embedding), started);
        Ok(loss.double_value(&[]))
    };
    step(None)?;
    let first_step_seconds = started.elapsed().as_secs_f64();
    step(None)?;
    let (timed, mut steps) = (Instant::now(), 0);
    while steps < 3 || timed.elapsed().as_secs_f64() < settings.seconds {
        step(None)?;
        steps += 1;
    }
    let timed_seconds = timed.elapsed().as_secs_f64();
    // The phases get steps of their own, because timing them adds waits.
    let mut phases = Phases::default();
    let phase_steps = steps.min(MOST_PHASE_STEPS);
    for _ in 0..phase_steps {
        step(Some(&mut phases))?;
    }
    let parts = if device == Device::Cpu {
        let (done, heard) = listen::listen(|| (0..steps).try_for_each(|_| step(None).map(drop)));
        done?;
        part_seconds(&heard, steps)
    } else {
        Vec::new()
    };
    let tokens = (steps * (shape.batch * shape.sequence) as u64) as f64;
    let tokens_per_second = tokens / timed_seconds;
    let each = |seconds: f64| seconds / phase_steps as f64;
    let phases = Phases {
        forward: each(phases.forward),
        backward: each(phases.backward),
        optimizer: each(phases.optimizer),
    };
    let flops_per_token = Shape::new(&config, shape.vocabulary as usize, context).flops_per_token(context);
    Ok(BenchResult {
        shape,
        device: settings.device.to_string(),
        dtype: device::kind_name(kind).to_owned(),
        threads,
        parameters: model.parameters.count(),
        tokens_per_second,
        flops_per_second: tokens_per_second * flops_per_token,
        flop_utilisation: tokens_per_second * flops_per_token / product_flops_per_second(kind, device),
        phases,
        parts,
        fused: model.is_fused(),
        cpu_level: shim::level(),
        first_step_seconds,
        steps,
        peak_memory_bytes: device::peak_bytes(device),
    })
}

/// Reads one number of a tensor and returns the seconds since `started`. On a GPU the read waits until the
/// work is done.
fn wait(tensor: &Tensor, started: Instant) -> f64 {
    if tensor.device() != Device::Cpu {
        let _ = tensor.detach().view([-1]).double_value(&[0]);
    }
    started.elapsed().as_secs_f64()
}

/// Returns the FLOP/s of one large matrix product: the best of a few tries.
fn product_flops_per_second(kind: Kind, device: Device) -> f64 {
    // 1024 is large enough for the best speed of every CPU and takes 10 ms; a GPU needs more. The factors are
    // random numbers, because a GPU is faster with ones.
    let side = if device == Device::Cpu { 1024 } else { 8192 };
    let factor = Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind);
    let seconds = (0..8).map(|_| {
        let started = Instant::now();
        wait(&factor.mm(&factor), started)
    });
    2.0 * (side as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min)
}

impl std::fmt::Display for BenchShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { depth, width, sequence, batch, vocabulary } = self;
        write!(f, "{depth},{width},{sequence},{batch},{vocabulary}")
    }
}
