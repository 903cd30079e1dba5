//! Conditions side by side: swarms of several kinds, each simulated on several seeds, and their figures.

use std::{fmt::Write as _, ops::Range, sync::Mutex, thread};

use super::{
    Spec, Story,
    measures::{Mean, median},
    simulate,
};
use crate::{chance::Chance, surrogate::Surrogate};

/// Bootstrap resamplings of an interval.
const RESAMPLINGS: u64 = 2000;

/// What searches on the surface are measured against, fixed before anything is compared.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Targets {
    /// The start's level, bits per byte.
    pub start: f64,
    /// The best known level, bits per byte.
    pub best: f64,
    /// The config with the best known level, as `knob=value` pairs.
    pub config: String,
}

impl Targets {
    /// Returns the committed targets.
    pub fn committed() -> Self {
        let text = include_str!("../../data/targets.json");
        serde_json::from_str(text).expect("the committed targets are well-formed")
    }

    /// Returns a share of the best known gain, bits per byte.
    pub fn gain(&self, share: f64) -> f64 {
        share * (self.start - self.best)
    }
}

/// The targets of the table, as shares of the best known gain.
pub const SHARES: [f64; 3] = [0.25, 0.5, 0.9];

/// A condition with its stories, one for each seed.
#[derive(Debug)]
pub struct Condition {
    /// The condition's name in the table.
    pub name: String,
    /// What was simulated; its seed does not count.
    pub spec: Spec,
    /// What happened, in the order of the seeds.
    pub stories: Vec<Story>,
}

impl Condition {
    /// Simulates a condition on some seeds, on `threads` threads.
    pub fn run(name: &str, spec: Spec, seeds: Range<u64>, threads: usize, surface: &Surrogate) -> Self {
        let next = Mutex::new(seeds);
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let Some(seed) = next.lock().expect("no thread panics with it").next() else {
                            return;
                        };
                        let story = simulate(&Spec { seed, ..spec.clone() }, surface);
                        done.lock().expect("no thread panics with it").push((seed, story));
                    }
                });
            }
        });
        let mut done = done.into_inner().expect("all threads are over");
        // In the order of the seeds, whichever thread was faster.
        done.sort_by_key(|(seed, _)| *seed);
        Self { name: name.to_owned(), spec, stories: done.into_iter().map(|(_, story)| story).collect() }
    }

    /// Returns one figure of each story.
    pub fn figures(&self, of: impl Fn(&Story) -> f64) -> Vec<f64> {
        self.stories.iter().map(of).collect()
    }

    /// Returns each story's hours until a share of the nodes has a true gain of at least `gain`; its whole
    /// length where that never happened.
    pub fn hours_to(&self, gain: f64, share: f64) -> Vec<f64> {
        self.figures(|story| story.reached(gain, share).unwrap_or(story.length) / 3600.0)
    }

    /// Returns in how many stories a share of the nodes reached a true gain of at least `gain`.
    pub fn times_reached(&self, gain: f64, share: f64) -> usize {
        self.stories.iter().filter(|story| story.reached(gain, share).is_some()).count()
    }

    /// Prints how own ideas, others' ideas and re-runs fared, summed over all seeds.
    pub fn ideas(&self) -> String {
        let of = |kind: usize| {
            let sum = |get: fn(&(usize, usize, usize)) -> usize| -> usize {
                self.stories.iter().map(|story| get(&story.ideas[kind])).sum()
            };
            (sum(|it| it.0), sum(|it| it.1), sum(|it| it.2))
        };
        let [own, foreign, reproductions] = [0, 1, 2].map(of);
        let different: usize = self.stories.iter().map(|story| story.experiments.1).sum();
        format!(
            "own ideas {} in {} runs, {} kept; others' {} in {} runs, {} kept; re-runs {} in {} runs; \
             {different} different configs tried",
            own.0, own.2, own.1, foreign.0, foreign.2, foreign.1, reproductions.0, reproductions.2
        )
    }

    /// Prints a row of the table in `node/docs/simulation.md`.
    pub fn row(&self, targets: &Targets) -> String {
        let mut out = format!("| {} | {} ", self.name, self.stories.len());
        for share in [0.0, 0.5] {
            for target in SHARES {
                let gain = targets.gain(target);
                let count = self.times_reached(gain, share);
                let hours = self.hours_to(gain, share);
                let _ = match count {
                    0 => write!(out, "| – "),
                    _ if count == self.stories.len() => write!(out, "| {} ", show(&hours, 1.0, 2)),
                    _ => write!(out, "| ≥ {:.2} ({count}) ", median(&hours)),
                }; // writing to a string cannot fail
            }
        }
        let whole = targets.gain(1.0);
        let gain = self.figures(|story| 100.0 * story.mean_gain(story.length) / whole);
        let per_hour = self.figures(|story| {
            let honest = story.seconds / 3600.0;
            story.gains.len() as f64 * story.mean_gain(story.length) / honest
        });
        let half: Vec<f64> = self.stories.iter().filter_map(|story| story.half_life().0).collect();
        let true_share: Vec<f64> = self.stories.iter().filter_map(Story::true_share).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            show(&gain, 1.0, 0),
            show(&per_hour, 1.0, 3),
            show(&true_share, 100.0, 1),
            show(&half, 1.0 / 60.0, 1),
            show(&self.figures(Story::foreign_share), 100.0, 0),
            show(&self.figures(|story| story.harmful_lies() as f64), 1.0, 1),
        ); // writing to a string cannot fail
        out
    }
}

/// The head of the table in `node/docs/simulation.md`.
pub const HEAD: &str = "| swarm | seeds | first node: 25 % | 50 % | 90 % \
    | half of the nodes: 25 % | 50 % | 90 % | gain in the end, % of the best known | bpb per node hour \
    | adopted and true, % | minutes until half have it | on others' claims, % | harmful lies adopted |\n\
    |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

fn show(values: &[f64], factor: f64, digits: usize) -> String {
    let values: Vec<f64> = values.iter().map(|value| value * factor).collect();
    match Mean::of(&values) {
        None => "–".to_owned(),
        Some(Mean { mean, half: Some(half), .. }) => format!("{mean:.digits$} ± {half:.digits$}"),
        Some(Mean { mean, .. }) => format!("{mean:.digits$}"),
    }
}

/// Returns the ratio of two medians with its 95 % bootstrap interval.
pub fn ratio(above: &[f64], below: &[f64]) -> (f64, f64, f64) {
    let drawn = |values: &[f64], round: u64, side: u64| -> f64 {
        let chance = Chance::new(0xb007).of(&[round, side]);
        let count = values.len() as u64;
        median(&(0..count).map(|k| values[(chance.bits(&[k]) % count) as usize]).collect::<Vec<_>>())
    };
    let mut ratios: Vec<f64> =
        (0..RESAMPLINGS).map(|round| drawn(above, round, 0) / drawn(below, round, 1)).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[(share * (ratios.len() - 1) as f64) as usize];
    (median(above) / median(below), at(0.025), at(0.975))
}

/// Prints the ratios that matter, each with its 95 % interval. How much sooner does a swarm reach a target
/// than one node? What does talking gain over silence at equal compute? What do liars cost, and what does one
/// search seed for all nodes? A story that never reaches a target counts with its whole length.
pub fn ratios(conditions: &[Condition], targets: &Targets) -> String {
    let find = |name: &str| conditions.iter().find(|condition| condition.name == name);
    let mut out = String::new();
    let mut line = |what: String, (middle, low, high): (f64, f64, f64)| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "- {what}: {middle:.2} ({low:.2} to {high:.2})");
    };
    let gains = |condition: &Condition| condition.figures(|story| story.mean_gain(story.length));
    for nodes in [4, 16, 64] {
        let Some(swarm) = find(&format!("{nodes} nodes")) else { continue };
        if let Some(one) = find("1 node") {
            for target in SHARES {
                let gain = targets.gain(target);
                for (who, share) in [("its first node", 0.0), ("half of it", 0.5)] {
                    let all = swarm.stories.len();
                    let reached = swarm.times_reached(gain, share);
                    // Otherwise the median would be the length of the simulation, which says nothing.
                    if 2 * reached > all {
                        let what = format!(
                            "times sooner than one node: {nodes} nodes, {:.0} %, {who} \
                             (reached by {reached} of {all}, one node {} of {})",
                            100.0 * target,
                            one.times_reached(gain, 0.0),
                            one.stories.len()
                        );
                        line(what, ratio(&one.hours_to(gain, 0.0), &swarm.hours_to(gain, share)));
                    }
                }
            }
        }
        if let Some(silent) = find(&format!("{nodes} silent")) {
            line(
                format!("gain of {nodes} talking over {nodes} silent, equal compute"),
                ratio(&gains(swarm), &gains(silent)),
            );
        }
    }
    if let (Some(honest), Some(lied)) = (find("16 nodes"), find("16 nodes and 7 liars")) {
        line("gain of 16 beside 7 liars over 16 alone".to_owned(), ratio(&gains(lied), &gains(honest)));
    }
    if let (Some(own), Some(one)) = (find("16 nodes"), find("16 nodes of one search seed")) {
        line(
            "gain of 16 with one search seed over 16 with their own".to_owned(),
            ratio(&gains(one), &gains(own)),
        );
    }
    out
}

/// Returns the table's conditions, names and swarms; each swarm has `compute` node hours, whatever its size.
pub fn all(compute: f64) -> Vec<(String, Spec)> {
    let mut out = vec![("1 node".to_owned(), Spec { talking: false, ..Spec::new(1, compute, 0) })];
    for nodes in [4, 16, 64] {
        let hours = compute / f64::from(nodes);
        let spec = Spec::new(nodes as usize, hours, 0);
        out.push((format!("{nodes} nodes"), spec.clone()));
        out.push((format!("{nodes} silent"), Spec { talking: false, ..spec }));
    }
    let sixteen = Spec::new(16, compute / 16.0, 0);
    // Seven of 23 are 30 %.
    out.push(("16 nodes and 7 liars".to_owned(), Spec { liars: 7, ..sixteen.clone() }));
    out.push(("16 nodes of one search seed".to_owned(), Spec { one_search_seed: true, ..sixteen }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_has_an_interval() {
        let (middle, low, high) = ratio(&[8.0, 10.0, 12.0, 9.0, 11.0], &[1.0, 1.1, 0.9, 1.05, 0.95]);
        assert!((middle - 10.0).abs() < 1e-9);
        assert!(low > 7.0 && high < 13.4 && low < 10.0 && high > 10.0, "{low} {high}");
    }
}
