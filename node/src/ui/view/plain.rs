//! The plain view: one line per event, for files and pipes, and for what scrolls above the live view's bars.
//!
//! What is said of verdicts and sessions is in [`crate::events::sentences`].

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::{
    base::words,
    events::{NodeEvent, sentences},
};

/// Steps from 0 to 100 % at which long work prints a line: often enough to see progress, and no flood in a
/// log.
const WORK_STEPS: u64 = 10;

/// Writes one line per event to `W`.
#[derive(Debug)]
pub struct Plain<W> {
    out: W,
    work: WorkSteps,
}

impl<W: Write> Plain<W> {
    /// Makes the view that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, work: WorkSteps::default() }
    }

    /// Writes an event that happened at `now`, seconds since 1970. Long work is written at each tenth only.
    pub fn happened(&mut self, now: u64, event: &NodeEvent) -> io::Result<()> {
        if !self.work.is_due(event) {
            return Ok(());
        }
        for line in lines(event) {
            writeln!(self.out, "{}  {line}", words::time_of_day(now))?;
        }
        self.out.flush()
    }
}

/// Remembers how far each stage of long work was when it was last printed.
#[derive(Debug, Default)]
pub struct WorkSteps {
    /// For each stage, the step that was printed last.
    last: BTreeMap<String, u64>,
}

impl WorkSteps {
    /// Returns whether to print an event: all of them, but long work only when it passes a tenth.
    pub fn is_due(&mut self, event: &NodeEvent) -> bool {
        let NodeEvent::Working { stage, done, total } = event else { return true };
        let step = (done * WORK_STEPS).checked_div(*total).unwrap_or(0).min(WORK_STEPS);
        // Stages are a handful of names of our own; `clear` bounds the map should that ever change.
        if self.last.len() > 64 {
            self.last.clear();
        }
        self.last.insert(stage.clone(), step) != Some(step)
    }
}

/// Returns an event's lines, without the time: one for most events.
pub fn lines(event: &NodeEvent) -> Vec<String> {
    match event {
        NodeEvent::Started { home, objective, arena, budget, budget_seconds, slots, resumed } => {
            let mut lines = vec![format!(
                "ready    {}: {}, on {} ({})",
                words::clean(objective),
                words::budget(*budget, *budget_seconds),
                words::plural(slots.len() as u32, "slot"),
                slots.iter().map(|slot| words::clean(slot)).collect::<Vec<_>>().join(", "),
            )];
            let resumed = if *resumed > 0 {
                format!(", going on after {}", words::plural(*resumed, "experiment"))
            } else {
                String::new()
            };
            lines.push(format!("home     {}, arena {}{resumed}", words::clean(home), words::clean(arena)));
            lines
        }
        NodeEvent::Note { text, fix } => {
            let mut lines = vec![format!("note     {}", words::clean(text))];
            lines.extend(fix.as_ref().map(|fix| format!("hint     {}", words::clean(fix))));
            lines
        }
        NodeEvent::Working { stage, done, total } => vec![working(stage, *done, *total)],
        NodeEvent::Probed { slots, tokens_per_second, budget, budget_seconds } => vec![format!(
            "probe    {slots} × {} tokens/s: {}",
            words::count(*tokens_per_second),
            words::budget(*budget, *budget_seconds)
        )],
        // Not cleaned, since that cuts long texts: a ticket is copied as it stands.
        NodeEvent::Ticket { ticket } => vec![format!("ticket   {ticket}")],
        NodeEvent::Swarm { text } => vec![format!("swarm    {}", words::clean(text))],
        NodeEvent::Proposed { number, patch, because } => {
            vec![format!("try      #{number} {}: {}", words::clean(patch), words::clean(because))]
        }
        NodeEvent::RunFinished { number, slot, role, validation, crash, seconds, tokens } => {
            let what = match (validation, crash) {
                (Some(value), _) => format!("{value:.4} bpb"),
                (None, Some(class)) => class.to_string(),
                (None, None) => "stopped early, too far behind,".to_owned(),
            };
            vec![format!(
                "run      #{number} {} on {}: {what} after {} and {} tokens",
                words::clean(role),
                words::clean(slot),
                words::duration(*seconds),
                words::count(*tokens as f64)
            )]
        }
        NodeEvent::Concluded { number, patch, verdict, commit } => {
            let line = sentences::verdict_line(&format!("#{number} {patch}"), verdict);
            let commit: String = words::clean(commit).chars().take(7).collect();
            vec![if commit.is_empty() { line } else { format!("{line}  [{commit}]") }]
        }
        NodeEvent::Paused { reason: Some(reason) } => vec![format!("pause    {}", words::clean(reason))],
        NodeEvent::Paused { reason: None } => vec!["resume   work goes on".to_owned()],
        NodeEvent::Stopping { finishing } => vec![format!("stop     {}", words::clean(finishing))],
        NodeEvent::Summary(summary) => sentences::summary(summary),
    }
}

/// Returns the line of long work: `download  45 %  (120 of 266)`.
pub fn working(stage: &str, done: u64, total: u64) -> String {
    let stage = words::clean(stage);
    match (done * 100).checked_div(total) {
        Some(percent) => format!("{stage:<8} {:>3} %  ({done} of {total})", percent.min(100)),
        None if done == 0 => format!("{stage:<8} begun"),
        None => format!("{stage:<8} {done} done"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use autoswarm_protocol::{Budget, CrashClass, Estimate, KnobGroup, Verdict, experiment::DiscardReason};

    use super::*;
    use crate::events::SessionSummary;

    /// Events of all kinds but the swarm's, in each form that a kind can have.
    pub(crate) fn every_event() -> Vec<NodeEvent> {
        let text = str::to_owned;
        let estimate = Estimate { delta: -0.0213, standard_error: 0.0031, pairs: 3 };
        let concluded = |patch: &str, verdict| NodeEvent::Concluded {
            number: 12,
            patch: patch.to_owned(),
            verdict,
            commit: "0123456789abcdef".to_owned(),
        };
        let run = |validation, crash| NodeEvent::RunFinished {
            number: 12,
            slot: "cpu:0-1".to_owned(),
            role: "screen".to_owned(),
            validation,
            crash,
            seconds: 20.1,
            tokens: 812_345,
        };
        vec![
            NodeEvent::Started {
                home: text("/home/ada/.local/share/autoswarm"),
                objective: text("rust-text"),
                arena: text("1a2b3c4d"),
                budget: Budget::Class(3),
                budget_seconds: 140.2,
                slots: vec![text("cpu:0-1"), text("cpu:2-3")],
                resumed: 12,
            },
            NodeEvent::Note {
                text: text("the index was damaged and is rebuilt from the journal"),
                fix: None,
            },
            NodeEvent::Note { text: text("the disk is nearly full"), fix: Some(text("free 2 GB")) },
            NodeEvent::Working { stage: text("download"), done: 120, total: 266 },
            NodeEvent::Working { stage: text("corpus"), done: 0, total: 0 },
            NodeEvent::Working { stage: text("probe"), done: 2, total: 0 },
            NodeEvent::Probed {
                slots: 2,
                tokens_per_second: 49_600.0,
                budget: Budget::Class(2),
                budget_seconds: 84.6,
            },
            NodeEvent::Proposed {
                number: 12,
                patch: text("matrix_lr 0.04 → 0.03"),
                because: text("halfway\nto the last win\u{1b}[31m"),
            },
            run(Some(2.10342), None),
            run(None, Some(CrashClass::OutOfMemory)),
            run(None, None),
            concluded("batch_tokens 8192 → 4096", Verdict::Keep { estimate, audit: None }),
            concluded(
                "width 128 → 160",
                Verdict::Discard {
                    reason: DiscardReason::ClearLoser,
                    screened: Some(0.0412),
                    estimate: None,
                },
            ),
            concluded(
                "depth 4 → 12",
                Verdict::Crash { class: CrashClass::TooSlow, message: text("14 steps in 20 s") },
            ),
            concluded("the calibrated start: 2.1034 bpb", Verdict::Baseline),
            NodeEvent::Paused { reason: Some(text("on battery")) },
            NodeEvent::Paused { reason: None },
            NodeEvent::Stopping { finishing: text("writing #12 down; a second Ctrl-C ends at once") },
            NodeEvent::Summary(Box::new(summary_with_gain())),
            NodeEvent::Summary(Box::new(summary_without_keep())),
        ]
    }

    pub(crate) fn summary_with_gain() -> SessionSummary {
        SessionSummary {
            experiments: 42,
            keeps: 2,
            crashes: 1,
            baseline: Some(2.4031),
            patch: "batch_tokens 8192 → 4096, depth 4 → 3".to_owned(),
            gain: Some(Estimate { delta: -0.0312, standard_error: 0.0042, pairs: 9 }),
            resolvable_per_hour: Some(0.0041),
            ruled_out: vec!["width 128 → 160".to_owned()],
            untried: vec![(KnobGroup::Shape, 12), (KnobGroup::Schedule, 0), (KnobGroup::Init, 1)],
            hours: 1.2,
        }
    }

    fn summary_without_keep() -> SessionSummary {
        SessionSummary {
            experiments: 7,
            keeps: 0,
            crashes: 0,
            patch: "the calibrated start: 2.1034 bpb".to_owned(),
            gain: None,
            ruled_out: (1..8).map(|n| format!("depth 4 → {n}")).collect(),
            hours: 0.25,
            ..summary_with_gain()
        }
    }

    #[test]
    fn every_event_prints_as_shown() {
        let mut view = Plain::new(Vec::new());
        for event in every_event() {
            view.happened(11_045, &event).expect("a vector takes every byte");
        }
        insta::assert_snapshot!(String::from_utf8(view.out).expect("UTF-8"));
    }

    #[test]
    fn long_work_prints_each_tenth_once() {
        let mut view = Plain::new(Vec::new());
        for done in 0..=1000 {
            let event = NodeEvent::Working { stage: "corpus".to_owned(), done, total: 1000 };
            view.happened(0, &event).expect("a vector takes every byte");
        }
        assert_eq!(String::from_utf8(view.out).expect("UTF-8").lines().count(), 11);
    }
}
