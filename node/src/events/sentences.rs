//! What is said of experiments: verdicts, crashes and the summary of a session. Pure functions to text.
//!
//! Numbers, durations and columns are printed by [`crate::base::words`].

use std::fmt::Write;

use autoswarm_protocol::{CrashClass, Estimate, Experiment, Verdict};

use crate::{base::words, events::SessionSummary};

/// Ruled-out changes that a summary names one by one.
const RULED_OUT_SHOWN: usize = 5;

/// Returns what a verdict rests on: `Δ −0.0213 ± 0.0031  (3 pairs)`, `no gain`, `out of memory: …`.
pub fn findings(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Baseline => String::new(),
        Verdict::Keep { estimate, audit: None } => estimate.to_string(),
        Verdict::Keep { estimate, audit: Some(audit) } => {
            format!("{estimate}  audit {}", short_estimate(audit))
        }
        Verdict::Discard { reason, estimate: Some(estimate), .. } => format!("{estimate}  {reason}"),
        Verdict::Discard { reason, screened: Some(delta), .. } => {
            format!("Δ about {}  {reason}", words::signed(*delta))
        }
        Verdict::Discard { reason, .. } => reason.to_string(),
        Verdict::Crash { class, message } => crash(*class, message),
        Verdict::Reproduction { comparison, found: Ok(estimate) } => {
            format!("{estimate}  {}", comparison.name())
        }
        Verdict::Reproduction { comparison, found: Err(class) } => format!("{class}  {}", comparison.name()),
    }
}

/// Returns a crash's class with what was seen: `out of memory: 12 GB asked for, 8 GB there`.
pub fn crash(class: CrashClass, message: &str) -> String {
    let message = words::clean(message);
    if message.is_empty() { class.to_string() } else { format!("{class}: {message}") }
}

/// Returns an estimate without its number of pairs: `−0.0213 ± 0.0031`.
pub fn short_estimate(estimate: &Estimate) -> String {
    format!("{} ± {:.4}", words::signed(estimate.delta), estimate.standard_error)
}

/// Returns what an experiment changed.
pub fn change(experiment: &Experiment) -> String {
    match experiment.verdict {
        Verdict::Baseline => "the calibrated start".to_owned(),
        _ => experiment.hypothesis.patch.to_string(),
    }
}

/// Returns the same for a single line, where no column has the value of a baseline.
pub fn headline(experiment: &Experiment) -> String {
    match (&experiment.verdict, experiment.mean_validation()) {
        (Verdict::Baseline, Some(value)) => format!("the calibrated start: {value:.4} bpb"),
        _ => change(experiment),
    }
}

/// Returns a verdict in one line: `keep     batch_tokens 8192 → 4096  Δ −0.0213 ± 0.0031  (3 pairs)`.
pub fn verdict_line(patch: &str, verdict: &Verdict) -> String {
    let mut line = format!("{:<8} {}", verdict.name(), words::clean(patch));
    let findings = findings(verdict);
    if !findings.is_empty() {
        line.push_str("  ");
        line.push_str(&findings);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Returns what a session found, one line each; without a keep, what was learned instead.
pub fn summary(summary: &SessionSummary) -> Vec<String> {
    let mut lines = vec![format!(
        "done       after {}: {}, {} kept, {} crashed",
        words::duration(summary.hours * 3600.0),
        words::plural(summary.experiments, "experiment"),
        summary.keeps,
        summary.crashes
    )];
    let mut baseline = String::new();
    if let Some(value) = summary.baseline {
        let _ = write!(baseline, " of {value:.4} bpb");
    }
    if let Some(gain) = &summary.gain {
        lines.push(format!("gain       {gain} over the baseline{baseline}"));
        lines.push(format!("           {}", words::clean(&summary.patch)));
    } else if summary.experiments > 0 {
        lines
            .push(format!("no keep    is a result too: nothing tried beats the baseline{baseline} for sure"));
    } else if summary.baseline.is_some() {
        lines.push(format!("baseline  {}", baseline.trim_start_matches(" of")));
    }
    if !summary.ruled_out.is_empty() {
        let shown: Vec<String> =
            summary.ruled_out.iter().take(RULED_OUT_SHOWN).map(|p| words::clean(p)).collect();
        let more = summary.ruled_out.len().saturating_sub(RULED_OUT_SHOWN);
        let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
        lines.push(format!("ruled out  {}{rest}", shown.join("; ")));
    }
    if let Some(effect) = summary.resolvable_per_hour {
        lines.push(format!("resolves   an effect of {effect:.4} bpb with an hour of training"));
    }
    let left: Vec<String> = summary
        .untried
        .iter()
        .filter(|(_, knobs)| *knobs > 0)
        .map(|(group, knobs)| format!("{} of {group}", words::plural(*knobs, "knob")))
        .collect();
    if !left.is_empty() {
        lines.push(format!("untried    {}", left.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::experiment::DiscardReason;

    use super::*;

    #[track_caller]
    fn check(verdict: &Verdict, expected: &str) {
        assert_eq!(verdict_line("depth 4 → 3", verdict), expected);
    }

    #[test]
    fn each_verdict_has_one_line() {
        let estimate = Estimate { delta: -0.0213, standard_error: 0.0031, pairs: 3 };
        let audit = Estimate { delta: -0.0199, standard_error: 0.0040, pairs: 3 };
        check(&Verdict::Baseline, "baseline depth 4 → 3");
        check(
            &Verdict::Keep { estimate, audit: None },
            "keep     depth 4 → 3  Δ −0.0213 ± 0.0031  (3 pairs)",
        );
        check(
            &Verdict::Keep { estimate, audit: Some(audit) },
            "keep     depth 4 → 3  Δ −0.0213 ± 0.0031  (3 pairs)  audit −0.0199 ± 0.0040",
        );
        let discard = |reason, screened, estimate| Verdict::Discard { reason, screened, estimate };
        check(
            &discard(DiscardReason::NoGain, Some(0.1), Some(estimate)),
            "discard  depth 4 → 3  Δ −0.0213 ± 0.0031  (3 pairs)  no gain",
        );
        check(
            &discard(DiscardReason::ClearLoser, Some(0.0412), None),
            "discard  depth 4 → 3  Δ about +0.0412  clear loser",
        );
        check(&discard(DiscardReason::NoGain, None, None), "discard  depth 4 → 3  no gain");
        let crashed =
            |message: &str| Verdict::Crash { class: CrashClass::OutOfMemory, message: message.to_owned() };
        check(&crashed(""), "crash    depth 4 → 3  out of memory");
        check(&crashed("9 GB\u{1b}[2J\nasked"), "crash    depth 4 → 3  out of memory: 9 GB [2J asked");
    }
}
