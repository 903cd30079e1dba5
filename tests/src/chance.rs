//! Counter-based random numbers: a value is a function of its key, so a run has the same luck everywhere.

use std::f64::consts::TAU;

/// A source of random numbers, each looked up by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// Makes the source of a seed; the sources of two seeds are independent.
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// Returns an independent source for the part of a simulation that `key` names.
    #[must_use]
    pub fn of(self, key: &[u64]) -> Self {
        Self(self.bits(key))
    }

    /// Returns the 64 random bits of a key.
    pub fn bits(self, key: &[u64]) -> u64 {
        key.iter().fold(mix(self.0), |state, part| mix(state ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Returns a uniform number in (0, 1).
    pub fn uniform(self, key: &[u64]) -> f64 {
        // The half keeps it above 0, so that its logarithm is finite.
        ((self.bits(key) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Returns a standard normal number (Box and Muller).
    pub fn normal(self, key: &[u64]) -> f64 {
        let radius = (-2.0 * self.uniform(key).ln()).sqrt();
        let turn = Self(mix(self.0 ^ 0x5bd1_e995)).uniform(key);
        radius * (TAU * turn).cos()
    }
}

/// The finaliser of `SplitMix64`.
const fn mix(mut state: u64) -> u64 {
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// Returns a hash's first eight bytes as part of a key.
pub fn key_of(hash: &[u8; 32]) -> u64 {
    hash[..8].iter().fold(0, |key, byte| (key << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_are_normal_and_keys_are_apart() {
        let chance = Chance::new(3);
        let draws: Vec<f64> = (0..4000).map(|k| chance.normal(&[k, 1])).collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 4000.0;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.07, "{mean} {variance}");
        let other: f64 = (0..4000).map(|k| draws[k as usize] * chance.normal(&[k, 2])).sum::<f64>() / 4000.0;
        assert!(other.abs() < 0.05, "{other}");
        assert_eq!(chance.bits(&[1, 2]), Chance::new(3).bits(&[1, 2]));
    }
}
