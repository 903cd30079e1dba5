//! Discoveries for other programs: a config to train from, and a table for notebooks.

use std::fmt::Write;

use autoswarm_protocol::Estimate;

use super::inspect::{Details, DiscoveryRow};
use crate::base::words;

/// The names of the table's columns, in order.
const COLUMNS: [&str; 23] = [
    "id",
    "author",
    "own",
    "made_at",
    "arena",
    "budget",
    "patch",
    "delta",
    "se",
    "pairs",
    "audit_delta",
    "audit_se",
    "val_bpb",
    "tokens",
    "parent_tokens",
    "seconds",
    "status",
    "confirmations",
    "reproductions",
    "helps",
    "re_runs",
    "tried",
    "surety",
];

/// Returns a discovery's config as TOML that `trainer train --config` reads; comments above it say where it
/// comes from.
pub fn toml(details: &Details) -> String {
    let discovery = &details.discovery;
    format!(
        "# {} by {}\n# {}: {} ({})\n{}",
        details.id,
        details.author,
        words::clean(&discovery.patch.to_string()),
        discovery.estimate,
        details.status.name(),
        discovery.config.to_toml()
    )
}

/// Returns rows as a table with a header, tab-separated. Differences are in bits per byte, times in UTC; what
/// is unknown is empty.
pub fn tsv(rows: &[DiscoveryRow]) -> String {
    let mut out = COLUMNS.join("\t");
    out.push('\n');
    for row in rows {
        let Estimate { delta, standard_error, pairs } = row.estimate;
        let audit =
            |value: fn(&Estimate) -> f64| row.audit.as_ref().map(value).map_or_else(String::new, number);
        let cells: [String; COLUMNS.len()] = [
            row.id.clone(),
            row.author.clone(),
            row.own.to_string(),
            words::timestamp(row.made_at),
            row.arena.clone(),
            row.budget.to_string(),
            words::clean(&row.patch.to_string()),
            number(delta),
            number(standard_error),
            pairs.to_string(),
            audit(|estimate| estimate.delta),
            audit(|estimate| estimate.standard_error),
            number(row.level.get()),
            row.tokens.0.to_string(),
            row.tokens.1.to_string(),
            format!("{:.1}", row.seconds),
            row.status.name().to_owned(),
            row.confirmations.to_string(),
            row.reproductions.to_string(),
            row.helps.to_string(),
            row.attestations.to_string(),
            row.tried.to_string(),
            format!("{:.2}", -delta / standard_error.max(1e-9)),
        ];
        let _ = writeln!(out, "{}", cells.join("\t")); // writing to a string cannot fail
    }
    out
}

/// Formats a number with six decimals, as in the reference's `results.tsv`.
fn number(value: f64) -> String {
    format!("{value:.6}")
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::TrainConfig;

    use super::*;
    use crate::swarm::discoveries::{DiscoveryFilter, inspect::tests::sample};

    #[test]
    fn the_toml_is_the_config_and_its_comments_are_one_line_each() {
        let (discoveries, ids) = sample();
        let details = discoveries.find(&ids[0]).expect("there");
        let text = toml(&details);
        assert_eq!(TrainConfig::from_toml(&text).expect("valid"), details.discovery.config);
        assert!(text.starts_with(&format!("# {} by ", details.id)), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 3, "{text}");
    }

    #[test]
    fn every_line_of_the_table_has_every_column() {
        let (discoveries, _) = sample();
        let rows = discoveries.list(&DiscoveryFilter::default()).rows;
        let text = tsv(&rows);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines.len(), rows.len() + 1);
        assert!(lines.iter().all(|cells| cells.len() == COLUMNS.len()), "{text}");
        let cell = |row: usize, name: &str| {
            lines[row + 1][COLUMNS.iter().position(|column| *column == name).expect("a column")]
        };
        assert_eq!((cell(0, "id"), cell(0, "delta")), (rows[0].id.as_str(), "-0.250400"));
        assert_eq!(
            ["status", "confirmations", "reproductions", "helps", "re_runs"].map(|name| cell(0, name)),
            ["seconded", "1", "1", "1", "3"]
        );
        assert_eq!((cell(0, "audit_delta"), cell(1, "audit_delta")), ("", "-0.019900"));
    }
}
