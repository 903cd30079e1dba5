//! Rules by which a search chooses a config in the end, from the runs that it saw.

use std::collections::BTreeMap;

use autoswarm_protocol::{EffectiveConfig, id::ConfigHash};
use serde::{Deserialize, Serialize};

use super::Seen;
use crate::{
    chance::Chance,
    ground::{Ask, Ground, SECONDS},
};

/// Configs that are measured again before one is chosen.
const FINALISTS: usize = 5;
/// Share of the seconds kept for measuring again.
const SHARE: f64 = 0.2;
/// Fewest runs of a finalist: with fewer seconds there are fewer finalists.
const FEWEST_RUNS: f64 = 2.0;

/// Most runs of a finalist: more than the seconds ever buy here.
const MOST_ROUNDS: u64 = 1000;
/// Key of the seeds of measuring again, which no search uses.
const FRESH: u64 = 0xf7e5;
/// First number of these runs, above those of every search.
const FIRST_ID: u64 = 1 << 32;

/// A rule of choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The search's own incumbent.
    Incumbent,
    /// The config with the smallest mean value seen; all seconds go into the search.
    BestSeen,
    /// Four fifths of the seconds go into the search. The rest measures its best few configs again on fresh
    /// seeds, and the best mean of these new values alone decides.
    Remeasured,
}

impl Rule {
    /// Returns the name used in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incumbent => "incumbent",
            Self::BestSeen => "best seen",
            Self::Remeasured => "re-measured",
        }
    }
}

/// Returns a rule's choice among the runs seen, if the seconds ended at `seconds`; none while no run gave a
/// number.
pub(super) fn choose(
    rule: Rule,
    seen: &[Seen],
    seconds: f64,
    repetition: u64,
    ground: &mut dyn Ground,
) -> anyhow::Result<Option<EffectiveConfig>> {
    match rule {
        Rule::Incumbent | Rule::BestSeen => Ok(ranked(seen, seconds).into_iter().next()),
        Rule::Remeasured => {
            let affordable = (SHARE * seconds / SECONDS / FEWEST_RUNS) as usize;
            let mut finalists = ranked(seen, (1.0 - SHARE) * seconds);
            finalists.truncate(affordable.clamp(1, FINALISTS));
            measured_again(finalists, SHARE * seconds, repetition, ground)
        }
    }
}

/// Returns the configs that had a number by the time `by`, the smallest mean first.
fn ranked(seen: &[Seen], by: f64) -> Vec<EffectiveConfig> {
    let mut of: BTreeMap<ConfigHash, (&EffectiveConfig, f64, f64)> = BTreeMap::new();
    for run in seen.iter().take_while(|run| run.at <= by) {
        let Some(value) = run.value else { continue };
        let entry = of.entry(run.config.hash()).or_insert((&run.config, 0.0, 0.0));
        *entry = (entry.0, entry.1 + value, entry.2 + 1.0);
    }
    let mut means: Vec<(f64, &EffectiveConfig)> =
        of.into_values().map(|(config, sum, count)| (sum / count, config)).collect();
    means.sort_by(|a, b| a.0.total_cmp(&b.0));
    means.into_iter().map(|(_, config)| config.clone()).collect()
}

/// Runs all finalists on one fresh seed after the other, and returns the one with the smallest mean. A round
/// that outlasts the seconds does not count.
fn measured_again(
    finalists: Vec<EffectiveConfig>,
    seconds: f64,
    repetition: u64,
    ground: &mut dyn Ground,
) -> anyhow::Result<Option<EffectiveConfig>> {
    if finalists.len() < 2 {
        return Ok(finalists.into_iter().next());
    }
    let chance = Chance::new(repetition).of(&[FRESH]);
    let (mut spent, mut sums) = (0.0, vec![0.0; finalists.len()]);
    for round in 0..MOST_ROUNDS {
        let mut values = Vec::with_capacity(finalists.len());
        for (place, config) in finalists.iter().enumerate() {
            let id = FIRST_ID + round * FINALISTS as u64 + place as u64;
            let seed = chance.bits(&[round]);
            let answer = ground.run(&Ask { machine: 0, id, config, tokens: None, seed })?;
            spent += answer.seconds;
            // A finalist that crashes now is not chosen.
            values.push(answer.outcome.report().map_or(f64::INFINITY, |report| report.validation.get()));
        }
        if spent > seconds {
            break;
        }
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    let best = sums.iter().zip(finalists).min_by(|a, b| a.0.total_cmp(b.0));
    Ok(best.map(|(_, config)| config))
}
