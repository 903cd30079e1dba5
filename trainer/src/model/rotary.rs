//! Rotary position embedding (Su et al. 2021). The two halves of a head form the rotated pairs.

use tch::{Device, Kind, Tensor};

/// The factors of the rotation for every position, computed once.
#[derive(Debug)]
pub struct Rotary {
    /// `[context, 1, head_dim]`: the cosine of each pair's angle, for both halves.
    cosine: Tensor,
    /// `[context, 1, head_dim]`: the sine, negative for the second half.
    sine: Tensor,
    half: i64,
    /// `[context, half]` in f32: cosine and sine of each pair's angle.
    angles: (Tensor, Tensor),
}

impl Rotary {
    /// Computes the factors for positions `0..context`.
    pub fn new(context: i64, head_dim: i64, base: f64, kind: Kind, device: Device) -> Self {
        let half = head_dim / 2;
        // Computed in f64, because at position 8191 an f32 angle is off by 5e-4.
        let pairs = Tensor::arange(half, (Kind::Double, Device::Cpu));
        let frequency = (pairs * (-base.ln() * 2.0 / head_dim as f64)).exp();
        let angle = Tensor::arange(context, (Kind::Double, Device::Cpu)).outer(&frequency); // [context, half]
        let both = |first: &Tensor, second: &Tensor| {
            Tensor::cat(&[first, second], 1).unsqueeze(1).to_kind(kind).to_device(device)
        };
        let (sine, cosine) = (angle.sin(), angle.cos());
        let factors = |x: &Tensor| x.to_kind(Kind::Float).to_device(device);
        let angles = (factors(&cosine), factors(&sine));
        Self { cosine: both(&cosine, &cosine), sine: both(&sine, &-&sine), half, angles }
    }

    /// Returns the cosine and the sine of each pair's angle, `[context, half]` in f32.
    pub const fn angles(&self) -> (&Tensor, &Tensor) {
        (&self.angles.0, &self.angles.1)
    }

    /// Rotates `x` of `[B, T, heads, head_dim]` by its positions.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let length = x.size()[1];
        // Rolling by half a head swaps the halves: (a, b) becomes (a·cos + b·sin, b·cos − a·sin).
        let swapped = x.roll(self.half, -1);
        (x * self.cosine.narrow(0, 0, length)).addcmul(&swapped, &self.sine.narrow(0, 0, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_depend_on_distance_alone() {
        let rotary = Rotary::new(16, 8, 100.0, Kind::Double, Device::Cpu);
        let vector = Tensor::arange(8, (Kind::Double, Device::Cpu)).view([1, 1, 1, 8]);
        let rotated = rotary.apply(&vector.expand([1, 16, 1, 8], false)).view([16, 8]);
        let scores = rotated.matmul(&rotated.tr());
        let at = |q: i64, k: i64| scores.double_value(&[q, k]);
        assert!((at(5, 2) - at(15, 12)).abs() < 1e-9);
        assert!((at(5, 2) - at(5, 3)).abs() > 1e-3);
        assert!((at(0, 0) - 140.0).abs() < 1e-9); // the rotation keeps lengths: Σ k² for k < 8
    }

    #[test]
    fn one_pair_turns_by_one_radian_a_position() {
        let rotary = Rotary::new(2, 2, 100.0, Kind::Double, Device::Cpu);
        let x = Tensor::from_slice(&[1.0f64, 0.0, 1.0, 0.0]).view([1, 2, 1, 2]);
        let turned = rotary.apply(&x).view([2, 2]);
        assert!((turned.double_value(&[1, 0]) - 1f64.cos()).abs() < 1e-12);
        assert!((turned.double_value(&[1, 1]) + 1f64.sin()).abs() < 1e-12);
    }
}
