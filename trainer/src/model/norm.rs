//! The normalisations of a model: their kind and their places.

use autoswarm_protocol::{EffectiveConfig, Knob};
use tch::{Kind, Tensor};

/// Added to the mean square before its root. It is the distance from 1 to the next f32, the default of
/// PyTorch's `rms_norm`.
pub const EPSILON: f64 = f32::EPSILON as f64;

/// Where a block normalises its sublayers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before a sublayer, on its input.
    Pre,
    /// After a sublayer, before its output joins the residual stream.
    Post,
    /// Both before and after a sublayer.
    Sandwich,
}

impl Place {
    /// Returns whether the input of sublayers is normalised.
    pub const fn before(self) -> bool {
        matches!(self, Self::Pre | Self::Sandwich)
    }

    /// Returns whether the output of sublayers is normalised.
    pub const fn after(self) -> bool {
        matches!(self, Self::Post | Self::Sandwich)
    }
}

/// The kinds of normalisation of the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// x / √mean x², without a gain (Zhang and Sennrich 2019).
    Rms,
    /// Like `Rms`, with a learned gain per channel.
    RmsLearned,
    /// Mean 0 and variance 1, with a learned gain per channel and no shift.
    Layer,
}

impl Norm {
    /// Returns the kind that the config names.
    pub fn new(config: &EffectiveConfig) -> Self {
        match config.choice(Knob::Norm) {
            "rms_learned" => Self::RmsLearned,
            "layer" => Self::Layer,
            _ => Self::Rms,
        }
    }

    /// Normalises the last dimension of `x`. `gain` is given for the kinds that learn one.
    pub fn apply(self, x: &Tensor, gain: Option<&Tensor>) -> Tensor {
        match (self, gain) {
            (Self::Layer, gain) => {
                let width = *x.size().last().expect("a tensor to normalise has channels");
                let gain = gain.map(|gain| gain.to_kind(x.kind()));
                x.layer_norm([width], gain, None::<Tensor>, EPSILON, false)
            }
            (_, Some(gain)) => rms(x) * gain.to_kind(x.kind()),
            (_, None) => rms(x),
        }
    }
}

/// Returns x / √mean x² over the last dimension. The statistics are f32 in every number format.
pub fn rms(x: &Tensor) -> Tensor {
    if x.kind() == Kind::Float {
        let mean = x.square().mean_dim(-1, true, None::<Kind>);
        x * (mean + EPSILON).rsqrt()
    } else {
        rms(&x.to_kind(Kind::Float)).to_kind(x.kind())
    }
}

/// The layout of the gains' tensor: which row belongs to which normalisation.
#[derive(Debug, Clone, Copy)]
pub struct Gains {
    embedding: i64,
    before: i64,
    after: i64,
}

impl Gains {
    /// Counts the gains of the parts of a model. A parallel block has one normalised input for both
    /// sublayers.
    pub fn new(embedding_norm: bool, place: Place, parallel: bool) -> Self {
        let before = if parallel { 1 } else { 2 };
        Self {
            embedding: i64::from(embedding_norm),
            before: if place.before() { before } else { 0 },
            after: if place.after() { 2 } else { 0 },
        }
    }

    /// Returns the number of gains of a model of `depth` blocks.
    pub const fn count(self, depth: i64) -> i64 {
        1 + self.embedding + depth * (self.before + self.after)
    }

    /// Returns the row of the last normalisation, before the head.
    pub const fn last(self) -> i64 {
        0
    }

    /// Returns the row of the embedding's normalisation.
    pub const fn embedding(self) -> i64 {
        1
    }

    /// Returns the row of the normalisation before a layer's sublayer (0 attention, 1 MLP).
    pub fn before(self, layer: i64, sublayer: i64) -> i64 {
        self.block(layer) + sublayer.min(self.before - 1)
    }

    /// Returns the row of the normalisation after a layer's sublayer.
    pub const fn after(self, layer: i64, sublayer: i64) -> i64 {
        self.block(layer) + self.before + sublayer
    }

    /// Returns the first row of a layer.
    const fn block(self, layer: i64) -> i64 {
        1 + self.embedding + layer * (self.before + self.after)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn every_norm_has_a_row_of_its_own() {
        for place in [Place::Pre, Place::Post, Place::Sandwich] {
            for (parallel, embedding) in [(false, true), (true, false)] {
                let gains = Gains::new(embedding, place, parallel);
                let mut rows = vec![gains.last()];
                rows.extend(embedding.then(|| gains.embedding()));
                for layer in 0..3 {
                    let shared = if parallel { 1 } else { 2 };
                    rows.extend((0..shared).filter(|_| place.before()).map(|s| gains.before(layer, s)));
                    rows.extend((0..2).filter(|_| place.after()).map(|s| gains.after(layer, s)));
                }
                rows.sort_unstable();
                assert_eq!(rows, (0..gains.count(3)).collect::<Vec<_>>(), "{place:?} {parallel}");
            }
        }
    }

    #[test]
    fn rms_leaves_a_mean_square_of_one() {
        let x = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]);
        let mean = rms(&x).square().mean_dim(-1, false, None::<Kind>);
        assert!((mean - 1.0).abs().max().double_value(&[]) < 1e-5);
    }
}
