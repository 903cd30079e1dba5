//! The windows of a held-out split that an evaluation predicts; they are fixed.
//!
//! **Each target token is predicted at most once. Which tokens are predicted depends on the split, the
//! context and the number of tokens alone**, never on a batch size.
//!
//! The split is cut into windows of `context` tokens. Each is read together with the one token before its
//! first target. The evaluated windows lie evenly over the whole split: documents are sorted by path, so the
//! beginning of a split would be only one or two crates.

use super::{Dataset, DatasetError, Split};

/// The windows of one evaluation.
#[derive(Debug)]
pub struct EvaluationWindows<'a> {
    dataset: &'a Dataset,
    split: Split,
    context: u64,
    windows: u64,
    /// The number of windows in the whole split.
    there: u64,
}

impl<'a> EvaluationWindows<'a> {
    /// Prepares `tokens` targets of a split, rounded down to whole windows of `context` tokens. Fails if the
    /// split is shorter than that, because a smaller evaluation would be another metric.
    pub fn new(
        dataset: &'a Dataset,
        split: Split,
        context: usize,
        tokens: u64,
    ) -> Result<Self, DatasetError> {
        let context = context as u64;
        let windows = (tokens / context).max(1);
        let needed = windows * context + 1;
        let there = dataset.token_count(split);
        if there < needed {
            return Err(DatasetError::TooShort { split, tokens: there, needed });
        }
        Ok(Self { dataset, split, context, windows, there: (there - 1) / context })
    }

    /// Returns the number of windows that are evaluated.
    pub fn count(&self) -> u64 {
        self.windows
    }

    /// Returns the number of target tokens.
    pub fn tokens(&self) -> u64 {
        self.windows * self.context
    }

    /// Returns the rows of up to `count` windows from window `first` on, one after the other; fewer at the
    /// end. Each row has `context + 1` tokens. Its targets are tokens 1 to `context`.
    pub fn rows(&self, first: u64, count: usize) -> Result<Vec<i64>, DatasetError> {
        let length = self.context as usize + 1;
        let last = (first + count as u64).min(self.windows);
        let mut rows = vec![0; last.saturating_sub(first) as usize * length];
        for (window, row) in (first..).zip(rows.chunks_exact_mut(length)) {
            // In u128, because the product of two window counts may exceed 64 bits.
            let place = u128::from(window) * u128::from(self.there) / u128::from(self.windows);
            self.dataset.read(self.split, place as u64 * self.context, row)?;
        }
        Ok(rows)
    }
}
