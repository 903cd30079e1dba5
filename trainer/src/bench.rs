//! Training throughput of given shapes, on made-up tokens.

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
    report,
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
    /// Seconds from nothing to the end of the first step.
    pub first_step_seconds: f64,
    /// Steps timed.
    pub steps: u64,
    /// Largest memory of this process so far, bytes; 0 where it is not known.
    pub peak_memory_bytes: u64,
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
    let mut step = || -> Result<f64, Failure> {
        let loss = model.loss(&rows, None, &Deadline::never())?;
        let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
        let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
        let gradients: Gradients = roles.into_iter().zip(gradients).collect();
        optimizer.step(&model.parameters, gradients, 0.0, &Deadline::never())?;
        Ok(loss.double_value(&[])) // waits for the device
    };
    step()?;
    let first_step_seconds = started.elapsed().as_secs_f64();
    step()?;
    let (timed, mut steps) = (Instant::now(), 0);
    while steps < 3 || timed.elapsed().as_secs_f64() < settings.seconds {
        step()?;
        steps += 1;
    }
    let tokens = (steps * (shape.batch * shape.sequence) as u64) as f64;
    let tokens_per_second = tokens / timed.elapsed().as_secs_f64();
    let flops_per_token = Shape::new(&config, shape.vocabulary as usize, context).flops_per_token(context);
    Ok(BenchResult {
        shape,
        device: settings.device.to_string(),
        dtype: device::kind_name(kind).to_owned(),
        threads,
        parameters: model.parameters.count(),
        tokens_per_second,
        flops_per_second: tokens_per_second * flops_per_token,
        first_step_seconds,
        steps,
        peak_memory_bytes: if device == Device::Cpu { report::peak_resident_bytes() } else { 0 },
    })
}

impl std::fmt::Display for BenchShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { depth, width, sequence, batch, vocabulary } = self;
        write!(f, "{depth},{width},{sequence},{batch},{vocabulary}")
    }
}
