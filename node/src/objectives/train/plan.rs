//! What every run of a session has in common, and the trainer's call that an order becomes.

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

/// Budgets' time that a run may take whose tokens are known: they bound it already, and a machine that is slower than it was when they were
/// priced (hot, on battery, busy beside it) is not the config's fault. Of another node's tokens at most half of it is chosen as affordable.
const MOST_KNOWN_BUDGETS: f64 = 4.0;

/// What every run of a session has in common.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The trainer binary.
    pub trainer: PathBuf,
    /// The prepared dataset.
    pub data: PathBuf,
    /// Its corpus.
    pub corpus: CorpusHash,
    /// Its tokenizer.
    pub tokenizer: TokenizerHash,
    /// Its distinct token ids.
    pub vocabulary: u32,
    /// Number format of the products.
    pub dtype: Dtype,
    /// Evaluation context, tokens.
    pub context: u32,
    /// Evaluation tokens of each split.
    pub evaluation_tokens: u64,
    /// Seconds of training.
    pub budget_seconds: f64,
    /// Where runs can be.
    pub slots: Vec<Placement>,
    /// Where each slot keeps its run's config and log.
    pub runs: PathBuf,
    /// Most memory of one run, bytes.
    pub memory_bytes: u64,
}

impl RunPlan {
    /// Makes the call of the trainer for an order.
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
