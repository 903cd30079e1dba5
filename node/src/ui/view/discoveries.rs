//! What `node discoveries` prints: a list, everything about one, and how a config differs from another. Pure.

use std::fmt::Write;

use autoswarm_protocol::{Budget, Knob, KnobGroup, Patch, record::Hardware};

use super::look::{self, Colour};
use crate::{
    base::words,
    events::sentences,
    swarm::discoveries::{AttestationRow, Details, DiscoveryRow, Kin, KnownRelative, Says},
};

/// Returns rows as a table for a terminal of `width` columns, with ages as seen at `now`, seconds since 1970.
pub fn table(rows: &[DiscoveryRow], now: u64, width: usize) -> String {
    if rows.is_empty() {
        return "no discoveries yet\n".to_owned();
    }
    let header = ["id", "by", "change", "Δ ± se, bpb", "class", "status", "agree", "helps", "age"];
    let mut cells = vec![header.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let tried = if row.tried { ", tried" } else { "" };
        [
            row.id.chars().take(8).collect(),
            by(&row.author, row.own),
            words::clean(&row.patch.to_string()),
            sentences::short_estimate(&row.estimate),
            class(row.budget),
            format!("{}{tried}", row.status.name()),
            of(row.confirmations, row.reproductions),
            of(row.helps, row.attestations.saturating_sub(row.reproductions)),
            words::duration(now.saturating_sub(row.made_at) as f64),
        ]
    }));
    words::columns(&cells, 2, width)
}

/// Returns a budget as a column has it: `3` is a class, `20s` a fixed time.
pub fn class(budget: Budget) -> String {
    match budget {
        Budget::Class(class) => class.to_string(),
        fixed @ Budget::Milliseconds(_) => fixed.to_string(),
    }
}

/// Returns a count out of all, such as `2 of 3`; empty where there are none at all.
fn of(some: u32, all: u32) -> String {
    if all == 0 { String::new() } else { format!("{some} of {all}") }
}

/// Names the author of a discovery or a re-run.
fn by(author: &str, own: bool) -> String {
    if own { "me".to_owned() } else { author.to_owned() }
}

fn hardware(hardware: &Hardware) -> String {
    let Hardware { device, threads, slots, tokens_per_second } = hardware;
    let (slots, threads) =
        (words::plural(u32::from(*slots), "slot"), words::plural(u32::from(*threads), "thread"));
    format!("{}, {slots} of {threads}, {} tokens/s", words::clean(device), words::count(*tokens_per_second))
}

/// Returns everything about one discovery as a page.
pub fn show(details: &Details) -> String {
    let discovery = &details.discovery;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:<11}{text}");
    };
    line("discovery", &details.id);
    let me = if details.own { " (me)" } else { "" };
    line("by", &format!("{}{me}", details.author));
    line("made", &words::timestamp(details.made_at));
    line("change", &words::clean(&discovery.patch.to_string()));
    line("because", &words::clean(&discovery.because));
    line("claim", &format!("{}, to {:.4} bpb", discovery.estimate, discovery.level.get()));
    if let Some(audit) = &discovery.audit {
        line("audit", &audit.to_string());
    }
    line("status", details.status.name());
    line("on", &hardware(&discovery.hardware));
    line(
        "budget",
        &format!("{}, arena {}", words::budget(discovery.budget, discovery.seconds), discovery.arena),
    );
    let (with, without) = discovery.tokens;
    line(
        "tokens",
        &format!("{} with the change, {} without", words::count(with as f64), words::count(without as f64)),
    );
    let curve: Vec<String> = discovery.curve.iter().map(|loss| format!("{loss:.2}")).collect();
    if !curve.is_empty() {
        line("loss", &format!("{} nats", curve.join(" ")));
    }
    out.push_str(&re_runs(details));
    out.push_str(&kin("builds on", &details.lineage.above));
    out.push_str(&kin("led to", &details.lineage.below));
    if details.lineage.cut {
        out.push_str("  … and more\n");
    }
    out.push_str("\nchanged from the defaults:\n");
    // After the first empty line come the knobs at their defaults.
    for text in discovery.config.to_toml().lines().take_while(|line| !line.is_empty()) {
        let _ = writeln!(out, "  {text}");
    }
    out
}

/// Returns who re-ran a discovery, how, and with what result.
fn re_runs(details: &Details) -> String {
    if details.attestations.is_empty() {
        return "re-runs    none yet\n".to_owned();
    }
    let cells: Vec<[String; 5]> = details.attestations.iter().map(re_run).collect();
    let mut out = String::from("\nre-runs:\n");
    for text in words::columns(&cells, 4, usize::MAX).lines() {
        let _ = writeln!(out, "  {text}");
    }
    let more = details.re_runs as usize - details.attestations.len();
    if more > 0 {
        let _ = writeln!(out, "  … and {more} more");
    }
    out
}

fn re_run(re_run: &AttestationRow) -> [String; 5] {
    let AttestationRow { author, own, attestation, says } = re_run;
    let found = match &attestation.found {
        Ok(estimate) => estimate.to_string(),
        Err(class) => class.to_string(),
    };
    let says = match (says, own) {
        (Says::Gains, true) => "helps here too",
        (Says::Loses, true) => "hurts here",
        _ => says.name(),
    };
    [
        attestation.comparison.past().to_owned(),
        format!("by {}", by(author, *own)),
        found,
        says.to_owned(),
        format!("on {}", hardware(&attestation.hardware)),
    ]
}

/// Returns one direction of a lineage as a small tree, indented by generation.
fn kin(title: &str, kin: &[Kin]) -> String {
    if kin.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{title}:\n");
    for Kin { generation, id, known } in kin {
        let indent = "  ".repeat(usize::from(*generation));
        let short: String = id.chars().take(8).collect();
        let text = match known {
            Some(KnownRelative { author, own, patch, estimate, status }) => format!(
                "{}  {}  {}, by {}",
                words::clean(&patch.to_string()),
                sentences::short_estimate(estimate),
                status.name(),
                by(author, *own)
            ),
            None => "not here".to_owned(),
        };
        let _ = writeln!(out, "{indent}{short}  {text}");
    }
    out
}

/// The names of two configs whose difference is printed.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// The config whose values have a minus.
    pub from: &'a str,
    /// The config whose values have a plus.
    pub to: &'a str,
}

/// Returns how two configs differ: two lines for each knob, by group. `claimed` is the discovery's own
/// change, whose knobs are marked. The colours only repeat what the signs say.
pub fn difference(sides: Sides, changes: &Patch, claimed: &Patch, colour: Colour) -> String {
    let mut out = String::new();
    let mut line = |text: &str, code: &str| {
        let _ = writeln!(out, "{}", look::label(text, colour, code));
    };
    line(&format!("--- {}", words::clean(sides.from)), look::BOLD);
    line(&format!("+++ {}", words::clean(sides.to)), look::BOLD);
    if changes.is_empty() {
        line("no difference", look::DIM);
    }
    let is_claimed = |knob: Knob| claimed.iter().any(|(changed, _)| changed == knob);
    for group in KnobGroup::ALL {
        let of_group: Vec<_> = changes.iter().filter(|(knob, _)| knob.group() == group).collect();
        if !of_group.is_empty() {
            line(&format!("@@ {group} @@"), look::CYAN);
        }
        for (knob, change) in of_group {
            let mark = if is_claimed(knob) { "  (its change)" } else { "" };
            line(&format!("-{knob} {}", change.from.display(knob)), look::RED);
            line(&format!("+{knob} {}{mark}", change.to.display(knob)), look::GREEN);
        }
    }
    out
}

#[cfg(test)]
#[path = "discoveries_tests.rs"]
mod tests;
