//! The training rows, in an order that only the seed decides.
//!
//! **Row `i` is a pure function of (seed, i)**: the sizes of batches and micro-batches only group rows.
//!
//! The training split is cut into windows that do not overlap. An epoch visits each window once, in an order
//! drawn from the seed, so nothing repeats before everything was seen. Each epoch cuts at another offset, so
//! a second pass shows other rows.
//!
//! The order is not a shuffled list but a keyed permutation that is computed per row: a Feistel network,
//! walked until it lands in range. It needs no memory and no state, and a run can start at any row.

use super::{Dataset, DatasetError, Split};

/// Rounds of the Feistel network. Four make a random-looking permutation from random-looking rounds (Luby and
/// Rackoff 1988); two more cost nothing.
const ROUNDS: u64 = 6;

/// The training rows of one run.
#[derive(Debug)]
pub struct Batches<'a> {
    dataset: &'a Dataset,
    seed: u64,
    context: u64,
    windows: u64,
    tokens: u64,
}

impl<'a> Batches<'a> {
    /// Prepares rows of `context + 1` tokens. Fails if training holds fewer than two windows.
    pub fn new(dataset: &'a Dataset, seed: u64, context: usize) -> Result<Self, DatasetError> {
        let context = context as u64;
        let tokens = dataset.token_count(Split::Train);
        // One window less than would fit, because the offset of an epoch moves all of them by up to a
        // context.
        let windows = (tokens.saturating_sub(1) / context).saturating_sub(1);
        if windows == 0 {
            let needed = 2 * context + 1;
            return Err(DatasetError::TooShort { split: Split::Train, tokens, needed });
        }
        Ok(Self { dataset, seed, context, windows, tokens })
    }

    /// Returns the number of rows in an epoch, after which every window was seen once.
    pub fn rows_per_epoch(&self) -> u64 {
        self.windows
    }

    /// Returns `count` rows from row `first` on, one after the other. Each has `context + 1` tokens.
    pub fn rows(&self, first: u64, count: usize) -> Result<Vec<i64>, DatasetError> {
        let length = self.context as usize + 1;
        let mut rows = vec![0; count * length];
        for (index, row) in (first..).zip(rows.chunks_exact_mut(length)) {
            self.dataset.read(Split::Train, self.start(index), row)?;
        }
        Ok(rows)
    }

    /// Returns the position in the training split at which row `index` starts.
    fn start(&self, index: u64) -> u64 {
        let epoch = index / self.windows;
        let key = mix(mix(self.seed).wrapping_add(epoch));
        // Each epoch shifts all windows by its own offset, as far as the tokens left over allow.
        let slack = self.tokens - 1 - self.windows * self.context;
        let offset = mix(key) % (slack.min(self.context - 1) + 1);
        offset + permute(index % self.windows, self.windows, key) * self.context
    }
}

/// Returns the place of `index` in a permutation of `0..count` that `key` chooses.
fn permute(index: u64, count: u64, key: u64) -> u64 {
    let half = (u64::BITS - (count - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let mut place = index;
    loop {
        let (mut left, mut right) = (place >> half, place & mask);
        for round in 0..ROUNDS {
            let value = mix(key ^ mix((round << 40) | right)) & mask;
            (left, right) = (right, left ^ value);
        }
        place = (left << half) | right;
        // The network permutes `0..4^half`, which contains `0..count`. Walking its cycle until it lands in
        // `0..count` gives a permutation of that range.
        if place < count {
            return place;
        }
    }
}

/// Returns a well-mixed function of `value`: the finaliser of `SplitMix64`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::permute;

    #[track_caller]
    fn check_permutation(count: u64, key: u64) {
        let mut places: Vec<u64> = (0..count).map(|index| permute(index, count, key)).collect();
        if count > 50 {
            assert_ne!(places, (0..count).collect::<Vec<_>>(), "the order is not shuffled");
        }
        places.sort_unstable();
        assert_eq!(places, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn every_window_has_one_place() {
        for count in [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4096, 4097] {
            check_permutation(count, 0);
            check_permutation(count, 42);
        }
    }

    #[test]
    fn the_order_is_golden() {
        let places: Vec<u64> = (0..8).map(|index| permute(index, 1000, 7)).collect();
        assert_eq!(places, GOLDEN);
    }

    /// These values change only together with `TRAINER_SEMANTICS`.
    const GOLDEN: [u64; 8] = [725, 948, 259, 533, 553, 180, 222, 25];

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        let close = (0..9999)
            .filter(|&index| permute(index, 10_000, 3).abs_diff(permute(index + 1, 10_000, 3)) < 100)
            .count();
        assert!(close < 300, "{close} of 9999 neighbours stayed within 100 windows; chance gives 199");
    }
}
