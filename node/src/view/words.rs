//! The wording shared by all views: numbers, durations, verdicts and the summary. Pure functions to text.

use std::fmt::Write;

use autoswarm_protocol::{Budget, CrashClass, Estimate, Experiment, Verdict};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{base::text, progress::Summary};

/// Longest text from elsewhere in one line, characters; the protocol's own limit on a hypothesis is 280 bytes.
const MAX_TEXT: usize = 300;
/// Changes that a summary names one by one.
const RULED_OUT_SHOWN: usize = 5;

/// Returns text that may come from elsewhere as one harmless line.
pub fn clean(text: &str) -> String {
    text::one_line(text, MAX_TEXT)
}

/// Prints a count with three significant digits: `812`, `8.12k`, `81.2k`, `1.63M`.
pub fn count(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "?".to_owned();
    }
    let (scaled, unit) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(size, _)| value >= size * 0.9995)
        .map_or((value, ""), |(size, unit)| (value / size, unit));
    let decimals = match (unit, scaled) {
        ("", _) => 0,
        (_, s) if s < 9.995 => 2,
        (_, s) if s < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// Prints a time to wait as a clock: `0:07`, `12:40`, `3:05:00`.
pub fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// Prints a length of time in words: `8.4 s`, `140 s`, `12 min`, `3.5 h`, `2 days`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => "?".to_owned(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 299.5 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// Prints a budget: `class 3, 140 s a run`, or `20 s a run` where it is fixed.
pub fn budget(budget: Budget, seconds: f64) -> String {
    match budget {
        Budget::Class(class) => format!("class {class}, {} a run", duration(seconds)),
        Budget::Milliseconds(milliseconds) => format!("{} a run", duration(milliseconds as f64 / 1000.0)),
    }
}

/// Prints the time of day in UTC, `12:03:04Z`, of a time in seconds since 1970.
pub fn time_of_day(now: u64) -> String {
    let day = now % 86_400;
    format!("{:02}:{:02}:{:02}Z", day / 3600, day / 60 % 60, day % 60)
}

/// Prints a time in seconds since 1970 as `2026-11-21T12:03:04Z`.
pub fn timestamp(now: u64) -> String {
    // Howard Hinnant's days-to-civil algorithm: years begin in March, so that the leap day is the last one.
    let days = (now / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{}", time_of_day(now))
}

/// Prints a difference in bits per byte with its sign: `−0.0213`, `+0.0040`.
pub fn signed(delta: f64) -> String {
    let sign = if delta < 0.0 { '−' } else { '+' };
    format!("{sign}{:.4}", delta.abs())
}

/// Prints how many of a thing there are: `1 pair`, `2 pairs`.
pub fn plural(n: u32, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

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
            format!("Δ about {}  {reason}", signed(*delta))
        }
        Verdict::Discard { reason, .. } => reason.to_string(),
        Verdict::Crash { class, message } => crash(*class, message),
        Verdict::Rerun { comparison, found: Ok(estimate) } => format!("{estimate}  {}", comparison.name()),
        Verdict::Rerun { comparison, found: Err(class) } => format!("{class}  {}", comparison.name()),
    }
}

/// Prints a crash with what was seen: `out of memory: 12 GB asked for, 8 GB there`.
pub fn crash(class: CrashClass, message: &str) -> String {
    let message = clean(message);
    if message.is_empty() { class.to_string() } else { format!("{class}: {message}") }
}

/// Prints an estimate without its pairs: `−0.0213 ± 0.0031`.
pub fn short_estimate(estimate: &Estimate) -> String {
    format!("{} ± {:.4}", signed(estimate.delta), estimate.standard_error)
}

/// Says what an experiment changed.
pub fn change(experiment: &Experiment) -> String {
    match experiment.verdict {
        Verdict::Baseline => "the calibrated start".to_owned(),
        _ => experiment.hypothesis.patch.to_string(),
    }
}

/// The same for news, where a baseline's level stands in no column of its own.
pub fn headline(experiment: &Experiment) -> String {
    match (&experiment.verdict, experiment.mean_validation()) {
        (Verdict::Baseline, Some(value)) => format!("the calibrated start: {value:.4} bpb"),
        _ => change(experiment),
    }
}

/// Prints a verdict in one line: `keep     batch_tokens 8192 → 4096  Δ −0.0213 ± 0.0031  (3 pairs)`.
pub fn verdict_line(patch: &str, verdict: &Verdict) -> String {
    let mut line = format!("{:<8} {}", verdict.name(), clean(patch));
    let findings = findings(verdict);
    if !findings.is_empty() {
        line.push_str("  ");
        line.push_str(&findings);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Prints what a session found, one line each; without a keep, what was learned instead.
pub fn summary(summary: &Summary) -> Vec<String> {
    let mut lines = vec![format!(
        "done       after {}: {}, {} kept, {} crashed",
        duration(summary.hours * 3600.0),
        plural(summary.experiments, "experiment"),
        summary.keeps,
        summary.crashes
    )];
    let mut baseline = String::new();
    if let Some(value) = summary.baseline {
        let _ = write!(baseline, " of {value:.4} bpb");
    }
    if let Some(gain) = &summary.gain {
        lines.push(format!("gain       {gain} over the baseline{baseline}"));
        lines.push(format!("           {}", clean(&summary.patch)));
    } else if summary.experiments > 0 {
        lines
            .push(format!("no keep    is a result too: nothing tried beats the baseline{baseline} for sure"));
    } else if summary.baseline.is_some() {
        lines.push(format!("baseline  {}", baseline.trim_start_matches(" of")));
    }
    if !summary.ruled_out.is_empty() {
        let shown: Vec<String> = summary.ruled_out.iter().take(RULED_OUT_SHOWN).map(|p| clean(p)).collect();
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
        .map(|(group, knobs)| format!("{} of {group}", plural(*knobs, "knob")))
        .collect();
    if !left.is_empty() {
        lines.push(format!("untried    {}", left.join(", ")));
    }
    lines
}

/// Cuts `line` to `width` columns of a terminal, marking a cut with `…`.
pub fn fit(line: &str, width: usize) -> String {
    if line.width() <= width {
        return line.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in line.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        used += columns;
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    if width > 0 {
        out.push('…');
    }
    out
}

/// Pads `text` with spaces to `width` columns, or cuts it to them.
pub fn pad(text: &str, width: usize) -> String {
    let mut out = fit(text, width);
    let missing = width.saturating_sub(out.width());
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// Prints rows of cells as a table for a terminal of `width` columns; one column takes what the others leave, but never
/// less than lets two rows be told apart.
pub fn columns<const N: usize>(rows: &[[String; N]], flexible: usize, width: usize) -> String {
    let mut widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].width()).max().unwrap_or(0)).collect();
    let others: usize = widths.iter().sum::<usize>() - widths[flexible] + 2 * (N - 1);
    widths[flexible] = widths[flexible].min(width.saturating_sub(others).max(16));
    let mut out = String::new();
    for row in rows {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &columns)| pad(cell, columns)).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::experiment::DiscardReason;

    use super::*;

    #[test]
    fn counts_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (999.9, "1.00k"),
            (8_120.0, "8.12k"),
            (81_234.0, "81.2k"),
            (812_345.0, "812k"),
            (999_700.0, "1.00M"),
            (1_630_000.0, "1.63M"),
            (f64::NAN, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn times_are_read_at_a_glance() {
        for (seconds, text) in [(6.6, "0:07"), (760.0, "12:40"), (11_100.0, "3:05:00"), (-1.0, "0:00")] {
            assert_eq!(clock(seconds), text);
        }
        for (seconds, text) in
            [(8.44, "8.4 s"), (140.0, "140 s"), (720.0, "12 min"), (12_600.0, "3.5 h"), (172_800.0, "2 days")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn timestamps_know_the_calendar() {
        for (now, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_219_384, "2026-11-21T00:03:04Z"),
        ] {
            assert_eq!(timestamp(now), text);
        }
    }

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

    #[test]
    fn cuts_count_columns_and_not_bytes() {
        assert_eq!(fit("Δ −0.0213", 9), "Δ −0.0213");
        assert_eq!(fit("Δ −0.0213", 6), "Δ −0.…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(pad("é", 3), "é  ");
        assert_eq!(fit("abc", 0), "");
    }
}
