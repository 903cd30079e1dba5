//! The space that rivals search: each knob is on the axis that the node's own search has for it.
//!
//! An ordered knob is a number of steps (octaves of a rate, of 1 − β, of a decay plus an offset …). So rivals
//! need no logarithms of their own, and their distributions are on the same scale as ours.

use autoswarm_protocol::{
    EffectiveConfig, Knob, TrainConfig, Value,
    knobs::{Domain, KNOBS},
};
use serde::{Deserialize, Serialize};

use crate::surrogate::{
    axes::{choices, coordinates, value_at},
    optimum::CLOSED,
    runs::CONTEXT,
};

/// Steps either way of the start within [`Range::Near`] and [`Range::Close`].
const NEAR: f64 = 4.0;
const CLOSE: f64 = 2.0;

/// How far from the start a search may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// Two steps of each ordered knob either way.
    Close,
    /// Four steps either way.
    Near,
    /// The whole range of the knob table.
    Full,
    /// Four steps either way, but only of the few knobs that arXiv 2603.24647 let its searches turn.
    Few,
}

/// The knobs of arXiv 2603.24647, as far as they are knobs here: its aspect is our width, and its device
/// batch belongs to the GPU.
const FEW: [Knob; 13] = [
    Knob::Depth,
    Knob::Width,
    Knob::HeadDim,
    Knob::WindowPattern,
    Knob::BatchTokens,
    Knob::Warmup,
    Knob::Warmdown,
    Knob::FinalRate,
    Knob::MatrixRate,
    Knob::EmbeddingRate,
    Knob::UnembeddingRate,
    Knob::ScalarRate,
    Knob::MatrixDecay,
];

/// One knob as a rival sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Axis {
    /// The knob, serialized by its name.
    #[serde(serialize_with = "by_name")]
    pub knob: Knob,
    /// The values that it may take.
    #[serde(flatten)]
    pub kind: Kind,
}

/// The values of an axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Kind {
    /// A number between two ends, in steps.
    Steps {
        /// The lower end of the axis.
        low: f64,
        /// The upper end of the axis.
        high: f64,
        /// The start's place on the axis.
        start: f64,
    },
    /// One of several names.
    Names {
        /// All names that the knob may have.
        names: Vec<&'static str>,
        /// The name that the start has.
        start: &'static str,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn by_name<S: serde::Serializer>(knob: &Knob, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(knob.name())
}

/// Returns the axes around a start, without the knobs of [`CLOSED`], which no proposal moves.
pub fn axes(start: &EffectiveConfig, range: Range) -> Vec<Axis> {
    let open = KNOBS.iter().zip(coordinates(start)).zip(choices());
    open.filter(|((row, _), _)| !CLOSED.contains(&row.name))
        .filter(|((row, _), _)| range != Range::Few || FEW.contains(&row.knob))
        .map(|((row, x), is_choice)| {
            let kind = match row.domain {
                Domain::Choice(names) if is_choice => {
                    Kind::Names { names: names.to_vec(), start: start.choice(row.knob) }
                }
                _ => {
                    let (low, high) = ends(row.knob, start);
                    let reach = match range {
                        Range::Close => CLOSE,
                        Range::Near | Range::Few => NEAR,
                        Range::Full => f64::INFINITY,
                    };
                    Kind::Steps { low: low.max(x - reach), high: high.min(x + reach), start: x }
                }
            };
            Axis { knob: row.knob, kind }
        })
        .collect()
}

/// Returns the coordinates of a knob's smallest and largest value.
fn ends(knob: Knob, start: &EffectiveConfig) -> (f64, f64) {
    let at = |value: Value| {
        let config = start.with(knob, value).expect("an end of the range is in it");
        coordinates(&config)[KNOBS.partition_point(|row| row.knob < knob)]
    };
    let (low, high) = knob.row().domain.bounds();
    (at(low), at(high))
}

/// Returns a config with an ordered knob at a place on its axis, in steps; none for a knob of names.
pub(super) fn with_steps(config: &TrainConfig, knob: Knob, steps: f64) -> Option<TrainConfig> {
    config.with(knob, value_at(knob, steps)?).ok()
}

/// Returns a config with a knob set to a name; none for a name that it does not have.
pub(super) fn with_name(config: &TrainConfig, knob: Knob, name: &str) -> Option<TrainConfig> {
    config.with(knob, knob.row().domain.choice(name)?).ok()
}

/// Returns a config as it will be executed.
pub(super) fn effective(config: &TrainConfig) -> EffectiveConfig {
    config.effective(CONTEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::start;

    #[test]
    fn the_start_is_inside_and_comes_back() {
        for range in [Range::Close, Range::Near, Range::Full] {
            let mut config = TrainConfig::new();
            for axis in axes(&start(), range) {
                config = match axis.kind {
                    Kind::Steps { low, high, start } => {
                        assert!(low < high && (low..=high).contains(&start), "{}", axis.knob);
                        with_steps(&config, axis.knob, start).expect("in range")
                    }
                    Kind::Names { start, .. } => with_name(&config, axis.knob, start).expect("a name"),
                };
            }
            assert_eq!(effective(&config), start());
        }
    }

    #[test]
    fn near_is_narrower() {
        let width = |range| -> f64 {
            let axes = axes(&start(), range).into_iter();
            axes.map(|axis| match axis.kind {
                Kind::Steps { low, high, .. } => high - low,
                Kind::Names { .. } => 0.0,
            })
            .sum()
        };
        assert!(width(Range::Close) < width(Range::Near));
        assert!(width(Range::Near) < 0.8 * width(Range::Full));
    }
}
