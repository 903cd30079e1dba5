//! What training costs: the throughput of given shapes and what their steps' time goes to, on made-up tokens.
//!
//! Not here: what a whole run's time goes to ([`run`]).

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

/// A shape to measure, written `depth,width,sequence,batch,vocabulary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BenchShape {
    depth: i64,
    width: i64,
    sequence: i64,
    batch: i64,
    vocabulary: i64,
}

impl BenchShape {
    /// The shapes whose figures with PyTorch are known: bound by launches, in between, and by matrix products.
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

/// Steps of which the phases are timed.
const MOST_PHASE_STEPS: u64 = 50;

/// What one shape measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchResult {
    /// The shape.
    pub shape: BenchShape,
    /// Device.
    pub device: String,
    /// Number format of the products.
    pub dtype: String,
    /// Threads on a CPU.
    pub threads: u16,
    /// Trainable parameters.
    pub parameters: u64,
    /// Training throughput.
    pub tokens_per_second: f64,
    /// The same in FLOP/s.
    pub flops_per_second: f64,
    /// The same as a share of what one large product reaches on this device with these threads and numbers.
    pub flop_utilisation: f64,
    /// Where a step's seconds go, timed in steps of their own.
    pub phases: Phases,
    /// The same by what they were spent on, timed in steps of their own; on a CPU alone.
    pub parts: Vec<PartSeconds>,
    /// Whether the fused operations of the CPU ran.
    pub fused: bool,
    /// The x86-64 level of those: 4, 3 or 0 for what every machine has.
    pub cpu_level: i32,
    /// Seconds from nothing to the end of the first step.
    pub first_step_seconds: f64,
    /// Steps timed.
    pub steps: u64,
    /// Largest memory of this process so far, bytes; 0 where it is not known.
    pub peak_memory_bytes: u64,
}

/// Mean seconds of a step by what they went to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Phases {
    /// From tokens to the loss.
    pub forward: f64,
    /// From the loss to the gradients.
    pub backward: f64,
    /// From the gradients to the next weights.
    pub optimizer: f64,
}

/// Mean CPU seconds of the main thread in a step that one part of model or optimizer took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PartSeconds {
    /// Which part.
    pub part: Part,
    /// To compute its values, or to take its optimizer's step.
    pub forward: f64,
    /// To compute its gradients.
    pub backward: f64,
}

/// Returns what `steps` steps spent on each part, as means of one step; parts that took nothing are left out.
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

/// What to measure with.
#[derive(Debug, Clone)]
pub struct BenchSettings {
    /// The config whose size the shapes replace.
    pub base: TrainConfig,
    /// Where to compute.
    pub device: DeviceName,
    /// Number format.
    pub dtype: Dtype,
    /// Threads.
    pub threads: Option<u16>,
    /// Seconds per shape.
    pub seconds: f64,
}

/// Measures one shape: whole optimizer steps on made-up tokens, the first two not counted.
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
    // Whole steps are timed without the waits between phases: a GPU is idle in each until its next work arrives.
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

/// Reads one number of a tensor, which a GPU has only when its work is done, and returns the seconds since `started`.
fn wait(tensor: &Tensor, started: Instant) -> f64 {
    if tensor.device() != Device::Cpu {
        let _ = tensor.detach().view([-1]).double_value(&[0]);
    }
    started.elapsed().as_secs_f64()
}

/// Returns the speed of one large product: the best of a few, in FLOP/s.
fn product_flops_per_second(kind: Kind, device: Device) -> f64 {
    // Large enough for every CPU's best speed, and 10 ms of work; a GPU needs more, and numbers as they come: it is faster with ones.
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
