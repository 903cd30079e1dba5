//! The swarm config: one TOML file with the shared objective and the peers that introduce newcomers.
//!
//! Only the objective is canonicalised and hashed: another name or another bootstrap peer is still the same
//! swarm. Every contradiction between two fields is found here, before anything is downloaded or trained.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    arena::{Budget, Dtype},
    codec,
    id::{CorpusHash, ObjectiveId},
    knobs::Knob,
    train_config::{ConfigError, TrainConfig, Value, find_knob, parse_value},
};

/// Largest swarm config, bytes: four times the shipped ones.
pub const MAX_SWARM_CONFIG_BYTES: usize = 4 * 1024;

/// Most signs in a swarm config that set a key or delimit a list or a table: `=`, `.`, `[`, `]`, `{`, `}`.
///
/// Ranges and a baseline for half of all knobs take 300. Each sign may cost the parser a table, 1.3 KB
/// (measured); without this limit two bytes of input would buy as much.
const MAX_SIGNS: usize = 512;

/// Where the text comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorpusSource {
    /// The source and documentation of the pinned list of crates.
    Crates,
    /// A folder or a file of the user's own.
    Path(String),
}

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerRule {
    /// One token a byte.
    Bytes,
    /// Byte-pair encoding with this many tokens, trained on the training split.
    Bpe(u32),
}

/// The part of a swarm config that is shared, hashed and fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Where the text comes from.
    pub corpus: CorpusSource,
    /// The corpus's hash, where it is pinned.
    pub corpus_hash: Option<CorpusHash>,
    /// How text becomes tokens.
    pub tokenizer: TokenizerRule,
    /// Evaluation context, tokens; a power of two.
    pub context: u32,
    /// Tokens of each held-out split that are evaluated.
    pub evaluation_tokens: u64,
    /// A fixed budget; none for that of the machine's class.
    pub budget: Option<Budget>,
    /// The family of number formats.
    pub dtype: Dtype,
    /// Smallest gain for which a change that adds something is kept, bits per byte.
    pub min_effect: f64,
    /// The values that the file sets for the first config; to be read for the knobs of `baseline_knobs` only.
    pub baseline: TrainConfig,
    /// The knobs that the file sets, to their defaults too; the calibrated start decides the rest.
    pub baseline_knobs: BTreeSet<String>,
    /// Knobs that no experiment may change.
    pub frozen: BTreeSet<String>,
    /// Narrower ranges by knob: low and high of a number, or the allowed names of a choice.
    pub ranges: BTreeMap<String, Vec<String>>,
    /// Whether the shipped list of known findings may be used.
    pub priors: bool,
}

/// A whole swarm config.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmConfig {
    /// What people call it.
    pub name: String,
    /// One line on what it is for.
    pub description: String,
    /// The part that is shared and hashed.
    pub objective: Objective,
    /// Addresses of peers that introduce newcomers.
    pub bootstrap: Vec<String>,
}

/// Why a file is not a swarm config.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SwarmConfigError {
    /// It is longer than [`MAX_SWARM_CONFIG_BYTES`].
    #[error("it has {0} bytes; at most {MAX_SWARM_CONFIG_BYTES} are read")]
    TooLarge(usize),
    /// It has too many signs that may each cost the parser a table.
    #[error("it has {0} signs `= . [ ] {{ }}`; at most {MAX_SIGNS} are read")]
    TooManySigns(usize),
    /// It is not TOML, or has an unknown key or a value of another type.
    #[error("{0}")]
    Toml(String),
    /// A value that makes no sense, alone or beside another one.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// The full name of the key.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The name or the value of a knob is wrong.
    #[error("`{key}`: {error}")]
    Knob {
        /// The full name of the key or table that it stands in.
        key: String,
        /// What is wrong with the knob.
        error: ConfigError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    description: String,
    objective: FileObjective,
    #[serde(default)]
    swarm: FileSwarm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileObjective {
    metric: String,
    corpus: FileCorpus,
    #[serde(default)]
    tokenizer: FileTokenizer,
    evaluation: FileEvaluation,
    budget: Option<String>,
    #[serde(default = "default_dtype")]
    dtype: String,
    #[serde(default = "default_min_effect")]
    min_effect: f64,
    #[serde(default)]
    baseline: toml::Table,
    #[serde(default)]
    search: FileSearch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCorpus {
    source: String,
    path: Option<String>,
    blake3: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileTokenizer {
    kind: Option<String>,
    vocabulary: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEvaluation {
    context: u32,
    tokens: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileSearch {
    #[serde(default)]
    frozen: Vec<String>,
    #[serde(default)]
    ranges: BTreeMap<String, Vec<toml::Value>>,
    priors: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileSwarm {
    #[serde(default)]
    bootstrap: Vec<String>,
}

fn default_dtype() -> String {
    "f32".to_owned()
}

/// Returns the usual smallest gain for a change that adds something: about one seed-to-seed difference on an
/// H100 (ecosystem data).
const fn default_min_effect() -> f64 {
    0.0005
}

fn invalid(key: &str, reason: impl Into<String>) -> SwarmConfigError {
    SwarmConfigError::Invalid { key: key.to_owned(), reason: reason.into() }
}

impl SwarmConfig {
    /// Parses a file and checks its values, alone and against each other.
    pub fn parse(text: &str) -> Result<Self, SwarmConfigError> {
        if text.len() > MAX_SWARM_CONFIG_BYTES {
            return Err(SwarmConfigError::TooLarge(text.len()));
        }
        // Before parsing, because it is the parser that these signs cost memory.
        let signs = text.bytes().filter(|byte| b"=.[]{}".contains(byte)).count();
        if signs > MAX_SIGNS {
            return Err(SwarmConfigError::TooManySigns(signs));
        }
        let file: File =
            toml::from_str(text).map_err(|e| SwarmConfigError::Toml(e.to_string().trim_end().to_owned()))?;
        if file.name.trim().is_empty() || file.name.len() > 64 {
            return Err(invalid("name", "give it a name of 1 to 64 bytes"));
        }
        let objective = file.objective.check()?;
        Ok(Self {
            name: file.name,
            description: file.description,
            objective,
            bootstrap: file.swarm.bootstrap,
        })
    }
}

impl FileObjective {
    fn check(self) -> Result<Objective, SwarmConfigError> {
        if self.metric != "val_bpb" {
            return Err(invalid(
                "objective.metric",
                format!("`{}` is not known; the metric is `val_bpb`", self.metric),
            ));
        }
        let (corpus, corpus_hash) = self.corpus.check()?;
        let context = self.evaluation.context;
        if !context.is_power_of_two() || !(16..=8192).contains(&context) {
            return Err(invalid(
                "objective.evaluation.context",
                format!("`{context}` is not a power of two from 16 to 8192"),
            ));
        }
        let tokens = self.evaluation.tokens;
        if tokens == 0 || !tokens.is_multiple_of(u64::from(context)) || tokens > 1 << 30 {
            return Err(invalid(
                "objective.evaluation.tokens",
                format!("`{tokens}` is not a positive multiple of the context of {context} up to 2^30"),
            ));
        }
        let budget = match self.budget.as_deref() {
            None | Some("class") => None,
            Some(text) => {
                Some(Budget::parse_duration(text).map_err(|reason| invalid("objective.budget", reason))?)
            }
        };
        let dtype = self.dtype.parse().map_err(|reason: String| invalid("objective.dtype", reason))?;
        if !(self.min_effect.is_finite() && (0.0..1.0).contains(&self.min_effect)) {
            return Err(invalid(
                "objective.min_effect",
                format!("`{}` is not in [0, 1) bits per byte", self.min_effect),
            ));
        }
        let baseline = TrainConfig::from_table(&self.baseline)
            .map_err(|error| SwarmConfigError::Knob { key: "objective.baseline".to_owned(), error })?;
        let objective = Objective {
            corpus,
            corpus_hash,
            tokenizer: self.tokenizer.check()?,
            context,
            evaluation_tokens: tokens,
            budget,
            dtype,
            min_effect: self.min_effect,
            baseline,
            baseline_knobs: self.baseline.keys().cloned().collect(),
            frozen: check_frozen(&self.search.frozen)?,
            ranges: check_ranges(&self.search.ranges)?,
            priors: self.search.priors.unwrap_or(true),
        };
        objective.check_search()?;
        Ok(objective)
    }
}

impl FileCorpus {
    fn check(&self) -> Result<(CorpusSource, Option<CorpusHash>), SwarmConfigError> {
        let source = match (self.source.as_str(), &self.path) {
            ("crates", None) => CorpusSource::Crates,
            ("crates", Some(_)) => {
                return Err(invalid(
                    "objective.corpus.path",
                    "a corpus of crates has no path; remove it or set source = \"path\"",
                ));
            }
            ("path", Some(path)) if !path.is_empty() => CorpusSource::Path(path.clone()),
            ("path", _) => {
                return Err(invalid(
                    "objective.corpus.path",
                    "source = \"path\" needs the path of a folder or file",
                ));
            }
            (other, _) => {
                return Err(invalid(
                    "objective.corpus.source",
                    format!("`{other}` is not known; use crates or path"),
                ));
            }
        };
        let hash = self
            .blake3
            .as_deref()
            .map(|text| text.parse().map_err(|error| invalid("objective.corpus.blake3", format!("{error}"))))
            .transpose()?;
        Ok((source, hash))
    }
}

impl FileTokenizer {
    fn check(&self) -> Result<TokenizerRule, SwarmConfigError> {
        match (self.kind.as_deref(), self.vocabulary) {
            (None | Some("bytes"), None) => Ok(TokenizerRule::Bytes),
            (None | Some("bytes"), Some(_)) => Err(invalid(
                "objective.tokenizer.vocabulary",
                "a tokenizer of bytes has a fixed vocabulary; remove it or set kind = \"bpe\"",
            )),
            (Some("bpe"), Some(size)) if (300..=65_000).contains(&size) => Ok(TokenizerRule::Bpe(size)),
            (Some("bpe"), size) => Err(invalid(
                "objective.tokenizer.vocabulary",
                format!(
                    "bpe needs a vocabulary of 300 to 65000, not {}",
                    size.map_or("none".to_owned(), |n| n.to_string())
                ),
            )),
            (Some(other), _) => {
                Err(invalid("objective.tokenizer.kind", format!("`{other}` is not known; use bytes or bpe")))
            }
        }
    }
}

fn search_error(key: &str) -> impl Fn(ConfigError) -> SwarmConfigError + '_ {
    move |error| SwarmConfigError::Knob { key: key.to_owned(), error }
}

fn check_frozen(names: &[String]) -> Result<BTreeSet<String>, SwarmConfigError> {
    names
        .iter()
        .map(|name| {
            find_knob(name)
                .map(|knob| knob.name().to_owned())
                .map_err(search_error("objective.search.frozen"))
        })
        .collect()
}

fn check_ranges(
    ranges: &BTreeMap<String, Vec<toml::Value>>,
) -> Result<BTreeMap<String, Vec<String>>, SwarmConfigError> {
    let mut out = BTreeMap::new();
    for (name, values) in ranges {
        let key = format!("objective.search.ranges.{name}");
        let knob = find_knob(name).map_err(search_error(&key))?;
        let texts: Vec<String> = values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect();
        let parsed: Vec<Value> = texts
            .iter()
            .map(|text| parse_value(knob, text))
            .collect::<Result<_, _>>()
            .map_err(search_error(&key))?;
        match parsed[..] {
            [Value::Choice(_), ..] => {}
            [low, high] if low < high => {}
            [_, _] => return Err(invalid(&key, "the first value must be below the second")),
            _ => return Err(invalid(&key, "write [low, high], or the allowed names of a choice")),
        }
        out.insert(name.clone(), parsed.iter().map(|value| value.display(knob).to_string()).collect());
    }
    Ok(out)
}

impl Objective {
    /// Returns the objective's id. Where the text's bytes are pinned, its path is left out, since it differs
    /// from machine to machine.
    pub fn id(&self) -> ObjectiveId {
        let id = |objective: &Self| {
            ObjectiveId::of(&codec::encode(objective).expect("an objective is far below the codec's limit"))
        };
        match (&self.corpus, self.corpus_hash) {
            (CorpusSource::Path(_), Some(_)) => {
                id(&Self { corpus: CorpusSource::Path(String::new()), ..self.clone() })
            }
            _ => id(self),
        }
    }

    /// Returns whether experiments may change a knob.
    pub fn is_searchable(&self, knob: Knob) -> bool {
        !self.frozen.contains(knob.name())
    }

    /// Returns whether `value` lies inside the objective's range of `knob`.
    pub fn allows(&self, knob: Knob, value: Value) -> bool {
        let Some(range) = self.ranges.get(knob.name()) else { return true };
        let values: Vec<Value> = range.iter().filter_map(|text| parse_value(knob, text).ok()).collect();
        match (values.as_slice(), value) {
            (names, Value::Choice(_)) => names.contains(&value),
            ([low, high], _) => *low <= value && value <= *high,
            _ => false,
        }
    }

    fn check_search(&self) -> Result<(), SwarmConfigError> {
        for name in self.ranges.keys() {
            let knob = find_knob(name).map_err(search_error("objective.search.ranges"))?;
            if !self.is_searchable(knob) {
                return Err(invalid(
                    &format!("objective.search.ranges.{name}"),
                    "the knob is frozen too; drop one of the two",
                ));
            }
            let value = self.baseline.get(knob);
            if self.baseline_knobs.contains(name) && !self.allows(knob, value) {
                let text = value.display(knob);
                return Err(invalid(
                    &format!("objective.baseline.{name}"),
                    format!("`{text}` lies outside the search's range"),
                ));
            }
        }
        let sequence = self.baseline.integer(Knob::SequenceLength);
        if self.baseline_knobs.contains("sequence_length") && sequence > self.context as usize {
            return Err(invalid(
                "objective.baseline.sequence_length",
                format!("`{sequence}` is longer than the evaluation context of {}", self.context),
            ));
        }
        let batch = self.baseline.integer(Knob::BatchTokens);
        if self.baseline_knobs.contains("batch_tokens") && batch < sequence.min(self.context as usize) {
            return Err(invalid(
                "objective.baseline.batch_tokens",
                format!("`{batch}` is less than one sequence"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "test"
[objective]
metric = "val_bpb"
corpus = { source = "crates" }
evaluation = { context = 256, tokens = 262144 }
baseline = { depth = 2, sequence_length = 128 }
search = { frozen = ["dropout"], ranges = { depth = [1, 8], activation = ["relu2", "gelu"] } }
"#;

    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        assert!(GOOD.contains(from), "{from}");
        let error = SwarmConfig::parse(&GOOD.replace(from, to)).expect_err("contradictory");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_good_file_parses() {
        let config = SwarmConfig::parse(GOOD).expect("valid");
        let objective = &config.objective;
        assert_eq!(objective.baseline.integer(Knob::Depth), 2);
        assert!(!objective.is_searchable(Knob::Dropout));
        assert!(
            objective.allows(Knob::Depth, Value::Integer(8))
                && !objective.allows(Knob::Depth, Value::Integer(9))
        );
        assert!(!objective.allows(Knob::Activation, Value::Choice(4)));
    }

    #[test]
    fn a_pinned_text_may_lie_anywhere() {
        let id = |path: &str, rest: &str| {
            let text = GOOD.replace("\"crates\"", &format!("\"path\", path = \"{path}\"{rest}"));
            SwarmConfig::parse(&text).expect("valid").objective.id()
        };
        let pin = |byte: u8| format!(", blake3 = \"{}\"", CorpusHash::of(&[byte]));
        assert_eq!(id("/a", &pin(1)), id("/b", &pin(1)), "the same bytes");
        assert_ne!(id("/a", &pin(1)), id("/a", &pin(2)), "other bytes");
        assert_ne!(id("/a", ""), id("/b", ""), "nobody knows whether they are the same");
        assert_ne!(id("/a", ""), id("/a", &pin(1)));
    }

    #[test]
    fn the_id_ignores_the_name_and_sees_the_objective() {
        let id = |text: &str| SwarmConfig::parse(text).expect("valid").objective.id();
        assert_eq!(id(GOOD), id(&GOOD.replace("name = \"test\"", "name = \"other\"")));
        assert_ne!(id(GOOD), id(&GOOD.replace("262144", "131072")));
    }

    #[test]
    fn each_contradiction_is_named() {
        check("val_bpb", "accuracy", "`objective.metric`: `accuracy` is not known; the metric is `val_bpb`");
        check(
            "tokens = 262144",
            "tokens = 1000",
            "`objective.evaluation.tokens`: `1000` is not a positive multiple of the context of 256 \
             up to 2^30",
        );
        check(
            "context = 256",
            "context = 250",
            "`objective.evaluation.context`: `250` is not a power of two from 16 to 8192",
        );
        check(
            "sequence_length = 128",
            "sequence_length = 512",
            "`objective.baseline.sequence_length`: `512` is longer than the evaluation context of 256",
        );
        check(
            "\"dropout\"",
            "\"depth\"",
            "`objective.search.ranges.depth`: the knob is frozen too; drop one of the two",
        );
        check("[1, 8]", "[3, 8]", "`objective.baseline.depth`: `2` lies outside the search's range");
        check(
            "[1, 8]",
            "[8, 1]",
            "`objective.search.ranges.depth`: the first value must be below the second",
        );
        check(
            "[1, 8]",
            "[1]",
            "`objective.search.ranges.depth`: write [low, high], or the allowed names of a choice",
        );
        check(
            "\"dropout\"",
            "\"dropuot\"",
            "`objective.search.frozen`: unknown knob `dropuot`; did you mean `dropout`?",
        );
        check(
            "depth = 2,",
            "depth = 77,",
            "`objective.baseline`: `depth` cannot be `77`: it takes 1…32 (integer)",
        );
        check(
            "\"crates\"",
            "\"path\"",
            "`objective.corpus.path`: source = \"path\" needs the path of a folder or file",
        );
        check("\"crates\"", "\"moon\"", "`objective.corpus.source`: `moon` is not known; use crates or path");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let error = SwarmConfig::parse(&"#".repeat(MAX_SWARM_CONFIG_BYTES + 1)).expect_err("too large");
        assert_eq!(error.to_string(), "it has 4097 bytes; at most 4096 are read");
        let error = SwarmConfig::parse(&"a.".repeat(MAX_SIGNS + 1)).expect_err("too many tables");
        assert!(error.to_string().starts_with("it has 513 signs"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error =
            SwarmConfig::parse(&GOOD.replace("metric =", "budgett = \"5s\"\nmetric =")).expect_err("unknown");
        assert!(error.to_string().contains("budgett"), "{error}");
        assert!(error.to_string().contains("line 4"), "{error}");
    }
}
