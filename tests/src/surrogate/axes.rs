//! A config as coordinates: each knob in sensible steps, much as `scripts/surface/collect.py` moves them.
//!
//! The steps are those of the node's search space on the day of the runs. They are written down again here
//! because **the surface must stay what it is when the search changes**: a benchmark that follows its subject
//! measures nothing.

use autoswarm_protocol::{
    Knob, TrainConfig, Value,
    knobs::{Domain, KNOBS},
    train_config::checked,
};

/// How a value becomes a coordinate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// Octaves of the value; the number is a step's size in octaves.
    Ratio(f64),
    /// Octaves of the value plus an offset, for knobs that may be 0: offset, and a step's size in octaves.
    Offset(f64, f64),
    /// Octaves of 1 − value, for betas; the number is a step's size in octaves.
    Complement(f64),
    /// The value itself; the number is a step's size.
    Plain(f64),
    /// Names without an order.
    Names,
}

fn scale_of(knob: Knob) -> Scale {
    use Knob as K;
    use Scale::{Complement, Names, Offset, Plain, Ratio};
    match knob {
        K::Depth | K::Width | K::MatrixInit | K::AttentionScale => Ratio(0.5),
        K::MlpRatio | K::ValueGateScale => Ratio(0.6),
        K::Warmdown => Plain(0.15),
        K::Softcap => Offset(5.0, 0.6),
        K::MatrixDecay => Offset(0.03, 1.0),
        K::MuonMomentum => Complement(0.8),
        K::UnembeddingInit | K::RopeBase => Ratio(2.0),
        K::EmbeddingInit => Ratio(1.0),
        K::ProjectionInit | K::ValueGateInit => Offset(0.2, 1.0),
        K::FinalRate | K::Warmup => Offset(0.03, 0.8),
        K::MuonMomentumWarmup => Plain(0.2),
        K::GradientClip => Offset(0.3, 1.0),
        K::ValueEmbeddingInit => Offset(0.3, 0.8),
        K::ResidualInit => Ratio(0.4),
        K::FeedbackInit => Offset(0.05, 1.0),
        K::AdamEps => Ratio(6.0),
        K::ResidualRateScale => Ratio(1.5),
        K::EmbeddingDecay | K::UnembeddingDecay | K::ValueEmbeddingDecay | K::ScalarDecay => {
            Offset(0.01, 1.0)
        }
        K::NormuonBeta2 | K::MuonMomentumStart => Complement(1.0),
        _ if knob.name().contains("beta") => Complement(1.0),
        _ => match knob.row().domain {
            Domain::Integer { step, .. } => Plain(step as f64),
            Domain::PowerOfTwo { .. } => Ratio(1.0),
            Domain::Linear { step, .. } => Plain(2.0 * step),
            Domain::Log { .. } => Ratio(0.6),
            Domain::Choice(_) => Names,
        },
    }
}

/// Returns the prior weight of a knob's effects, of a variance of 1. It is larger for what the reference's
/// log and the small-machine reports found to matter first. // Wild guess.
pub fn importance(knob: Knob) -> f64 {
    use Knob as K;
    match knob {
        K::BatchTokens | K::Depth | K::Width | K::SequenceLength | K::MatrixRate => 0.1,
        K::EmbeddingRate
        | K::UnembeddingRate
        | K::MlpRatio
        | K::ValueEmbeddings
        | K::Activation
        | K::MatrixOptimizer
        | K::HeadDim
        | K::Warmdown
        | K::Head
        | K::NormPlace
        | K::WindowPattern
        | K::EmbeddingNorm
        | K::QkNorm
        | K::Dropout
        | K::UnembeddingInit => 0.04,
        K::AdamEps | K::MicroBatchTokens | K::ValueGateWidth | K::WidthRounding | K::ValueGateInit => 0.001,
        _ if knob.name().contains("beta") || knob.name().ends_with("_decay") => 0.003,
        _ => 0.012,
    }
}

/// Returns a config's coordinates, in the order of the knob table.
pub fn coordinates(config: &TrainConfig) -> Vec<f64> {
    KNOBS
        .iter()
        .map(|row| {
            let x = config.get(row.knob).as_f64();
            match scale_of(row.knob) {
                Scale::Ratio(step) => x.max(1e-15).log2() / step,
                Scale::Offset(offset, step) => (x + offset).log2() / step,
                Scale::Complement(step) => -(1.0 - x).max(1e-4).log2() / step,
                Scale::Plain(step) => x / step,
                Scale::Names => x,
            }
        })
        .collect()
}

/// Returns the value of an ordered knob at a coordinate, moved into the range and onto the grid; none for
/// names.
pub fn value_at(knob: Knob, coordinate: f64) -> Option<Value> {
    let x = match scale_of(knob) {
        Scale::Ratio(step) => (coordinate * step).exp2(),
        Scale::Offset(offset, step) => (coordinate * step).exp2() - offset,
        Scale::Complement(step) => 1.0 - (-coordinate * step).exp2(),
        Scale::Plain(step) => coordinate * step,
        Scale::Names => return None,
    };
    let (low, high) = knob.row().domain.bounds();
    let x = x.clamp(low.as_f64(), high.as_f64());
    let value = match knob.row().domain {
        Domain::Integer { .. } | Domain::PowerOfTwo { .. } => Value::Integer(x.round() as i64),
        _ => Value::Number(x),
    };
    checked(knob, value).ok()
}

/// Returns, for each axis, whether its values are names without an order.
pub fn choices() -> Vec<bool> {
    KNOBS.iter().map(|row| scale_of(row.knob) == Scale::Names).collect()
}

/// Returns the values near a config's own: half a step, one and two steps either way, or every other name.
pub fn neighbours(config: &TrainConfig, knob: Knob) -> Vec<Value> {
    let now = config.get(knob);
    let x = now.as_f64();
    let scale = scale_of(knob);
    let (low, high) = knob.row().domain.bounds();
    let (low, high) = (low.as_f64(), high.as_f64());
    let moved = |steps: f64| match scale {
        Scale::Ratio(step) => x * (steps * step).exp2(),
        Scale::Offset(offset, step) => (x + offset) * (steps * step).exp2() - offset,
        Scale::Complement(step) => 1.0 - (1.0 - x).max(1e-4) * (-steps * step).exp2(),
        Scale::Plain(step) => x + steps * step,
        Scale::Names => x,
    };
    let snapped = |x: f64| {
        let x = x.clamp(low, high);
        let value = match knob.row().domain {
            Domain::Integer { .. } | Domain::PowerOfTwo { .. } => Value::Integer(x.round() as i64),
            _ => Value::Number(x),
        };
        checked(knob, value).ok()
    };
    let mut values: Vec<Value> = match knob.row().domain {
        Domain::Choice(names) => (0..names.len()).map(|place| Value::Choice(place as u8)).collect(),
        _ => {
            [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0].into_iter().filter_map(|steps| snapped(moved(steps))).collect()
        }
    };
    values.retain(|value| *value != now);
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_has_an_axis() {
        let config = TrainConfig::new().effective(256);
        assert_eq!(coordinates(&config).len(), KNOBS.len());
        assert!(coordinates(&config).iter().all(|x| x.is_finite()));
        assert_eq!(choices().len(), KNOBS.len());
    }

    #[test]
    fn a_value_is_found_at_its_coordinate() {
        let config = crate::surrogate::start();
        for (row, x) in
            KNOBS.iter().zip(coordinates(&config)).filter(|(row, _)| scale_of(row.knob) != Scale::Names)
        {
            assert_eq!(value_at(row.knob, x), Some(config.get(row.knob)), "{}", row.name);
        }
    }

    #[test]
    fn neighbours_are_other_values() {
        let config = TrainConfig::new();
        for row in KNOBS {
            let near = neighbours(&config, row.knob);
            assert!(!near.is_empty(), "{}", row.name);
            assert!(near.iter().all(|value| *value != config.get(row.knob)), "{}", row.name);
        }
    }
}
