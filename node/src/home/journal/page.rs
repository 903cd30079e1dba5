//! The files and the message of an experiment's commit.

use std::fmt::Write;

use autoswarm_protocol::{Estimate, Experiment, Outcome, Pruned, Run, Verdict, outcome::CurvePoint};

use crate::base::text::one_line;

/// Most characters of a commit's subject.
const SUBJECT: usize = 200;

/// Most characters of a trailer that quotes somebody.
const TRAILER: usize = 200;

/// Returns the commit's message: the hypothesis, the patch, and trailers. No text from elsewhere can forge a
/// trailer: each is made one line that follows a name or stands before the last paragraph.
pub(super) fn message(experiment: &Experiment) -> String {
    let because = one_line(&experiment.hypothesis.because, SUBJECT);
    let subject = if because.is_empty() { "no reason given" } else { &because };
    let patch = one_line(&experiment.hypothesis.patch.to_string(), 2000);
    let mut text = format!("{subject}\n\n");
    if !experiment.hypothesis.patch.is_empty() {
        let _ = write!(text, "Patch: {patch}\n\n");
    }
    let mut trailer = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}: {}", one_line(value, TRAILER));
    };
    if let Some(value) = experiment.mean_validation() {
        trailer("Val-Bpb", &format!("{value:.6}"));
    }
    if let Some(estimate) = estimate(&experiment.verdict) {
        trailer("Delta", &estimate.to_string().replace("Δ ", ""));
    }
    trailer("Arena", &experiment.arena.to_string());
    trailer("Verdict", &verdict(&experiment.verdict));
    for source in &experiment.hypothesis.inspired_by {
        trailer("Inspired-By", source);
    }
    text
}

fn estimate(verdict: &Verdict) -> Option<&Estimate> {
    match verdict {
        Verdict::Keep { estimate, .. } => Some(estimate),
        Verdict::Discard { estimate, .. } => estimate.as_ref(),
        Verdict::Reproduction { found, .. } => found.as_ref().ok(),
        Verdict::Baseline | Verdict::Crash { .. } => None,
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Baseline | Verdict::Keep { .. } => verdict.name().to_owned(),
        Verdict::Discard { reason, .. } => format!("discard ({reason})"),
        Verdict::Crash { class, .. } => format!("crash ({class})"),
        Verdict::Reproduction { comparison, .. } => format!("re-run ({})", comparison.name()),
    }
}

/// Returns an experiment's report for people, as Markdown.
pub(super) fn report(experiment: &Experiment) -> String {
    let hypothesis = &experiment.hypothesis;
    let mut text = format!("# Experiment {}: {}\n\n", experiment.number, verdict(&experiment.verdict));
    let _ = writeln!(text, "{} ({})\n", one_line(&hypothesis.because, 400), hypothesis.proposer.name());
    let _ = writeln!(text, "- patch: {}", one_line(&hypothesis.patch.to_string(), 2000));
    let _ = writeln!(text, "- config: {}", experiment.config.hash());
    if let Some(parent) = experiment.parent {
        let _ = writeln!(text, "- parent: {parent}");
    }
    match &experiment.verdict {
        Verdict::Keep { estimate, audit } => {
            let _ = writeln!(text, "- validation: {estimate}");
            if let Some(audit) = audit {
                let _ = writeln!(text, "- audit: {audit}");
            }
        }
        Verdict::Discard { estimate: Some(estimate), .. }
        | Verdict::Reproduction { found: Ok(estimate), .. } => {
            let _ = writeln!(text, "- validation: {estimate}");
        }
        Verdict::Reproduction { found: Err(class), .. } => {
            let _ = writeln!(text, "- seen: {class}");
        }
        Verdict::Crash { message, .. } => {
            let _ = writeln!(text, "- seen: {}", one_line(message, 400));
        }
        Verdict::Baseline | Verdict::Discard { .. } => {}
    }
    text.push_str(
        "\n| run | role | seed | tokens | seconds | bits per byte | memory GB |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (index, run) in experiment.runs.iter().enumerate() {
        text.push_str(&row(index, run));
    }
    text
}

fn row(index: usize, run: &Run) -> String {
    let start = format!("| {index} | {} | {}", role(run), run.seed);
    match &run.outcome {
        Outcome::Finished(report) => format!(
            "{start} | {} | {:.1} | {:.4} | {:.1} |\n",
            report.tokens,
            report.training_seconds,
            report.validation,
            report.peak_memory_bytes as f64 / GIBIBYTE
        ),
        Outcome::Crashed(crash) => format!("{start} | | {:.1} | {} | |\n", crash.seconds, crash.class),
        Outcome::Pruned(pruned) => {
            let Pruned { step, steps, .. } = pruned;
            format!(
                "{start} | | {:.1} | stopped after {step} of {steps} steps | |\n",
                pruned.training_seconds
            )
        }
    }
}

fn role(run: &Run) -> String {
    // The same word as in `result.json`.
    serde_json::to_value(run.role)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

const GIBIBYTE: f64 = (1u64 << 30) as f64;

/// The first line of [`curves`].
const CURVE_HEADER: &str = "run\tstep\ttokens\tloss\n";

/// Returns the loss curves of all runs as a table. Numbers are printed so that reading gives the same bits.
pub(super) fn curves(experiment: &Experiment) -> String {
    let mut text = CURVE_HEADER.to_owned();
    for (index, run) in experiment.runs.iter().enumerate() {
        for point in run.outcome.report().map_or(&[][..], |report| &report.curve) {
            let _ = writeln!(text, "{index}\t{}\t{}\t{}", point.step, point.tokens, point.loss);
        }
    }
    text
}

/// Takes the curves out of an experiment; `curve.tsv` keeps them.
pub(super) fn strip_curves(experiment: &mut Experiment) {
    for run in &mut experiment.runs {
        if let Outcome::Finished(report) = &mut run.outcome {
            report.curve.clear();
        }
    }
}

/// Puts the curves of `table` back. Lines that belong to no curve are left out: curves decide nothing.
pub(super) fn fill_curves(experiment: &mut Experiment, table: &str) {
    for line in table.lines().skip(1) {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let point = (|| {
            let index: usize = next()?.parse().ok()?;
            let (step, tokens) = (next()?.parse().ok()?, next()?.parse().ok()?);
            Some((index, CurvePoint { step, tokens, loss: next()?.parse().ok()? }))
        })();
        if let Some((index, point)) = point
            && let Some(Outcome::Finished(report)) =
                experiment.runs.get_mut(index).map(|run| &mut run.outcome)
        {
            report.curve.push(point);
        }
    }
}

/// The first line of `results.tsv`, as the reference's notebooks expect it.
pub(super) const TABLE_HEADER: &str = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n";

/// Returns an experiment's line of `results.tsv`. A crash prints zeros, because readers of that file expect
/// them.
pub(super) fn table_row(experiment: &Experiment, commit: &str) -> String {
    let wanted = experiment.config.hash();
    let reports = experiment.runs.iter().filter(|run| run.requested == wanted);
    let memory = reports.filter_map(|run| run.outcome.report()).map(|report| report.peak_memory_bytes).max();
    let (status, crashed) = match experiment.verdict {
        Verdict::Baseline | Verdict::Keep { .. } => ("keep", false),
        Verdict::Crash { .. } | Verdict::Reproduction { found: Err(_), .. } => ("crash", true),
        // The reference has no word for a re-run; it is not kept.
        Verdict::Discard { .. } | Verdict::Reproduction { .. } => ("discard", false),
    };
    let value = experiment.mean_validation().filter(|_| !crashed).unwrap_or(0.0);
    let memory = memory.filter(|_| !crashed).unwrap_or(0) as f64 / GIBIBYTE;
    let what = match experiment.verdict {
        Verdict::Baseline => "baseline".to_owned(),
        _ => experiment.hypothesis.patch.to_string(),
    };
    format!(
        "{}\t{value:.6}\t{memory:.1}\t{status}\t{}\n",
        &commit[..commit.len().min(7)],
        one_line(&what, 300)
    )
}
