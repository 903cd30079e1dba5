//! The train config: one value per knob, its text forms, its canonical bytes and its hash.
//!
//! ```text
//! TOML, patches ──parse, range-check, snap──▶ TrainConfig
//! TrainConfig ──effective(context)──▶ EffectiveConfig ──▶ ConfigHash
//! ```
//!
//! A [`TrainConfig`] is what was asked for, an [`EffectiveConfig`] what is executed: widths rounded, windows
//! and groups resolved, knobs without effect back at their defaults. Only effective configs are hashed,
//! recorded and compared, so equal hashes mean equal models. Every config in range has an effective form;
//! nothing fails later.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    codec::bounded,
    id::{ConfigHash, SpeedHash},
    knobs::{Default as RowDefault, Domain, KNOBS, Knob},
};

/// The value of one knob.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Value {
    /// An integer on its knob's grid.
    Integer(i64),
    /// A finite number on its knob's grid.
    Number(f64),
    /// The place of a name in its knob's list.
    Choice(u8),
}

impl Value {
    /// Returns the knob's default.
    pub fn default_of(knob: Knob) -> Self {
        let row = knob.row();
        match row.default {
            RowDefault::Integer(value) => Self::Integer(value),
            RowDefault::Number(value) => Self::Number(value),
            RowDefault::Choice(name) => row.domain.choice(name).expect("a default is one of its choices"),
        }
    }

    /// Returns the value as a plain number; for a choice, its place in the list.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Number(value) => value,
            Self::Choice(index) => f64::from(index),
        }
    }

    /// Prints the value as people write it for `knob`: `4`, `0.03`, `swiglu`.
    pub fn display(self, knob: Knob) -> impl fmt::Display {
        DisplayValue { knob, value: self }
    }

    const fn bits(self) -> (u8, u64) {
        match self {
            Self::Integer(value) => (0, value as u64),
            Self::Number(value) => (1, value.to_bits()),
            Self::Choice(index) => (2, index as u64),
        }
    }

    fn from_bits(tag: u8, bits: u64) -> Option<Self> {
        match tag {
            0 => Some(Self::Integer(bits as i64)),
            1 => Some(Self::Number(f64::from_bits(bits))),
            2 => u8::try_from(bits).ok().map(Self::Choice),
            _ => None,
        }
    }
}

struct DisplayValue {
    knob: Knob,
    value: Value,
}

impl fmt::Display for DisplayValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.knob.row().domain) {
            (Value::Choice(index), Domain::Choice(names)) => {
                f.write_str(names.get(usize::from(index)).copied().unwrap_or("?"))
            }
            (Value::Number(value), _) if value != 0.0 && value.abs() < 1e-4 => write!(f, "{value:e}"),
            (Value::Number(value), _) => write!(f, "{value}"),
            (Value::Integer(value), _) => write!(f, "{value}"),
            (Value::Choice(index), _) => write!(f, "{index}"),
        }
    }
}

impl Domain {
    /// Returns the value of a choice by its name; none for other domains and other names.
    pub fn choice(&self, name: &str) -> Option<Value> {
        match self {
            Self::Choice(names) => {
                names.iter().position(|n| *n == name).map(|index| Value::Choice(index as u8))
            }
            _ => None,
        }
    }

    /// Returns the value nearest to `value` on the grid; none if it is out of range or has the wrong type.
    pub fn snap(&self, value: Value) -> Option<Value> {
        match (*self, value) {
            (Self::Integer { low, high, step }, Value::Integer(v)) if (low..=high).contains(&v) => {
                let k = ((v - low) as f64 / step as f64).round() as i64;
                Some(Value::Integer((low + k * step).min(low + (high - low) / step * step)))
            }
            (Self::PowerOfTwo { low, high }, Value::Integer(v)) if (low..=high).contains(&v) => {
                Some(Value::Integer(1 << (v as f64).log2().round() as u32))
            }
            (Self::Linear { low, high, step }, Value::Number(v)) if (low..=high).contains(&v) => {
                // By way of decimal text, so that 0.1 + 0.2 and 0.3 are one value on every machine.
                let decimals = decimals_of(step);
                let snapped = round_decimals((v / step).round() * step, decimals);
                Some(Value::Number(snapped.clamp(low, high)))
            }
            (Self::Log { low, high }, Value::Number(v)) if (low..=high).contains(&v) => {
                let snapped: f64 = format!("{v:.1e}").parse().expect("a formatted number parses");
                Some(Value::Number(snapped.clamp(low, high)))
            }
            (Self::Choice(names), Value::Choice(index)) if usize::from(index) < names.len() => Some(value),
            _ => None,
        }
    }

    /// Returns the smallest and the largest value (of a choice: the first and the last).
    pub fn bounds(&self) -> (Value, Value) {
        match *self {
            Self::Integer { low, high, .. } | Self::PowerOfTwo { low, high } => {
                (Value::Integer(low), Value::Integer(high))
            }
            Self::Linear { low, high, .. } | Self::Log { low, high } => {
                (Value::Number(low), Value::Number(high))
            }
            Self::Choice(names) => (Value::Choice(0), Value::Choice(names.len() as u8 - 1)),
        }
    }
}

fn decimals_of(step: f64) -> usize {
    (0..9).find(|&d| (step * 10f64.powi(d) - (step * 10f64.powi(d)).round()).abs() < 1e-9).unwrap_or(9)
        as usize
}

fn round_decimals(value: f64, decimals: usize) -> f64 {
    let parsed: f64 = format!("{value:.decimals$}").parse().expect("a formatted number parses");
    parsed + 0.0 // −0 becomes 0, so that zero has one spelling
}

/// Why a text or a value is not a train config.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// There is no knob of this name.
    #[error(
        "unknown knob `{name}`{}",
        suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default()
    )]
    UnknownKnob {
        /// The name that was written.
        name: String,
        /// The name of the nearest knob, if any is near.
        suggestion: Option<&'static str>,
    },
    /// The value is outside the knob's range or of another type.
    #[error("`{knob}` cannot be `{value}`: it takes {range} ({kind})")]
    OutOfRange {
        /// The name of the knob.
        knob: &'static str,
        /// The value that was written.
        value: String,
        /// The range that the knob takes.
        range: String,
        /// The kind of the knob's values.
        kind: &'static str,
    },
    /// The text is not TOML.
    #[error("the config is not valid TOML: {0}")]
    Toml(String),
    /// The canonical bytes or the list on the wire are not what an encoder writes.
    #[error("the config's encoding is not canonical: {0}")]
    NotCanonical(&'static str),
}

/// Returns the candidate nearest to `name` by edit distance, if any is near.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 3).max(2))
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Finds a knob by its name; the error suggests the nearest one.
pub fn find_knob(name: &str) -> Result<Knob, ConfigError> {
    Knob::from_name(name).ok_or_else(|| ConfigError::UnknownKnob {
        name: name.chars().take(80).collect(),
        suggestion: nearest(name, KNOBS.iter().map(|row| row.name)),
    })
}

/// Checks `value` against the knob's range and snaps it to the knob's grid.
pub fn checked(knob: Knob, value: Value) -> Result<Value, ConfigError> {
    let row = knob.row();
    row.domain.snap(value).ok_or_else(|| out_of_range(knob, value.display(knob).to_string()))
}

/// Parses `text` as a value of `knob`: range-checked and snapped.
pub fn parse_value(knob: Knob, text: &str) -> Result<Value, ConfigError> {
    let text = text.trim();
    let bad = || out_of_range(knob, text.chars().take(80).collect());
    let value = match knob.row().domain {
        domain @ Domain::Choice(_) => domain.choice(text).ok_or_else(bad)?,
        Domain::Integer { .. } | Domain::PowerOfTwo { .. } => {
            Value::Integer(text.replace('_', "").parse().map_err(|_| bad())?)
        }
        Domain::Linear { .. } | Domain::Log { .. } => Value::Number(text.parse().map_err(|_| bad())?),
    };
    knob.row().domain.snap(value).ok_or_else(bad)
}

fn out_of_range(knob: Knob, value: String) -> ConfigError {
    let row = knob.row();
    ConfigError::OutOfRange { knob: row.name, value, range: row.domain.to_string(), kind: row.domain.kind() }
}

/// One value per knob, each inside its range and on its grid.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Only values that differ from the defaults, so equality and encoding are canonical by construction.
    values: BTreeMap<Knob, Value>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl TrainConfig {
    /// Returns the config in which every knob has its default.
    pub const fn new() -> Self {
        Self { values: BTreeMap::new() }
    }

    /// Returns the value of a knob.
    pub fn get(&self, knob: Knob) -> Value {
        self.values.get(&knob).copied().unwrap_or_else(|| Value::default_of(knob))
    }

    /// Returns the value of a knob that takes integers.
    pub fn integer(&self, knob: Knob) -> usize {
        match self.get(knob) {
            Value::Integer(value) => value as usize,
            other => unreachable!("`{knob}` is no integer but {other:?}"),
        }
    }

    /// Returns the value of a knob as a plain number.
    pub fn number(&self, knob: Knob) -> f64 {
        self.get(knob).as_f64()
    }

    /// Returns the name chosen for a knob that takes choices.
    pub fn choice(&self, knob: Knob) -> &'static str {
        match (self.get(knob), knob.row().domain) {
            (Value::Choice(index), Domain::Choice(names)) => names[usize::from(index)],
            (other, _) => unreachable!("`{knob}` is no choice but {other:?}"),
        }
    }

    /// Returns whether a knob that takes off and on is on.
    pub fn is_on(&self, knob: Knob) -> bool {
        self.choice(knob) == "on"
    }

    /// Returns this config with one knob changed, range-checked and snapped.
    pub fn with(&self, knob: Knob, value: Value) -> Result<Self, ConfigError> {
        let mut changed = self.clone();
        changed.put(knob, checked(knob, value)?);
        Ok(changed)
    }

    /// Stores a value that is already on its grid.
    fn put(&mut self, knob: Knob, value: Value) {
        if value == Value::default_of(knob) {
            self.values.remove(&knob);
        } else {
            self.values.insert(knob, value);
        }
    }

    fn reset(&mut self, knobs: &[Knob]) {
        for knob in knobs {
            self.values.remove(knob);
        }
    }

    fn choose(&mut self, knob: Knob, name: &str) {
        let value = knob.row().domain.choice(name).expect("the table has this choice");
        self.put(knob, value);
    }

    /// Returns the knobs whose values differ between two configs, in the table's order.
    pub fn differing(&self, other: &Self) -> Vec<Knob> {
        KNOBS.iter().map(|row| row.knob).filter(|&knob| self.get(knob) != other.get(knob)).collect()
    }

    /// Parses TOML lines of `knob = value`; knobs that are not named have their defaults.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| ConfigError::Toml(e.message().to_owned()))?;
        Self::from_table(&table)
    }

    /// Reads a TOML table of `knob = value` pairs.
    pub fn from_table(table: &toml::Table) -> Result<Self, ConfigError> {
        let mut config = Self::new();
        for (name, value) in table {
            let knob = find_knob(name)?;
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Boolean(on) => if *on { "on" } else { "off" }.to_owned(),
                other => other.to_string(),
            };
            config.put(knob, parse_value(knob, &text)?);
        }
        Ok(config)
    }

    /// Prints TOML with every knob, so that a reader needs no other file. Values off their default come
    /// first.
    pub fn to_toml(&self) -> String {
        let line = |knob: Knob| {
            let value = self.get(knob);
            match knob.row().domain {
                Domain::Choice(_) => format!("{knob} = \"{}\"\n", value.display(knob)),
                // A number keeps its point: `4` would be an integer to TOML.
                Domain::Linear { .. } | Domain::Log { .. } => match value.display(knob).to_string() {
                    text if text.contains(['.', 'e']) => format!("{knob} = {text}\n"),
                    text => format!("{knob} = {text}.0\n"),
                },
                _ => format!("{knob} = {}\n", value.display(knob)),
            }
        };
        let mut out: String = self.values.keys().map(|&knob| line(knob)).collect();
        out.push_str("\n# at their defaults\n");
        let rest = KNOBS.iter().map(|row| row.knob).filter(|knob| !self.values.contains_key(knob));
        out.extend(rest.map(line));
        out
    }

    /// Resolves the config as the trainer executes it with an evaluation context of `context` tokens.
    pub fn effective(&self, context: usize) -> EffectiveConfig {
        let mut config = self.clone();
        config.resolve_attention();
        config.resolve_batches(context);
        config.resolve_windows(context);
        config.resolve_value_embeddings();
        config.drop_without_effect();
        EffectiveConfig(config)
    }

    /// Returns how many tokens a layer with a short window looks back on where the evaluation's context has
    /// `context` tokens.
    pub fn short_window(&self, context: usize) -> usize {
        (self.number(Knob::ShortWindow) * context as f64).round().max(1.0) as usize
    }

    fn resolve_attention(&mut self) {
        let (width, head_dim) = (self.integer(Knob::Width), self.integer(Knob::HeadDim));
        let heads = match self.choice(Knob::WidthRounding) {
            "up" => width.div_ceil(head_dim),
            "down" => width / head_dim,
            _ => (width + head_dim / 2) / head_dim,
        }
        .max(1);
        self.put(Knob::Width, Value::Integer((heads * head_dim) as i64));
        self.reset(&[Knob::WidthRounding]);
        // Groups are powers of two, so halving ends at 1 at the latest, which divides all.
        let mut group = self.integer(Knob::KvGroup);
        while !heads.is_multiple_of(group) {
            group /= 2;
        }
        self.put(Knob::KvGroup, Value::Integer(group as i64));
    }

    fn resolve_batches(&mut self, context: usize) {
        let sequence = self.integer(Knob::SequenceLength).min(context);
        let batch = self.integer(Knob::BatchTokens).max(sequence);
        // A pass that holds the whole batch is written as the default, so that a patch of the batch's size
        // alone leaves it one pass.
        let micro = match self.integer(Knob::MicroBatchTokens).max(sequence) {
            micro if micro < batch => Value::Integer(micro as i64),
            _ => Value::default_of(Knob::MicroBatchTokens),
        };
        self.put(Knob::SequenceLength, Value::Integer(sequence as i64));
        self.put(Knob::BatchTokens, Value::Integer(batch as i64));
        self.put(Knob::MicroBatchTokens, micro);
    }

    fn resolve_windows(&mut self, context: usize) {
        let pattern = self.choice(Knob::WindowPattern);
        let depth = self.integer(Knob::Depth);
        let short = pattern.chars().cycle().take(depth.saturating_sub(1)).any(|c| c == 'S');
        // No layer looks back further than a training sequence.
        if !short || self.short_window(context) >= self.integer(Knob::SequenceLength) {
            self.reset(&[Knob::WindowPattern, Knob::ShortWindow]);
        }
    }

    fn resolve_value_embeddings(&mut self) {
        // In one and two layers "alternate" names the same layers as the other choices.
        let depth = self.integer(Knob::Depth);
        match self.choice(Knob::ValueEmbeddings) {
            "none" => self.reset(&[
                Knob::ValueGateWidth,
                Knob::ValueGateScale,
                Knob::ValueEmbeddingRate,
                Knob::ValueEmbeddingBeta1,
                Knob::ValueEmbeddingBeta2,
                Knob::ValueEmbeddingDecay,
                Knob::ValueEmbeddingInit,
                Knob::ValueGateInit,
            ]),
            "all" if depth == 1 => self.choose(Knob::ValueEmbeddings, "alternate"),
            "last" if depth <= 2 => self.choose(Knob::ValueEmbeddings, "alternate"),
            _ => {}
        }
        if self.choice(Knob::ValueEmbeddings) != "none" {
            let width = self.integer(Knob::Width);
            let gate = self.integer(Knob::ValueGateWidth).min(1 << width.ilog2());
            self.put(Knob::ValueGateWidth, Value::Integer(gate as i64));
        }
    }

    /// Puts knobs that other knobs make void back at their defaults, so that equal models have equal hashes.
    fn drop_without_effect(&mut self) {
        use Knob as K;
        if !self.is_on(K::ResidualScalars) {
            self.reset(&[
                K::ResidualRateScale,
                K::FeedbackBeta1,
                K::FeedbackBeta2,
                K::ResidualInit,
                K::FeedbackInit,
            ]);
            if self.choice(K::Norm) == "rms" {
                self.reset(&[K::ScalarRate, K::ScalarBeta1, K::ScalarBeta2, K::ScalarDecay]);
            }
        }
        if self.choice(K::Head) == "tied" {
            self.reset(&[
                K::UnembeddingRate,
                K::UnembeddingBeta1,
                K::UnembeddingBeta2,
                K::UnembeddingDecay,
                K::UnembeddingInit,
            ]);
        }
        if self.choice(K::MatrixOptimizer) == "muon" {
            self.reset(&[K::MatrixBeta1, K::MatrixBeta2]);
            if self.number(K::MuonMomentumWarmup) == 0.0 {
                self.reset(&[K::MuonMomentumStart]);
            }
        } else {
            self.reset(&[
                K::MuonMomentum,
                K::MuonMomentumStart,
                K::MuonMomentumWarmup,
                K::MuonSteps,
                K::MuonNesterov,
                K::NormuonBeta2,
            ]);
        }
        if self.number(K::MatrixDecay) == 0.0 {
            self.reset(&[K::CautiousDecay]);
        }
        let decays =
            [K::MatrixDecay, K::EmbeddingDecay, K::UnembeddingDecay, K::ValueEmbeddingDecay, K::ScalarDecay];
        if decays.iter().all(|&knob| self.number(knob) == 0.0) {
            self.reset(&[K::DecaySchedule]);
        }
        if self.number(K::Warmdown) == 0.0 {
            self.reset(&[K::WarmdownShape, K::FinalRate]);
        }
    }

    fn canonical_bytes_of(&self, keep: impl Fn(Knob) -> bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(11 * self.values.len());
        for (&knob, &value) in self.values.iter().filter(|(knob, _)| keep(**knob)) {
            let (tag, bits) = value.bits();
            bytes.extend_from_slice(&knob.id().to_le_bytes());
            bytes.push(tag);
            bytes.extend_from_slice(&bits.to_le_bytes());
        }
        bytes
    }

    /// Returns the canonical bytes: `id: u16, tag: u8, bits: u64`, little-endian, for each value off its
    /// default, sorted by id.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        self.canonical_bytes_of(|_| true)
    }

    /// Parses canonical bytes; anything that [`TrainConfig::canonical_bytes`] would not print is refused.
    pub fn from_canonical_bytes(bytes: &[u8]) -> Result<Self, ConfigError> {
        let (entries, rest) = bytes.as_chunks::<11>();
        if !rest.is_empty() {
            return Err(ConfigError::NotCanonical("its length is not a multiple of 11"));
        }
        let entries = entries.iter().map(|e| {
            let id = u16::from_le_bytes([e[0], e[1]]);
            let bits = u64::from_le_bytes(e[3..].try_into().expect("eleven minus three is eight"));
            (id, e[2], bits)
        });
        Self::from_entries(entries)
    }

    fn from_entries(entries: impl Iterator<Item = (u16, u8, u64)>) -> Result<Self, ConfigError> {
        let mut config = Self::new();
        let mut last = None;
        for (id, tag, bits) in entries {
            let knob = Knob::from_id(id)
                .ok_or(ConfigError::NotCanonical("it names a knob that this version lacks"))?;
            if last.is_some_and(|last| last >= knob) {
                return Err(ConfigError::NotCanonical("its knobs are not in rising order"));
            }
            last = Some(knob);
            let value =
                Value::from_bits(tag, bits).ok_or(ConfigError::NotCanonical("a value has no such type"))?;
            // Compared by their bits: −0 equals 0, and would be a second spelling of it.
            if checked(knob, value)?.bits() != value.bits() || value == Value::default_of(knob) {
                return Err(ConfigError::NotCanonical("a value is off its grid or at its default"));
            }
            config.values.insert(knob, value);
        }
        Ok(config)
    }
}

impl Serialize for TrainConfig {
    /// Writes a map of names in people's formats, and the sorted list of ids on the wire.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_map(
                self.values.iter().map(|(&knob, &value)| (knob.name(), HumanValue { knob, value })),
            )
        } else {
            let entries: Vec<(u16, u8, u64)> =
                self.values.iter().map(|(knob, value)| (knob.id(), value.bits().0, value.bits().1)).collect();
            entries.serialize(serializer)
        }
    }
}

struct HumanValue {
    knob: Knob,
    value: Value,
}

impl Serialize for HumanValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Integer(value) => serializer.serialize_i64(value),
            Value::Number(value) => serializer.serialize_f64(value),
            Value::Choice(_) => serializer.collect_str(&self.value.display(self.knob)),
        }
    }
}

impl<'de> Deserialize<'de> for TrainConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let table = toml::Table::deserialize(deserializer)?;
            Self::from_table(&table).map_err(de::Error::custom)
        } else {
            let entries: Vec<(u16, u8, u64)> = bounded::list::<{ KNOBS.len() }, _, _>(deserializer)?;
            Self::from_entries(entries.into_iter()).map_err(de::Error::custom)
        }
    }
}

/// A config as executed; made only by [`TrainConfig::effective`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectiveConfig(TrainConfig);

impl EffectiveConfig {
    /// Returns the id of everything that decides the trajectory, the seed apart.
    pub fn hash(&self) -> ConfigHash {
        ConfigHash::of(&self.0.canonical_bytes())
    }

    /// Returns the id of what decides the seconds and the memory of a step.
    pub fn speed_hash(&self) -> SpeedHash {
        SpeedHash::of(&self.0.canonical_bytes_of(|knob| knob.row().affects_speed))
    }

    /// Returns the number of attention heads.
    pub fn heads(&self) -> usize {
        self.integer(Knob::Width) / self.integer(Knob::HeadDim)
    }

    /// Returns the number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.heads() / self.integer(Knob::KvGroup)
    }

    /// Returns the MLP's hidden width, a multiple of 8.
    pub fn hidden(&self) -> usize {
        let hidden = (self.integer(Knob::Width) as f64 * self.number(Knob::MlpRatio)).round() as usize;
        hidden.div_ceil(8) * 8
    }

    /// Returns for each layer whether it sees only the short window.
    pub fn short_layers(&self) -> Vec<bool> {
        let depth = self.integer(Knob::Depth);
        let pattern = self.choice(Knob::WindowPattern).chars().cycle();
        pattern.enumerate().take(depth).map(|(layer, c)| c == 'S' && layer + 1 < depth).collect()
    }

    /// Returns for each layer whether it has a value embedding.
    pub fn value_embedding_layers(&self) -> Vec<bool> {
        let depth = self.integer(Knob::Depth);
        let choice = self.choice(Knob::ValueEmbeddings);
        (0..depth)
            .map(|layer| match choice {
                "all" => true,
                "alternate" => (depth - 1 - layer).is_multiple_of(2),
                "last" => layer + 1 == depth,
                _ => false,
            })
            .collect()
    }

    /// Returns the tokens of one forward and backward pass, at most those of the batch.
    pub fn pass_tokens(&self) -> usize {
        self.integer(Knob::MicroBatchTokens).min(self.integer(Knob::BatchTokens))
    }

    /// Returns the number of sequences in one optimizer step.
    pub fn sequences_per_step(&self) -> usize {
        self.integer(Knob::BatchTokens) / self.integer(Knob::SequenceLength)
    }
}

impl std::ops::Deref for EffectiveConfig {
    type Target = TrainConfig;

    fn deref(&self) -> &TrainConfig {
        &self.0
    }
}

#[cfg(test)]
#[path = "train_config_tests.rs"]
pub(crate) mod tests;
