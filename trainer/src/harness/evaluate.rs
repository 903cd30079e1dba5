//! The metric: bits per byte over a fixed number of tokens, in windows of a fixed context.
//!
//! **Nothing that an experiment may change moves it**: not the batch size it is computed in, not the training sequences'
//! length. Tokens that stand for no bytes, the special ones, are outside both sums. Byte lengths are those of the tokens'
//! raw bytes.

use autoswarm_protocol::{Bpb, CrashClass, Split};
use tch::{Device, Kind, Tensor};

use super::{
    budget::Deadline,
    dataset::{Dataset, EvaluationWindows},
};
use crate::{failure::Failure, model::Model};

/// The evaluation rule of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Tokens that a prediction may look back on.
    pub context: usize,
    /// Target tokens, rounded down to whole windows.
    pub tokens: u64,
}

/// Memory that the logits of one batch may take, in bytes: the largest tensor of an evaluation.
const LOGITS_BYTES_CPU: i64 = 32 << 20; // stays near the cache
const LOGITS_BYTES_GPU: i64 = 1 << 30;

/// Returns how many windows to evaluate at once; it changes the speed and not the result.
pub fn batch_windows(model: &Model, rule: Rule) -> usize {
    let bytes = if model.device() == Device::Cpu { LOGITS_BYTES_CPU } else { LOGITS_BYTES_GPU };
    (bytes / (4 * rule.context as i64 * model.shape.vocabulary)).clamp(1, 1024) as usize
}

/// Returns a model's bits per byte on a split; `progress` hears of tokens done and in all after each batch.
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    split: Split,
    rule: Rule,
    batch: usize,
    deadline: &Deadline,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Bpb, Failure> {
    let _no_gradients = tch::no_grad_guard();
    let windows = EvaluationWindows::new(dataset, split, rule.context, rule.tokens)?;
    let lengths: Vec<f64> = dataset.token_bytes().iter().map(|&bytes| f64::from(bytes)).collect();
    let lengths = Tensor::from_slice(&lengths);
    let (mut nats, mut bytes, mut first) = (0.0, 0.0, 0);
    while first < windows.count() {
        deadline.check()?;
        let rows = Tensor::from_slice(&windows.rows(first, batch)?).view([-1, rule.context as i64 + 1]);
        let losses = model.token_losses(&rows.to_device(model.device()), deadline)?;
        let targets = rows.narrow(1, 1, rule.context as i64).reshape([-1]);
        let lengths = lengths.index_select(0, &targets);
        // Summed on the CPU in f64, on every device: Metal has no f64.
        let losses = losses.to_device(Device::Cpu).to_kind(Kind::Double);
        nats += (losses * lengths.gt(0.0)).sum(Kind::Double).double_value(&[]);
        bytes += lengths.sum(Kind::Double).double_value(&[]);
        first += rows.size()[0] as u64;
        progress(first * rule.context as u64, windows.tokens());
    }
    Bpb::from_nats(nats, bytes as u64)
        .map_err(|error| Failure::new(CrashClass::NotANumber, format!("evaluation on {split}: {error}")))
}
