//! The search space: each knob on an axis whose unit is one sensible step, and which knobs may change now.
//!
//! A step is large enough to be seen through the noise of a small machine. It is a factor of 1.5 on a rate, a
//! doubling of a batch, half an octave of `1 − β`. The model relies on effects that are smooth along an axis.

use autoswarm_protocol::{
    EffectiveConfig, Knob, Patch, TrainConfig, Value,
    knobs::{Domain, KNOBS},
    swarm_config::Objective,
    train_config::parse_value,
};

use crate::proposers::program::Direction;

/// How a knob's value becomes a coordinate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// Octaves of the value. The number is the size of a step, in octaves.
    Ratio(f64),
    /// Octaves of the value plus an offset, for knobs that may be 0. The numbers are the offset, and the size
    /// of a step in octaves.
    Offset(f64, f64),
    /// Octaves of 1 − value, for betas. The number is the size of a step, in octaves.
    Complement(f64),
    /// The value itself. The number is the size of a step.
    Plain(f64),
    /// Names without an order.
    Names,
}

/// One knob's axis inside the objective's ranges.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// The knob that moves along the axis.
    pub(super) knob: Knob,
    scale: Scale,
    low: f64,
    high: f64,
    /// The allowed values of a choice; empty for numbers.
    names: Vec<Value>,
    /// Whether the objective and the direction let proposals change it.
    pub(super) open: bool,
    /// How large an effect a step is likely to have, relative to the largest: 0 to 1.
    pub(super) interest: f64,
    /// The value that turns its part off, if there is one and the objective allows it.
    pub(super) off: Option<Value>,
}

/// All axes, in the order of the knob table, and the evaluation context that makes configs effective.
#[derive(Debug, Clone)]
pub(super) struct Space {
    axes: Vec<Axis>,
    context: usize,
}

/// Returns a knob's scale, its interest and the value that turns its part off, if there is one.
///
/// The interests rank what the reference's log, nanochat's log and small-machine reports found to matter.
/// // Wild guess.
fn traits_of(knob: Knob) -> (Scale, f64, Option<&'static str>) {
    use Knob as K;
    use Scale::{Complement, Offset, Plain, Ratio};
    // The scale that suits the knob's domain, where its row below names no other.
    let kind = match knob.row().domain {
        Domain::Integer { step, .. } => Plain(step as f64),
        Domain::PowerOfTwo { .. } => Ratio(1.0),
        Domain::Linear { step, .. } => Plain(2.0 * step),
        Domain::Log { .. } => Ratio(0.6),
        Domain::Choice(_) => Scale::Names,
    };
    match knob {
        K::BatchTokens => (kind, 1.0, None),
        K::Depth | K::Width => (Ratio(0.5), 0.9, None),
        K::SequenceLength => (kind, 0.7, None),
        K::MatrixRate => (kind, 0.8, None),
        K::EmbeddingRate | K::UnembeddingRate => (kind, 0.5, None),
        K::MlpRatio => (Ratio(0.6), 0.5, None),
        K::ValueEmbeddings => (kind, 0.5, Some("none")),
        K::Activation | K::MatrixOptimizer | K::HeadDim => (kind, 0.4, None),
        K::Warmdown => (Plain(0.15), 0.4, None),
        K::Softcap => (Offset(5.0, 0.6), 0.25, Some("0")),
        K::Head | K::Block | K::NormPlace | K::WindowPattern => (kind, 0.3, None),
        K::EmbeddingNorm | K::QkNorm | K::ResidualScalars => (kind, 0.3, Some("off")),
        K::MatrixDecay => (Offset(0.03, 1.0), 0.3, Some("0")),
        K::MuonMomentum => (Complement(0.8), 0.3, None),
        K::UnembeddingInit => (Ratio(2.0), 0.3, None),
        K::EmbeddingInit | K::ValueEmbeddingRate | K::ScalarRate => (Ratio(1.0), 0.25, None),
        K::MatrixInit | K::AttentionScale => (Ratio(0.5), 0.25, None),
        K::ProjectionInit => (Offset(0.2, 1.0), 0.25, None),
        K::FinalRate => (Offset(0.03, 0.8), 0.25, None),
        K::Warmup => (Offset(0.03, 0.8), 0.25, Some("0")),
        K::ShortWindow | K::KvGroup => (Ratio(1.0), 0.2, None),
        K::ResidualRateScale => (Ratio(1.5), 0.2, None),
        K::EmbeddingBeta1
        | K::EmbeddingBeta2
        | K::MatrixBeta1
        | K::MatrixBeta2
        | K::UnembeddingBeta1
        | K::UnembeddingBeta2
        | K::MuonMomentumStart => (Complement(1.0), 0.15, None),
        K::ScalarBeta1
        | K::ScalarBeta2
        | K::FeedbackBeta1
        | K::FeedbackBeta2
        | K::ValueEmbeddingBeta1
        | K::ValueEmbeddingBeta2 => (Complement(1.0), 0.08, None),
        K::NormuonBeta2 => (Complement(1.0), 0.2, Some("0")),
        K::MuonNesterov | K::CautiousDecay => (kind, 0.15, Some("off")),
        K::MuonMomentumWarmup => (Plain(0.2), 0.15, Some("0")),
        K::GradientClip => (Offset(0.3, 1.0), 0.2, Some("0")),
        K::Dropout => (Plain(0.1), 0.2, Some("0")),
        K::EmbeddingDecay | K::UnembeddingDecay | K::ValueEmbeddingDecay | K::ScalarDecay => {
            (Offset(0.01, 1.0), 0.12, Some("0"))
        }
        K::ValueGateScale => (Ratio(0.6), 0.1, None),
        K::ValueEmbeddingInit => (Offset(0.3, 0.8), 0.15, None),
        K::ValueGateInit => (Offset(0.2, 1.0), 0.08, None),
        K::ResidualInit => (Ratio(0.4), 0.15, None),
        K::FeedbackInit => (Offset(0.05, 1.0), 0.15, None),
        K::RopeBase => (Ratio(2.0), 0.15, None),
        K::AdamEps => (Ratio(6.0), 0.05, None),
        K::RateWidthPower => (kind, 0.1, None),
        K::MicroBatchTokens | K::ValueGateWidth => (kind, 0.05, None),
        K::WidthRounding => (kind, 0.0, None),
        K::Norm | K::WarmdownShape | K::DecaySchedule | K::InitKind | K::MuonSteps => (kind, 0.2, None),
    }
}

impl Axis {
    fn new(knob: Knob, objective: &Objective, direction: &Direction) -> Self {
        let (scale, interest, off) = traits_of(knob);
        let (low, high) = knob.row().domain.bounds();
        let range = objective.ranges.get(knob.name());
        let parsed: Vec<Value> =
            range.into_iter().flatten().filter_map(|text| parse_value(knob, text).ok()).collect();
        let (low, high, names) = match (knob.row().domain, parsed.as_slice()) {
            (Domain::Choice(all), chosen) => {
                let all = (0..all.len()).map(|index| Value::Choice(index as u8));
                (low, high, all.filter(|value| range.is_none() || chosen.contains(value)).collect())
            }
            (_, [from, to]) => (*from, *to, Vec::new()),
            _ => (low, high, Vec::new()),
        };
        let off = off.and_then(|text| parse_value(knob, text).ok());
        Self {
            knob,
            scale,
            low: low.as_f64(),
            high: high.as_f64(),
            names,
            open: objective.is_searchable(knob) && direction.permits(knob) && interest > 0.0,
            interest,
            off: off.filter(|value| objective.allows(knob, *value)),
        }
    }

    /// Returns a value's place on the axis, in steps.
    pub(super) fn coordinate(&self, value: Value) -> f64 {
        let x = value.as_f64();
        match self.scale {
            Scale::Ratio(step) => x.max(1e-15).log2() / step,
            Scale::Offset(offset, step) => (x + offset).log2() / step,
            Scale::Complement(step) => -(1.0 - x).max(1e-4).log2() / step,
            Scale::Plain(step) => x / step,
            Scale::Names => x,
        }
    }

    /// Returns whether the values have no order.
    pub(super) fn is_choice(&self) -> bool {
        self.scale == Scale::Names
    }

    /// Returns the allowed names of a choice.
    pub(super) fn names(&self) -> &[Value] {
        &self.names
    }

    /// Returns the value at a coordinate, moved into the range and onto the grid.
    pub(super) fn at(&self, coordinate: f64) -> Option<Value> {
        let x = match self.scale {
            Scale::Ratio(step) => (coordinate * step).exp2(),
            Scale::Offset(offset, step) => (coordinate * step).exp2() - offset,
            Scale::Complement(step) => 1.0 - (-coordinate * step).exp2(),
            Scale::Plain(step) => coordinate * step,
            Scale::Names => return None,
        };
        self.snap(x)
    }

    fn snap(&self, x: f64) -> Option<Value> {
        let x = x.clamp(self.low, self.high);
        let domain = self.knob.row().domain;
        let value = match domain {
            Domain::Integer { .. } => Value::Integer(x.round() as i64),
            Domain::PowerOfTwo { .. } => Value::Integer(x.log2().round().exp2() as i64),
            _ => Value::Number(x),
        };
        domain.snap(value).filter(|value| (self.low..=self.high).contains(&value.as_f64()))
    }

    /// Returns the value `steps` away, at least the next one on the grid. None at the end of the range.
    pub(super) fn step(&self, from: Value, steps: f64) -> Option<Value> {
        let direction = steps.signum();
        let reached = self.at(self.coordinate(from) + steps)?;
        let beyond = |value: Value| (value.as_f64() - from.as_f64()) * direction > 0.0;
        if beyond(reached) {
            return Some(reached);
        }
        let x = from.as_f64();
        let next = match self.knob.row().domain {
            Domain::Integer { step, .. } => x + direction * step as f64,
            Domain::PowerOfTwo { .. } => x * direction.exp2(),
            Domain::Linear { step, .. } => x + direction * step,
            Domain::Log { .. } => x * (1.0 + 0.1 * direction),
            Domain::Choice(_) => return None,
        };
        self.snap(next).filter(|value| beyond(*value))
    }

    /// Returns the values near `from`: one and two steps either way, or the other names, and off.
    pub(super) fn moves(&self, from: Value) -> Vec<Value> {
        let mut values: Vec<Value> = if self.is_choice() {
            self.names.clone()
        } else {
            [1.0, -1.0, 2.0, -2.0]
                .into_iter()
                .filter_map(|steps| self.step(from, steps))
                .chain(self.off)
                .collect()
        };
        values.retain(|value| *value != from);
        let mut unique: Vec<Value> = Vec::with_capacity(values.len());
        for value in values {
            if !unique.contains(&value) {
                unique.push(value);
            }
        }
        unique
    }

    /// Returns values over the whole axis, half a step apart, and the near ones: for the last resort of a
    /// search. On a long axis there are 65 of them, further apart.
    pub(super) fn all(&self, from: Value) -> Vec<Value> {
        if self.is_choice() {
            return self.moves(from);
        }
        let (low, high) = (self.low, self.high);
        let ends = |x: f64| self.snap(x).map_or(0.0, |value| self.coordinate(value));
        let (low, high) = (ends(low), ends(high));
        let count = (((high - low) * 2.0).ceil() as usize).min(64);
        let grid = (0..=count).filter_map(|k| self.at(low + (high - low) * k as f64 / count.max(1) as f64));
        let mut values: Vec<Value> = grid.chain(self.moves(from)).filter(|value| *value != from).collect();
        values.sort_by(|a, b| a.as_f64().total_cmp(&b.as_f64()));
        values.dedup();
        values
    }

    /// Returns whether the objective's range allows a value.
    pub(super) fn holds(&self, value: Value) -> bool {
        if self.is_choice() {
            self.names.contains(&value)
        } else {
            (self.low..=self.high).contains(&value.as_f64())
        }
    }
}

impl Space {
    /// Lays out the axes of all knobs.
    pub(super) fn new(objective: &Objective, direction: &Direction) -> Self {
        let axes = KNOBS.iter().map(|row| Axis::new(row.knob, objective, direction)).collect();
        Self { axes, context: objective.context as usize }
    }

    /// Returns the place of a knob's axis in the knob table.
    pub(super) fn place(knob: Knob) -> usize {
        KNOBS.partition_point(|row| row.knob < knob)
    }

    /// Returns a knob's axis.
    pub(super) fn axis(&self, knob: Knob) -> &Axis {
        &self.axes[Self::place(knob)]
    }

    /// Returns the axes that proposals may change.
    pub(super) fn open(&self) -> impl Iterator<Item = &Axis> {
        self.axes.iter().filter(|axis| axis.open)
    }

    /// Returns the child that `changes` make of `parent`, with the patch; none if equal or outside the space.
    pub(super) fn child(
        &self,
        parent: &EffectiveConfig,
        changes: &[(Knob, Value)],
    ) -> Option<(EffectiveConfig, Patch)> {
        let mut config = TrainConfig::clone(parent);
        for &(knob, value) in changes {
            config = config.with(knob, value).ok()?;
        }
        let child = config.effective(self.context);
        let patch = Patch::between(parent, &child);
        // The patch may also take knobs that the child does not use back to their defaults.
        let inside = |knob: Knob, value: Value| {
            let axis = self.axis(knob);
            (axis.open && axis.holds(value)) || self.is_idle(&child, knob, value)
        };
        (!patch.is_empty() && patch.iter().all(|(knob, change)| inside(knob, change.to)))
            .then_some((child, patch))
    }

    /// Returns whether a knob went back to its default because the child does not use it.
    fn is_idle(&self, child: &EffectiveConfig, knob: Knob, value: Value) -> bool {
        if value != Value::default_of(knob) {
            return false;
        }
        // It is idle if another value makes no difference to what is executed.
        let axis = self.axis(knob);
        let (low, high) = knob.row().domain.bounds();
        let other = if axis.is_choice() || value == low { high } else { low };
        child.with(knob, other).is_ok_and(|changed| changed.effective(self.context) == *child)
    }
}
