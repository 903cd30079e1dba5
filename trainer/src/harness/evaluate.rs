//! The metric: bits per byte over a fixed number of tokens, in windows of a fixed context.
//!
//! **Nothing that an experiment may change affects it**: neither the batch size in which it is computed, nor
//! the length of the training sequences. Special tokens stand for no bytes and are outside both sums, of nats
//! and of bytes. The length of a token is that of its raw bytes.

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
    /// The number of tokens that a prediction may look back on.
    pub context: usize,
    /// The number of target tokens, rounded down to whole windows.
    pub tokens: u64,
}

/// The most memory for the logits of one batch, in bytes. They are the largest tensor of an evaluation.
const LOGITS_BYTES_CPU: i64 = 32 << 20; // stays near the cache
const LOGITS_BYTES_GPU: i64 = 1 << 30;

/// Returns how many windows to evaluate at once. It affects the speed and not the result.
pub fn batch_windows(model: &Model, rule: Rule) -> usize {
    let bytes = if model.device() == Device::Cpu { LOGITS_BYTES_CPU } else { LOGITS_BYTES_GPU };
    (bytes / (4 * rule.context as i64 * model.shape.vocabulary)).clamp(1, 1024) as usize
}

/// Returns a model's bits per byte on a split. After each batch, `progress` gets the tokens done and the
/// tokens in all.
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
        // The sums are computed on the CPU in f64 for every device, because Metal has no f64.
        let losses = losses.to_device(Device::Cpu).to_kind(Kind::Double);
        // Special tokens have length 0, so their losses are left out.
        nats += (losses * lengths.gt(0.0)).sum(Kind::Double).double_value(&[]);
        bytes += lengths.sum(Kind::Double).double_value(&[]);
        first += rows.size()[0] as u64;
        progress(first * rule.context as u64, windows.tokens());
    }
    Bpb::from_nats(nats, bytes as u64)
        .map_err(|error| Failure::new(CrashClass::NotANumber, format!("evaluation on {split}: {error}")))
}
