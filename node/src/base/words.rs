//! Formats numbers, times and table columns for people. Pure functions that return text.

use autoswarm_protocol::Budget;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::base::text;

/// Most characters of a text from elsewhere in a line; the protocol limits a hypothesis to 280 bytes.
const MAX_TEXT: usize = 300;
/// Returns text that may come from elsewhere as one harmless line.
pub fn clean(text: &str) -> String {
    text::one_line(text, MAX_TEXT)
}

/// Formats a count with three significant digits: `812`, `8.12k`, `81.2k`, `1.63M`.
pub fn count(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "?".to_owned();
    }
    // From 0.9995 of a unit on, three digits would round up to a whole one.
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

/// Formats a time to wait as a clock: `0:07`, `12:40`, `3:05:00`.
pub fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// Formats a length of time in words: `8.4 s`, `140 s`, `12 min`, `3.5 h`, `2 days`.
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

/// Formats a budget: `class 3, 140 s a run`, or `20 s a run` where it is fixed. `seconds` is what a class
/// takes here.
pub fn budget(budget: Budget, seconds: f64) -> String {
    match budget {
        Budget::Class(class) => format!("class {class}, {} a run", duration(seconds)),
        Budget::Milliseconds(milliseconds) => format!("{} a run", duration(milliseconds as f64 / 1000.0)),
    }
}

/// Formats the time of day in UTC, such as `12:03:04Z`, of a time in seconds since 1970.
pub fn time_of_day(now: u64) -> String {
    let day = now % 86_400;
    format!("{:02}:{:02}:{:02}Z", day / 3600, day / 60 % 60, day % 60)
}

/// Formats a time in seconds since 1970 as `2026-11-21T12:03:04Z`.
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

/// Formats a difference in bits per byte with its sign: `−0.0213`, `+0.0040`.
pub fn signed(delta: f64) -> String {
    let sign = if delta < 0.0 { '−' } else { '+' };
    format!("{sign}{:.4}", delta.abs())
}

/// Formats how many of a thing there are: `1 pair`, `2 pairs`.
pub fn plural(n: u32, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
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

/// Formats rows of cells as a table for a terminal of `width` columns. The column at index `flexible` shrinks
/// to what the others leave, but not below 16, so that two rows can still be told apart.
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

    #[test]
    fn cuts_count_columns_and_not_bytes() {
        assert_eq!(fit("Δ −0.0213", 9), "Δ −0.0213");
        assert_eq!(fit("Δ −0.0213", 6), "Δ −0.…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(pad("é", 3), "é  ");
        assert_eq!(fit("abc", 0), "");
    }
}
