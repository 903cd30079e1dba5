//! The benchmark's table: true gains with bootstrap intervals, and evolve beside TPE.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Range, Rule, Story};
use crate::chance::Chance;

/// Bootstrap resamplings of an interval.
const RESAMPLINGS: u64 = 4000;
/// The method that is compared, and the one that it is compared with.
const OURS: &str = "evolve";
const YARDSTICK: &str = "tpe";

/// What repetitions of the same search have in common: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    method: String,
    rule: Rule,
    range: Range,
    predictor: bool,
}

/// Which rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// For each method, with the predictor and without, only the best range and rule at the last time.
    Best,
    /// All ranges and rules.
    All,
}

/// Prints the table of stories at these times, training seconds.
pub fn print(stories: &[Story], times: &[f64], wanted: Rows) -> String {
    let mut groups: BTreeMap<Key, Vec<&Story>> = BTreeMap::new();
    for story in stories {
        let Story { method, rule, range, predictor, .. } = story.clone();
        groups.entry(Key { method, rule, range, predictor }).or_default().push(story);
    }
    let last = times.last().copied().unwrap_or(0.0);
    let mut rows: Vec<(&Key, &Vec<&Story>)> = groups.iter().collect();
    rows.sort_by(|a, b| mean(&gains(b.1, last)).total_cmp(&mean(&gains(a.1, last))).then(a.0.cmp(b.0)));
    let mut out = String::from("| method | choice | range | predictor | repetitions ");
    for at in times {
        let _ = write!(out, "| gain after {at:.0} s, bpb "); // writing to a string cannot fail
    }
    out += "| configs | runs | crashes, % of runs |\n|---|---|---|---|---";
    out += &"|---".repeat(times.len());
    out += "|---|---|---|\n";
    let mut shown: Vec<(&str, bool)> = Vec::new();
    for (key, of) in &rows {
        let is_first = !shown.contains(&(&key.method, key.predictor));
        if is_first || wanted == Rows::All {
            shown.push((&key.method, key.predictor));
            out += &row(key, of, times);
        }
    }
    for predictor in [true, false] {
        for at in times {
            out += &against_yardstick(&rows, predictor, *at);
        }
    }
    for (key, of) in &rows {
        out += &claims(key, of);
    }
    out
}

/// Compares what a search claims for its last choices with what they gain.
fn claims(key: &Key, of: &[&Story]) -> String {
    let both = of.iter().map(|story| Some((story.claimed?, story.gain_at(story.seconds))));
    let Some(both) = both.collect::<Option<Vec<(f64, f64)>>>() else { return String::new() };
    let means = |both: &[(f64, f64)]| {
        let (claimed, gained): (Vec<f64>, Vec<f64>) = both.iter().copied().unzip();
        (mean(&claimed), mean(&gained))
    };
    let drawn = |round| means(&drawn(&both, round, 0));
    let (claimed, gained) = means(&both);
    let mut out = format!("- {} claims {claimed:.4} bpb in the end", key.method);
    if interval(&mut |round| drawn(round).1).0 > 0.0 {
        let (low, high) = interval(&mut |round| drawn(round).0 / drawn(round).1);
        // Writing to a string cannot fail.
        let _ = write!(out, ", {:.2} times what it gained ({low:.2} to {high:.2})", claimed / gained);
    }
    out + "\n"
}

fn row(key: &Key, of: &[&Story], times: &[f64]) -> String {
    let range = match (key.rule, key.range) {
        (Rule::Incumbent, _) => "–",
        (_, Range::Close) => "close",
        (_, Range::Near) => "near",
        (_, Range::Full) => "full",
        (_, Range::Few) => "few",
    };
    let predictor = if key.predictor { "on" } else { "off" };
    let mut out = format!("| {} | {} | {range} | {predictor} | {} ", key.method, key.rule.name(), of.len());
    for at in times {
        let gains = gains(of, *at);
        let (low, high) = interval(&mut |round| mean(&drawn(&gains, round, 0)));
        // Writing to a string cannot fail.
        let _ = write!(out, "| {:.4} ({low:.4} to {high:.4}) ", mean(&gains));
    }
    let sum = |get: fn(&Story) -> usize| of.iter().map(|story| get(story)).sum::<usize>() as f64;
    let count = of.len() as f64;
    let _ = writeln!(
        out,
        "| {:.0} | {:.0} | {:.1} |",
        sum(|story| story.experiments) / count,
        sum(|story| story.runs) / count,
        100.0 * sum(|story| story.crashes) / sum(|story| story.runs).max(1.0)
    ); // writing to a string cannot fail
    out
}

/// Compares evolve at a time with the form of TPE that is best then.
fn against_yardstick(rows: &[(&Key, &Vec<&Story>)], predictor: bool, at: f64) -> String {
    let of = |is_it: &dyn Fn(&Key) -> bool| {
        rows.iter()
            .filter(|(key, _)| key.predictor == predictor && is_it(key))
            .max_by(|a, b| mean(&gains(a.1, at)).total_cmp(&mean(&gains(b.1, at))))
    };
    let ours = of(&|key| key.method == OURS);
    let theirs = of(&|key| key.method.starts_with(YARDSTICK));
    let (Some((_, ours)), Some((key, theirs))) = (ours, theirs) else { return String::new() };
    let (a, b) = (gains(ours, at), gains(theirs, at));
    let both = |round: u64| (mean(&drawn(&a, round, 0)), mean(&drawn(&b, round, 1)));
    let (low, high) = interval(&mut |round| both(round).0 - both(round).1);
    let ratio = if interval(&mut |round| both(round).1).0 > 0.0 {
        let (least, most) = interval(&mut |round| both(round).0 / both(round).1);
        format!("ratio {:.2} ({least:.2} to {most:.2})", mean(&a) / mean(&b))
    } else {
        // A gain whose interval reaches 0 may be nothing, and there is no multiple of nothing.
        format!("no ratio, since {} gained {:.4}", key.method, mean(&b))
    };
    let reached = ours_at(ours, mean(&b), at);
    let reached = reached.map_or("not reached".to_owned(), |seconds| format!("{seconds:.0} s"));
    format!(
        "- {at:.0} s, predictor {}: evolve − {} ({}) {:+.4} bpb ({low:+.4} to {high:+.4}), {ratio}; \
         its value is reached by evolve's mean after: {reached}\n",
        if predictor { "on" } else { "off" },
        key.method,
        key.rule.name(),
        mean(&a) - mean(&b),
    )
}

/// Returns when the mean of these stories first reaches `gain`; none if that is after `until`.
fn ours_at(stories: &[&Story], gain: f64, until: f64) -> Option<f64> {
    let mut times: Vec<f64> =
        stories.iter().flat_map(|story| story.gains.iter().map(|(at, _)| *at)).collect();
    times.retain(|at| *at <= until);
    times.sort_by(f64::total_cmp);
    times.into_iter().find(|at| mean(&gains(stories, *at)) >= gain)
}

fn gains(stories: &[&Story], at: f64) -> Vec<f64> {
    stories.iter().map(|story| story.gain_at(at)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Returns a bootstrap sample: as many values, drawn with replacement.
fn drawn<T: Copy>(values: &[T], round: u64, side: u64) -> Vec<T> {
    let chance = Chance::new(0xb007).of(&[round, side]);
    let count = values.len() as u64;
    (0..count).map(|k| values[(chance.bits(&[k]) % count) as usize]).collect()
}

/// Returns the ends of the middle 95 % of the resampled values.
fn interval(of: &mut dyn FnMut(u64) -> f64) -> (f64, f64) {
    let mut values: Vec<f64> = (0..RESAMPLINGS).map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[(share * (values.len() - 1) as f64) as usize];
    (at(0.025), at(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(method: &str, rule: Rule, seed: u64, gains: &[(f64, f64)]) -> Story {
        Story {
            method: method.to_owned(),
            rule,
            predictor: true,
            range: Range::Near,
            seed,
            seconds: 100.0,
            gains: gains.to_vec(),
            claimed: None,
            experiments: 10,
            runs: 20,
            crashes: 1,
            choice: String::new(),
        }
    }

    #[test]
    fn evolve_stands_beside_the_better_form_of_the_yardstick() {
        let mut stories = Vec::new();
        for seed in 1..=5 {
            let luck = 0.001 * seed as f64;
            stories.push(story(
                "evolve",
                Rule::Incumbent,
                seed,
                &[(0.0, 0.0), (20.0, 0.1 + luck), (60.0, 0.2)],
            ));
            stories.push(story("tpe", Rule::BestSeen, seed, &[(50.0, 0.01), (100.0, 0.05)]));
            stories.push(story("tpe", Rule::Remeasured, seed, &[(50.0, 0.02), (100.0, 0.1 + luck)]));
        }
        let table = print(&stories, &[50.0, 100.0], Rows::Best);
        let line = table.lines().rfind(|line| line.starts_with("- 100 s")).expect("a comparison");
        assert!(line.contains("tpe (re-measured) +0.0970 bpb"), "{line}");
        assert!(line.contains("after: 20 s"), "{line}");
        let first = table.lines().nth(2).expect("a row");
        assert!(first.starts_with("| evolve | incumbent | – | on | 5 | 0.1030 (0.10"), "{first}");
        assert!(first.ends_with("| 10 | 20 | 5.0 |"), "{first}");
        assert_eq!(table.lines().filter(|line| line.starts_with("| tpe")).count(), 1);
        let all = print(&stories, &[100.0], Rows::All);
        assert_eq!(all.lines().filter(|line| line.starts_with("| tpe")).count(), 2);
    }

    #[test]
    fn claims_stand_beside_what_was_gained() {
        let claiming = |seed, claimed, gain| Story {
            claimed: Some(claimed),
            ..story("evolve", Rule::Incumbent, seed, &[(20.0, gain)])
        };
        let table = print(&[claiming(1, 0.02, 0.02), claiming(2, 0.04, 0.02)], &[100.0], Rows::Best);
        assert!(
            table.contains("evolve claims 0.0300 bpb in the end, 1.50 times what it gained (1.0"),
            "{table}"
        );
        let table = print(&[claiming(1, 0.02, 0.0), claiming(2, 0.0, 0.0)], &[100.0], Rows::Best);
        assert!(table.contains("evolve claims 0.0100 bpb in the end\n"), "{table}");
        let table = print(&[story("evolve", Rule::Incumbent, 1, &[])], &[100.0], Rows::Best);
        assert!(!table.contains("claims"), "{table}");
    }

    #[test]
    fn there_is_no_multiple_of_nothing() {
        let mut stories = Vec::new();
        for seed in 1..=5 {
            stories.push(story("evolve", Rule::Incumbent, seed, &[(20.0, 0.1)]));
            stories.push(story("tpe", Rule::BestSeen, seed, &[(100.0, 0.01 * (seed as f64 - 3.0))]));
        }
        let table = print(&stories, &[100.0], Rows::Best);
        assert!(table.contains("no ratio, since tpe gained 0.0000"), "{table}");
    }
}
