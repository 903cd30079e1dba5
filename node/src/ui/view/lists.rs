//! Lists and single experiments as text: what `experiments` and `status` print. Pure.
//!
//! Discoveries and the swarm have files of their own.

use std::fmt::Write;

use autoswarm_protocol::{Experiment, Run, RunRole, TrainConfig, Verdict};
use serde::{Deserialize, Serialize};

use super::{
    frame,
    look::{Colour, Look},
    swarm,
};
use crate::{
    base::words,
    events::{Snapshot, rows::ExperimentRow, sentences},
};

/// Returns rows as a table for a terminal of `width` columns, with ages as seen at `now`, seconds since 1970.
pub fn table(rows: &[ExperimentRow], now: u64, width: usize) -> String {
    if rows.is_empty() {
        return "no experiments yet\n".to_owned();
    }
    let header = ["#", "verdict", "change", "Δ ± se, bpb", "runs", "ended"].map(str::to_owned);
    let mut cells = vec![header];
    cells.extend(rows.iter().map(|row| {
        [
            row.number.to_string(),
            row.verdict.name().to_owned(),
            words::clean(&row.patch),
            difference(row),
            row.runs.to_string(),
            format!("{} ago", words::duration(now.saturating_sub(row.finished_at) as f64)),
        ]
    }));
    words::columns(&cells, 2, width)
}

/// Returns a row's difference, from fresh pairs or from screening; else a baseline's value or a crash's
/// class.
fn difference(row: &ExperimentRow) -> String {
    match &row.verdict {
        Verdict::Baseline => row.validation.map_or_else(String::new, |value| format!("{value:.4} bpb")),
        Verdict::Keep { estimate, .. } | Verdict::Discard { estimate: Some(estimate), .. } => {
            sentences::short_estimate(estimate)
        }
        Verdict::Discard { screened: Some(delta), .. } => format!("{} (screened)", words::signed(*delta)),
        Verdict::Discard { .. } => String::new(),
        Verdict::Reproduction { found: Ok(estimate), .. } => sentences::short_estimate(estimate),
        Verdict::Crash { class, .. } | Verdict::Reproduction { found: Err(class), .. } => class.to_string(),
    }
}

/// Returns everything about one experiment as a page.
pub fn show(experiment: &Experiment) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "{}", format!("{label:<11}{text}").trim_end());
    };
    line("experiment", &format!("#{}  {}", experiment.number, experiment.id()));
    line("verdict", &sentences::verdict_line(&sentences::change(experiment), &experiment.verdict));
    line("because", &words::clean(&experiment.hypothesis.because));
    let simpler = if experiment.hypothesis.simplifies { ", removes something" } else { "" };
    line(
        "proposed",
        &format!("by {}, group {}{simpler}", experiment.hypothesis.proposer.name(), experiment.group),
    );
    for source in &experiment.hypothesis.inspired_by {
        line("inspired", &words::clean(source));
    }
    if let Some(parent) = experiment.parent {
        line("parent", &parent.to_string());
    }
    line("config", &experiment.config.hash().to_string());
    line("arena", &experiment.arena.to_string());
    let took = experiment.finished_at.saturating_sub(experiment.started_at);
    line(
        "began",
        &format!("{}, took {}", words::timestamp(experiment.started_at), words::duration(took as f64)),
    );
    out.push('\n');
    out.push_str(&run_table(&experiment.runs));
    out.push_str("\nchanged from the defaults:\n");
    let config: &TrainConfig = &experiment.config;
    // After the first empty line come the knobs at their defaults.
    for text in config.to_toml().lines().take_while(|line| !line.is_empty()) {
        let _ = writeln!(out, "  {text}");
    }
    out
}

/// Returns an experiment's runs as a table: what each was for, what it took and what it came to.
fn run_table(runs: &[Run]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<16} {:>20} {:>10} {:>8} {:>8} {:>8}  on",
        "run", "seed", "tokens", "seconds", "val", "audit"
    );
    for run in runs {
        let role = match (run.role, run.pair) {
            (RunRole::Child, Some(pair)) => format!("pair {}, child", pair + 1),
            (RunRole::Incumbent, Some(pair)) => format!("pair {}, parent", pair + 1),
            (RunRole::Child, None) => "child".to_owned(),
            (RunRole::Incumbent, None) => "parent".to_owned(),
            (RunRole::Screen, _) => "screen".to_owned(),
            (RunRole::IncumbentScreen, _) => "screen, parent".to_owned(),
            (RunRole::Baseline, _) => "baseline".to_owned(),
        };
        let text = match &run.outcome {
            autoswarm_protocol::Outcome::Finished(report) => format!(
                "{role:<16} {:>20} {:>10} {:>8.1} {:>8.4} {:>8}  {}",
                run.seed,
                report.tokens,
                report.training_seconds,
                report.validation.get(),
                report.audit.map_or_else(|| "-".to_owned(), |audit| format!("{audit:.4}")),
                words::clean(&report.device)
            ),
            autoswarm_protocol::Outcome::Crashed(crash) => format!(
                "{role:<16} {:>20} {:>10} {:>8.1} {}",
                run.seed,
                run.tokens.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string()),
                crash.seconds,
                sentences::crash(crash.class, &crash.message)
            ),
            autoswarm_protocol::Outcome::Pruned(pruned) => format!(
                "{role:<16} {:>20} {:>10} {:>8.1} stopped after {} of {} steps: loss {:.3}, bound {:.3}",
                run.seed,
                pruned.tokens,
                pruned.training_seconds,
                pruned.step,
                pruned.steps,
                pruned.loss,
                pruned.bound
            ),
        };
        let _ = writeln!(out, "{text}");
    }
    out
}

/// Returns what a running node is doing: the live view's frame, the last verdicts above it and the swarm
/// below.
pub fn status(snapshot: &Snapshot, width: usize) -> String {
    let mut out = String::new();
    for (number, patch, verdict) in &snapshot.recent {
        let line = sentences::verdict_line(&format!("#{number} {patch}"), verdict);
        let _ = writeln!(out, "{}", words::fit(&line, width));
    }
    if !snapshot.recent.is_empty() {
        out.push('\n');
    }
    // Nothing is redrawn in place, so the height does not matter.
    let look = Look { width, height: usize::MAX, colour: Colour::Off };
    for line in frame::render(snapshot, look).iter().filter(|line| !line.is_empty()) {
        let _ = writeln!(out, "{line}");
    }
    if let Some(network) = &snapshot.network {
        let of_swarm = snapshot.swarm.clone().unwrap_or_default();
        out.push('\n');
        out.push_str(&swarm::page(network, &of_swarm, Some(&snapshot.arena)));
    }
    out
}

/// What `status` says of a home while no node runs on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeAtRest {
    /// Always false: tells programs that this is no snapshot of a running node.
    pub running: bool,
    /// Experiments in the journal, of all arenas, baselines included.
    pub experiments: u32,
    /// Those that were kept.
    pub keeps: u32,
    /// Those that crashed.
    pub crashes: u32,
    /// The newest experiments, newest last.
    pub recent: Vec<ExperimentRow>,
}

impl HomeAtRest {
    /// Counts a journal that is sorted oldest first, and lists its `recent` newest.
    pub fn of(experiments: &[Experiment], recent: usize) -> Self {
        let count = |name: &str| experiments.iter().filter(|e| e.verdict.name() == name).count() as u32;
        let first = experiments.len().saturating_sub(recent);
        Self {
            running: false,
            experiments: experiments.len() as u32,
            keeps: count("keep"),
            crashes: count("crash"),
            recent: experiments[first..].iter().map(ExperimentRow::of).collect(),
        }
    }
}

/// Returns what a home holds while no node runs on it, with ages as seen at `now`, seconds since 1970.
pub fn at_rest(state: &HomeAtRest, now: u64, width: usize) -> String {
    let mut out = format!(
        "no node is running on this home; it holds {}, {} kept, {} crashed\n",
        words::plural(state.experiments, "experiment"),
        state.keeps,
        state.crashes
    );
    if !state.recent.is_empty() {
        out.push('\n');
        out.push_str(&table(&state.recent, now, width));
    }
    out
}

#[cfg(test)]
#[path = "lists_tests.rs"]
pub(crate) mod tests;
