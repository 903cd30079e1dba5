//! The report's page, as Markdown. The chart that it links to is drawn in `chart`.

use std::fmt::Write;

use autoswarm_protocol::{Estimate, Experiment, Verdict};

use super::{Reading, Story};
use crate::{base::words, events::sentences};

/// Returns the page of a story with what was read of the locked split. `readings` counts all readings in this
/// arena, and `chart` is the link to the chart.
pub fn markdown(story: &Story, reading: Option<&Reading>, readings: usize, chart: &str) -> String {
    let mut out = String::new();
    let experiments = &story.experiments[1..];
    let count =
        |name: &str| experiments.iter().filter(|experiment| experiment.verdict.name() == name).count();
    let runs: usize = story.experiments.iter().map(|experiment| experiment.runs.len()).sum();
    let last = story.experiments.iter().map(|experiment| experiment.finished_at).max().unwrap_or(0);
    let seconds = last.saturating_sub(story.baseline().started_at) as f64;
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{} in {}: {} kept, {} discarded, {} crashed; {} runs, the baseline's included. Arena {}.\n",
        words::plural(experiments.len() as u32, "experiment"),
        words::duration(seconds),
        count("keep"),
        count("discard"),
        count("crash"),
        runs,
        story.arena.fmt_short()
    );
    if let Some(value) = story.baseline().mean_validation() {
        let _ = writeln!(out, "- baseline: {value:.4} bpb, the calibrated start");
    }
    match (story.chosen(), story.gain()) {
        (Some(chosen), Some(gain)) => {
            let patch = autoswarm_protocol::Patch::between(&story.baseline().config, &chosen.config);
            let _ = writeln!(out, "- chosen: {}", words::clean(&patch.to_string()));
            let _ = writeln!(out, "- sum of the kept gains: {gain}, each from its own fresh pairs");
        }
        _ => out.push_str("- nothing was kept\n"),
    }
    if let Some(reading) = reading {
        let _ = writeln!(
            out,
            "\nThe chosen config against the baseline, on fresh pairs that decided nothing (read {}{}):\n",
            words::timestamp(reading.read_at),
            if readings > 1 {
                format!("; the locked split was read {readings} times")
            } else {
                String::new()
            }
        );
        out.push_str("| split | what it is for | Δ ± se, bpb | pairs |\n|---|---|---|---|\n");
        for (name, meaning, estimate) in [
            ("validation", "decides", reading.validation),
            ("audit", "challenges", reading.audit),
            ("locked", "is read only here", reading.locked),
        ] {
            let _ = writeln!(out, "| {name} | {meaning} | {} | {} |", cell(&estimate), estimate.pairs);
        }
        let _ = writeln!(out, "\nThe chosen config reaches {:.4} bpb on locked.", reading.level);
    }
    let _ = writeln!(out, "\n![bits per byte over time]({chart})\n");
    out.push_str(
        "Green is the chosen config with its standard error, a grey dot a discarded experiment \
         (at the upper edge: worse than fits), a cross a crash.\n\n",
    );
    out.push_str(
        "| # | verdict | change | Δ ± se, bpb | audit | pairs | runs |\n|---|---|---|---|---|---|---|\n",
    );
    for experiment in &story.experiments {
        out.push_str(&row(experiment));
    }
    out.push_str(
        "\nΔ is child − parent; negative is better. \
         A keep's comes from fresh pairs alone, a discard's without an error from screening.\n",
    );
    out
}

/// Returns an experiment's row of the table.
fn row(experiment: &Experiment) -> String {
    let (delta, audit, pairs) = match &experiment.verdict {
        Verdict::Baseline => {
            let value = experiment.mean_validation();
            (value.map_or_else(String::new, |value| format!("{value:.4}")), String::new(), 0)
        }
        Verdict::Keep { estimate, audit } => {
            (cell(estimate), audit.as_ref().map_or_else(String::new, cell), estimate.pairs)
        }
        Verdict::Discard { estimate: Some(estimate), .. }
        | Verdict::Reproduction { found: Ok(estimate), .. } => {
            (cell(estimate), String::new(), estimate.pairs)
        }
        Verdict::Discard { screened, .. } => {
            (screened.map_or_else(String::new, words::signed), String::new(), 0)
        }
        Verdict::Crash { class, .. } | Verdict::Reproduction { found: Err(class), .. } => {
            (class.to_string(), String::new(), 0)
        }
    };
    let change = words::clean(&sentences::change(experiment)).replace('|', "\\|");
    let pairs = if pairs == 0 { String::new() } else { pairs.to_string() };
    format!(
        "| {} | {} | {change} | {delta} | {audit} | {pairs} | {} |\n",
        experiment.number,
        experiment.verdict.name(),
        experiment.runs.len()
    )
}

fn cell(estimate: &Estimate) -> String {
    sentences::short_estimate(estimate)
}
