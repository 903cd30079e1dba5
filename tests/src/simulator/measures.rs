//! The figures of a simulated swarm: times to targets, true gains, adoptions, and the compute they cost.

use autoswarm_protocol::{
    EffectiveConfig,
    id::{ConfigHash, RecordId},
};

/// An adoption of somebody else's discovery: an experiment that cites it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Adoption {
    /// When the experiment was kept, seconds from the beginning.
    pub at: f64,
    /// The index of the node that kept it.
    pub node: usize,
    /// Whether it cites a liar's discovery.
    pub lie: bool,
    /// The change's true effect on that node, bits per byte, below 0 for a gain; none where it is not known.
    pub truth: Option<f64>,
}

/// How an honest discovery spreads.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// The id of its record.
    pub discovery: RecordId,
    /// When it was told, seconds from the beginning.
    pub told: f64,
    /// Its true effect on its author's node, bits per byte, below 0 for a gain.
    pub truth: f64,
    /// For each node, by index, whether it has kept an experiment that cites it.
    pub holders: Vec<bool>,
    /// Seconds until half of the nodes had it.
    pub half: Option<f64>,
}

/// The story of a simulated swarm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Story {
    /// For each honest node, the seconds at which its incumbent changed, with the new incumbent's true gain
    /// over the start, bits per byte; only where the truth is known.
    pub gains: Vec<Vec<(f64, f64)>>,
    /// For each honest node, the seconds at which its incumbent changed, with the new incumbent.
    pub stands: Vec<Vec<(f64, EffectiveConfig)>>,
    /// All adoptions, oldest first.
    pub adoptions: Vec<Adoption>,
    /// How the honest discoveries spread, the first few hundred of them.
    pub spreads: Vec<Spread>,
    /// Slot seconds of all ended runs of honest nodes.
    pub seconds: f64,
    /// Training seconds of all runs that honest nodes began.
    pub training: f64,
    /// The part of `seconds` spent on others' ideas, and the part spent on re-runs for others.
    pub foreign: (f64, f64),
    /// Counts of experiments, of keeps among them, and of their runs: for own ideas, others' ideas, and
    /// re-runs.
    pub ideas: [(usize, usize, usize); 3],
    /// Experiments with a parent, re-runs not counted, and how many different configs they tried.
    pub experiments: (usize, usize),
    /// Experiments kept, and how many of them are truly no gain.
    pub keeps: (usize, usize),
    /// Runs that ended, and how many of them crashed.
    pub runs: (usize, usize),
    /// The virtual length of the simulation, seconds.
    pub length: f64,
    /// A digest of all that happened, for comparing trajectories.
    pub digest: u64,
    /// The honest nodes' incumbents at the end.
    pub incumbents: Vec<ConfigHash>,
}

impl Story {
    /// Returns the nodes' true gains at a time, bits per byte, smallest first.
    pub fn gains_at(&self, at: f64) -> Vec<f64> {
        let of = |gains: &Vec<(f64, f64)>| {
            gains.iter().take_while(|(when, _)| *when <= at).last().map_or(0.0, |(_, gain)| *gain)
        };
        let mut gains: Vec<f64> = self.gains.iter().map(of).collect();
        gains.sort_by(f64::total_cmp);
        gains
    }

    /// Returns the mean true gain of the nodes at a time, bits per byte.
    pub fn mean_gain(&self, at: f64) -> f64 {
        let gains = self.gains_at(at);
        gains.iter().sum::<f64>() / gains.len().max(1) as f64
    }

    /// Returns the best node's true gain at a time, bits per byte.
    pub fn best_gain(&self, at: f64) -> f64 {
        self.gains_at(at).last().copied().unwrap_or(0.0)
    }

    /// Returns the seconds until this share of the nodes had reached a true gain of at least `target`; a
    /// share of 0 asks for one node.
    pub fn reached(&self, target: f64, share: f64) -> Option<f64> {
        let needed = ((share * self.gains.len() as f64).ceil() as usize).max(1);
        let mut times: Vec<f64> = self
            .gains
            .iter()
            .filter_map(|gains| gains.iter().find(|(_, gain)| *gain >= target).map(|(at, _)| *at))
            .collect();
        times.sort_by(f64::total_cmp);
        times.get(needed - 1).copied()
    }

    /// Returns the share of true gains among the adoptions whose truth is known; none where there are none.
    pub fn true_share(&self) -> Option<f64> {
        let known: Vec<f64> = self.adoptions.iter().filter_map(|adoption| adoption.truth).collect();
        let true_ones = known.iter().filter(|truth| **truth < 0.0).count();
        (!known.is_empty()).then(|| true_ones as f64 / known.len() as f64)
    }

    /// Returns how many adoptions of liars' claims are truly no gain.
    pub fn harmful_lies(&self) -> usize {
        let harmful = |adoption: &&Adoption| adoption.lie && adoption.truth.is_some_and(|truth| truth >= 0.0);
        self.adoptions.iter().filter(harmful).count()
    }

    /// Returns the share of the slot seconds that went into others' claims.
    pub fn foreign_share(&self) -> f64 {
        (self.foreign.0 + self.foreign.1) / self.seconds.max(1e-9)
    }

    /// Returns the median seconds until half of the nodes had a true discovery, and the share of the true
    /// discoveries that spread so far.
    pub fn half_life(&self) -> (Option<f64>, f64) {
        let told: Vec<&Spread> = self.spreads.iter().filter(|spread| spread.truth < 0.0).collect();
        let mut halves: Vec<f64> = told.iter().filter_map(|spread| spread.half).collect();
        halves.sort_by(f64::total_cmp);
        (halves.get(halves.len() / 2).copied(), halves.len() as f64 / told.len().max(1) as f64)
    }
}

/// Returns the median of some values; NaN where there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let count = values.len();
    if count == 0 { f64::NAN } else { 0.5 * (values[count / 2] + values[(count - 1) / 2]) }
}

/// A mean with a 95 % interval (Student's t).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean of the values.
    pub mean: f64,
    /// Half of the interval's width; none for fewer than two values.
    pub half: Option<f64>,
    /// How many values there are.
    pub count: usize,
}

impl Mean {
    /// Returns the mean of some values with its interval; none where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half =
            (count > 1).then(|| student(count - 1) * (squares / (count - 1) as f64 / count as f64).sqrt());
        Some(Self { mean, half, count })
    }
}

/// Returns the two-sided 95 % point of Student's t; Abramowitz and Stegun, table 26.10.
fn student(freedom: usize) -> f64 {
    const POINTS: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    // About 2 for more degrees of freedom than the table has.
    POINTS.get(freedom - 1).copied().unwrap_or(2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_read_by_time() {
        let story =
            Story { gains: vec![vec![(10.0, 0.1), (30.0, 0.3)], vec![(20.0, 0.2)]], ..Story::default() };
        assert_eq!(story.gains_at(5.0), [0.0, 0.0]);
        assert_eq!(story.gains_at(25.0), [0.1, 0.2]);
        assert_eq!(story.reached(0.2, 0.0), Some(20.0));
        assert_eq!(story.reached(0.2, 0.9), Some(30.0));
        assert_eq!(story.reached(0.25, 1.0), None);
        assert!((story.mean_gain(30.0) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn an_interval_is_students() {
        let mean = Mean::of(&[1.0, 2.0, 3.0]).expect("values");
        assert!((mean.mean - 2.0).abs() < 1e-12);
        assert!((mean.half.expect("three values") - 4.303 / 3f64.sqrt()).abs() < 1e-9);
    }
}
