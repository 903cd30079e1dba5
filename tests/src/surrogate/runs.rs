//! The real runs that the surface is fitted to, in the CSV files of `scripts/surface/collect.py`.
//!
//! Runs that searches made come in the same form from `scripts/surface/from_memo.py`.

use autoswarm_protocol::{
    EffectiveConfig, TrainConfig, Value,
    knobs::KNOBS,
    train_config::{find_knob, parse_value},
};

/// Evaluation context of every run, tokens.
pub const CONTEXT: usize = 256;
/// CPU seconds of training that each run's tokens should take by its price.
pub const BUDGET_SECONDS: f64 = 5.0;

/// Parts of the runs that are held out in turn.
pub const FOLDS: u8 = 7;

/// One run on one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct RealRun {
    /// How the config was chosen: `near`, `broad`, `elite`, `repeat`, `tokens` or `asked` by collect.py,
    /// which explains them, or `search` by a search.
    pub kind: String,
    /// The seed of the run.
    pub seed: u64,
    /// Tokens per CPU second of the short run before it; none where that failed.
    pub price: Option<f64>,
    /// What the run itself measured; none if it gave no number.
    pub measured: Option<Measured>,
    /// The class of its crash, if it gave no number.
    pub crash: Option<String>,
    /// The config as executed.
    pub config: EffectiveConfig,
    /// The smoothed training loss, nats, after 5, 10, 15, 20, 30, 40, 50, 70 and 100 % of the steps; empty
    /// for a run without a number.
    pub curve: Vec<f64>,
}

/// What a finished run measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Training tokens that it took.
    pub tokens: f64,
    /// CPU seconds of training.
    pub cpu_seconds: f64,
    /// Peak memory, bytes.
    pub memory: f64,
    /// Bits per byte on the validation split.
    pub validation: f64,
    /// Bits per byte on the audit split.
    pub audit: f64,
}

impl RealRun {
    /// Returns the part, below [`FOLDS`], that this run belongs to; all runs of a config share a part.
    pub fn fold(&self) -> u8 {
        self.config.hash().as_bytes()[0] % FOLDS
    }

    /// Returns its training throughput, tokens per CPU second: its own, or else that of its price.
    pub fn speed(&self) -> Option<f64> {
        self.measured.map(|measured| measured.tokens / measured.cpu_seconds).or(self.price)
    }
}

/// Returns every committed run, in the order in which they were made.
pub fn real_runs() -> Vec<RealRun> {
    parse(include_str!("../../data/surface-runs.csv")).expect("the committed runs are well-formed")
}

/// Parses a file of runs; an error names the line.
pub fn parse(text: &str) -> Result<Vec<RealRun>, String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().ok_or("there is no header")?.split(',').collect();
    let column =
        |name: &str| header.iter().position(|head| *head == name).ok_or(format!("no column `{name}`"));
    let (kind, seed, price) = (column("kind")?, column("seed")?, column("price")?);
    let (tokens, cpu, memory) = (column("tokens")?, column("cpu_seconds")?, column("memory")?);
    let (validation, audit) = (column("validation")?, column("audit")?);
    let (crash, config) = (column("crash")?, column("config")?);
    let curve = column("curve").ok();
    let parsed = lines.enumerate().map(|(index, line)| {
        let cells: Vec<&str> = line.split(',').collect();
        let wrong = |what: &str| format!("line {}: {what}", index + 2);
        if cells.len() != header.len() {
            return Err(wrong("another number of columns than the header"));
        }
        let number = |at: usize| cells[at].parse::<f64>().ok();
        let measured = || {
            Some(Measured {
                tokens: number(tokens)?,
                cpu_seconds: number(cpu)?,
                memory: number(memory)?,
                validation: number(validation)?,
                audit: number(audit)?,
            })
        };
        Ok(RealRun {
            kind: cells[kind].to_owned(),
            seed: cells[seed].parse().map_err(|_| wrong("the seed is no number"))?,
            price: number(price),
            measured: measured(),
            crash: (!cells[crash].is_empty()).then(|| cells[crash].to_owned()),
            config: parse_config(cells[config]).map_err(|error| wrong(&error))?.effective(CONTEXT),
            curve: curve
                .map_or("", |at| cells[at])
                .split_whitespace()
                .filter_map(|loss| loss.parse().ok())
                .collect(),
        })
    });
    parsed.collect()
}

/// Parses `knob=value` pairs, separated by spaces; other knobs keep their defaults.
pub fn parse_config(text: &str) -> Result<TrainConfig, String> {
    let mut config = TrainConfig::new();
    for part in text.split_whitespace() {
        let (name, value) = part.split_once('=').ok_or(format!("`{part}` is no knob=value"))?;
        let knob = find_knob(name).map_err(|error| error.to_string())?;
        let value = parse_value(knob, value).map_err(|error| error.to_string())?;
        config = config.with(knob, value).map_err(|error| error.to_string())?;
    }
    Ok(config)
}

/// Prints what [`parse_config`] reads.
pub fn config_text(config: &TrainConfig) -> String {
    let off_default =
        KNOBS.iter().map(|row| row.knob).filter(|knob| config.get(*knob) != Value::default_of(*knob));
    let pairs: Vec<String> =
        off_default.map(|knob| format!("{knob}={}", config.get(knob).display(knob))).collect();
    pairs.join(" ")
}
