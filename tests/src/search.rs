//! The benchmark of search: methods compete with the same training seconds, start and ground.
//!
//! ```text
//! method ──config, seed──▶ Account: pays training seconds ──▶ Ground
//!    └─ what it saw ──▶ its choice at each time ──▶ the choice's true gain ──▶ Story
//! ```
//!
//! A method pays for every run with the run's training seconds: first looks, retests, crashes, and the
//! measurements by which it makes its choice. Starting, pricing and evaluating cost the same per run for all
//! methods and are left out. A method's story is the true gain of its choice at each time, which only the
//! judge sees. `node/docs/search.md` has the figures.

mod account;
mod choice;
mod evolve;
mod judge;
pub mod oracle;
mod rivals;
mod screen;
mod space;
pub mod table;

use autoswarm_protocol::EffectiveConfig;
use serde::{Deserialize, Serialize};

pub use account::{Account, Seen};
pub use choice::Rule;
pub use judge::{Gain, Judge};
pub use rivals::Rival;
pub use space::{Axis, Kind, Range, axes};

use crate::ground::Ground;

/// The conditions of one search.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Training seconds to spend.
    pub seconds: f64,
    /// The repetition: all luck follows from it, and another seed has other luck in every run.
    pub seed: u64,
    /// Whether configs that the node's predictor of memory and step time rules out are skipped at no cost.
    pub predictor: bool,
    /// How far from the start a rival may go.
    pub range: Range,
    /// How many times rivals' choices are judged, evenly over the seconds.
    pub checkpoints: u32,
}

/// A search's story by one rule of choosing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// The method's name.
    pub method: String,
    /// How it chooses from what it saw.
    pub rule: Rule,
    /// Whether the predictor was on.
    pub predictor: bool,
    /// How far from the start it might go.
    pub range: Range,
    /// The repetition, as in [`Spec::seed`].
    pub seed: u64,
    /// Training seconds that it had.
    pub seconds: f64,
    /// The choice's true gain over the start, bits per byte, each with the training second from which on it
    /// holds.
    pub gains: Vec<(f64, f64)>,
    /// The gain that the search itself claims for its last choice, bits per byte; none for a method without
    /// claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<f64>,
    /// Different configs tried.
    pub experiments: usize,
    /// Runs that ended in time.
    pub runs: usize,
    /// Runs that gave no number.
    pub crashes: usize,
    /// The last choice, as a difference to the start.
    pub choice: String,
}

impl Story {
    /// Returns the true gain of the choice at a time.
    pub fn gain_at(&self, seconds: f64) -> f64 {
        self.gains.iter().take_while(|(at, _)| *at <= seconds + 1e-6).last().map_or(0.0, |(_, gain)| *gain)
    }
}

/// A way to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The node's own search: its research core with one slot, every run paid.
    Evolve,
    /// A search that only asks for the values of configs.
    Rival(Rival),
}

impl Method {
    /// Every method, by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("evolve", Self::Evolve),
        ("random", Self::Rival(Rival::Uniform)),
        ("neighbours", Self::Rival(Rival::Neighbours)),
        ("mutations", Self::Rival(Rival::Mutations)),
    ];

    /// Finds a method by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, method)| method)
    }

    /// Returns the method's name, as in [`Self::ALL`].
    pub fn name(self) -> &'static str {
        let known = Self::ALL.into_iter().find(|(_, method)| *method == self);
        known.map(|(name, _)| name).expect("every method has a name")
    }

    /// Searches, and returns a story for each rule by which the method could choose.
    pub fn search(
        self,
        spec: &Spec,
        start: &EffectiveConfig,
        ground: &mut dyn Ground,
    ) -> anyhow::Result<Vec<Story>> {
        match self {
            Self::Evolve => Ok(vec![evolve::search(spec, start, ground)?]),
            Self::Rival(rival) => {
                let account = rivals::search(rival, spec, start, ground)?;
                stories(self.name(), spec, start, &account, ground)
            }
        }
    }
}

/// Returns a rival's stories, one for each rule of choosing from all that it saw.
pub(crate) fn stories(
    name: &str,
    spec: &Spec,
    start: &EffectiveConfig,
    account: &Account,
    ground: &mut dyn Ground,
) -> anyhow::Result<Vec<Story>> {
    let mut judge = Judge::new(spec.seed, start);
    let mut out = Vec::new();
    for rule in [Rule::BestSeen, Rule::Remeasured] {
        let mut gains = Vec::new();
        let mut choice = start.clone();
        for checkpoint in 1..=spec.checkpoints {
            let at = spec.seconds * f64::from(checkpoint) / f64::from(spec.checkpoints);
            choice = choice::choose(rule, account.seen(), at, spec.seed, ground)?.unwrap_or(choice);
            gains.push((at, judge.gain(&choice, ground)?));
        }
        let patch = autoswarm_protocol::Patch::between(start, &choice);
        out.push(account.story(name, rule, spec, gains, patch.to_string()));
    }
    Ok(out)
}
