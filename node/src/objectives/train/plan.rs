//! What every run of a session has in common, and how an order becomes a call of the trainer.

use std::{path::PathBuf, time::Duration};

use autoswarm_protocol::{
    Dtype, RunRole, Split,
    id::{CorpusHash, TokenizerHash},
};

use crate::{
    machine::slots::Placement,
    research::RunOrder,
    runs::supervisor::{Limits, RunBudget, RunSpec},
};

/// The wall-clock cap, in multiples of the budget, of a run whose token count is fixed.
///
/// The tokens bound such a run already. If the machine has become slower since they were priced (hot, on
/// battery, busy beside it), that is not the config's fault. Another node's token counts are used only where
/// they are expected to take at most half of this cap.
const MOST_KNOWN_BUDGETS: f64 = 4.0;

/// What every run of a session has in common.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// Path of the trainer binary.
    pub trainer: PathBuf,
    /// Folder of the prepared dataset.
    pub data: PathBuf,
    /// Hash of the dataset's corpus.
    pub corpus: CorpusHash,
    /// Hash of the dataset's tokenizer.
    pub tokenizer: TokenizerHash,
    /// Number of the dataset's distinct token ids.
    pub vocabulary: u32,
    /// Number format of matrix products.
    pub dtype: Dtype,
    /// Evaluation context, tokens.
    pub context: u32,
    /// Evaluation tokens of each split.
    pub evaluation_tokens: u64,
    /// Budget of one run, in seconds of training.
    pub budget_seconds: f64,
    /// The slots that runs are placed on.
    pub slots: Vec<Placement>,
    /// Folder in which each slot has a folder for its run's config and log.
    pub runs: PathBuf,
    /// Most memory of one run, bytes.
    pub memory_bytes: u64,
}

impl RunPlan {
    /// Returns the call of the trainer that an order becomes.
    pub fn spec(&self, order: &RunOrder) -> RunSpec {
        let (budget, patience) = match order.tokens {
            Some(tokens) => (RunBudget::Tokens(tokens), MOST_KNOWN_BUDGETS * self.budget_seconds),
            None => (RunBudget::Seconds(self.budget_seconds), self.budget_seconds),
        };
        let mut splits = vec![Split::Validation];
        if matches!(order.role, RunRole::Child | RunRole::Incumbent | RunRole::Baseline) {
            splits.push(Split::Audit);
        }
        RunSpec {
            run: order.id,
            trainer: self.trainer.clone(),
            config: order.config.clone(),
            data: self.data.clone(),
            corpus: self.corpus,
            tokenizer: self.tokenizer,
            seed: order.seed,
            budget,
            placement: self.slots[order.slot].clone(),
            dtype: Some(self.dtype),
            splits,
            context: self.context,
            evaluation_tokens: self.evaluation_tokens,
            min_steps: None,
            save: None,
            prune: order.prune,
            limits: Limits::for_budget(Duration::from_secs_f64(patience), self.memory_bytes),
            folder: self.runs.join(format!("slot-{}", order.slot)),
        }
    }
}
