//! The live view's frame: a snapshot as a few lines for a terminal of a given size. Pure.
//!
//! The drawing is in `live`, the swarm's lines in `swarm`.

use unicode_width::UnicodeWidthStr;

use super::{
    look::{BOLD, Look, label},
    swarm,
};
use crate::{
    base::words,
    events::{SlotPhase, SlotView, Snapshot, sentences},
};

/// Most slots for which each gets a second line with its change.
const ROOMY_SLOTS: usize = 4;
/// Shortest bar that still shows anything, columns.
const SHORTEST_BAR: usize = 6;
/// Longest bar, columns: a longer one only takes the eye longer to read.
const LONGEST_BAR: usize = 32;

/// A piece of a line with its rank. Where not all fit, the one with the largest rank is dropped; rank 0
/// always stays.
type Piece = (u8, String);

/// Returns the frame's lines, each at most `look.width` columns and together fewer than `look.height` rows.
pub fn render(snapshot: &Snapshot, look: Look) -> Vec<String> {
    let mut lines = vec![header(snapshot, look)];
    let roomy = snapshot.slots.len() <= ROOMY_SLOTS && look.height > 2 * snapshot.slots.len() + 6;
    // The terminal must be taller than what is redrawn in place, or redrawing leaves old lines behind.
    let room = look.height.saturating_sub(5).max(1);
    let shown = if roomy { snapshot.slots.len() } else { snapshot.slots.len().min(room) };
    let name_width = snapshot.slots.iter().map(|slot| slot.name.width()).max().unwrap_or(0).min(14);
    for slot in &snapshot.slots[..shown] {
        lines.push(slot_line(slot, name_width, look));
        if roomy {
            lines.push(slot_patch(slot, name_width, look));
        }
    }
    if shown < snapshot.slots.len() {
        lines.push(words::fit(&format!("… and {} more slots", snapshot.slots.len() - shown), look.width));
    }
    lines.push(incumbent(snapshot, look));
    lines.push(next(snapshot, look));
    lines
}

/// Returns the frame's lines with those about the swarm below them, as far as there is room.
pub fn with_swarm(snapshot: &Snapshot, look: Look) -> Vec<String> {
    let mut lines = render(snapshot, look);
    // As above, the terminal must stay taller than what is redrawn.
    let room = look.height.saturating_sub(lines.len() + 1);
    lines.extend(swarm::lines(snapshot, look, room));
    lines
}

/// Returns the first line: objective, budget, counts and arena.
fn header(snapshot: &Snapshot, look: Look) -> String {
    let budget = words::budget(snapshot.budget, snapshot.budget_seconds);
    let crashes =
        if snapshot.crashes > 0 { format!(", {} crashed", snapshot.crashes) } else { String::new() };
    let done =
        format!("{}, {} kept{crashes}", words::plural(snapshot.experiments, "experiment"), snapshot.keeps);
    let mut pieces = vec![(0, words::clean(&snapshot.objective)), (2, budget), (1, done)];
    if let Some(rate) = snapshot.experiments_per_hour {
        pieces.push((1, format!("{rate:.0} an hour")));
    }
    pieces.push((3, format!("arena {}", words::clean(&snapshot.arena))));
    label(&join(pieces, "  ", look.width), look.colour, BOLD)
}

/// Returns a slot's line: what it does and, where that has an end, a bar as wide as there is room.
fn slot_line(slot: &SlotView, name_width: usize, look: Look) -> String {
    let mut pieces = vec![(0, words::pad(&words::clean(&slot.name), name_width))];
    if let Some(number) = slot.number {
        pieces.push((0, format!("#{number}")));
    }
    let phase = match slot.phase {
        SlotPhase::Idle => "idle",
        SlotPhase::Starting => "starting",
        SlotPhase::Pricing => "pricing",
        SlotPhase::Training => "training",
        SlotPhase::Evaluating => "evaluating",
        SlotPhase::Paused => "paused",
        SlotPhase::Waiting => "waiting",
    };
    pieces.push((1, words::pad(phase, "evaluating".len())));
    let after = measures(slot);
    let Some(percent) = (slot.done * 100).checked_div(slot.total) else {
        pieces.extend(after);
        return join(pieces, "  ", look.width);
    };
    let percent = percent.min(100);
    pieces.push((0, format!("{percent:>3} %")));
    pieces.extend(after);
    // Just before the percentage. Only the measures after it have ranks of 2 and more.
    let bar_at = pieces.len() - pieces.iter().filter(|piece| piece.0 >= 2).count().min(pieces.len()) - 1;
    let kept = drop_until_fits(pieces, "  ", look.width.saturating_sub(SHORTEST_BAR + 2));
    let used = width_of(&kept, 2);
    let bar_width = look.width.saturating_sub(used + 2).min(LONGEST_BAR);
    let mut texts: Vec<String> = kept.into_iter().map(|piece| piece.1).collect();
    if bar_width >= SHORTEST_BAR {
        texts.insert(bar_at.min(texts.len()), bar(slot.done, slot.total, bar_width));
    }
    words::fit(texts.join("  ").trim_end(), look.width)
}

/// Returns the numbers of a slot's run, in the order that they are shown in.
fn measures(slot: &SlotView) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let counted = matches!(slot.phase, SlotPhase::Training | SlotPhase::Evaluating | SlotPhase::Paused);
    if counted && slot.total > 0 {
        pieces.push((5, format!("{} tokens", words::count(slot.done as f64))));
    }
    if slot.tokens_per_second > 0.0 {
        pieces.push((3, format!("{}/s", words::count(slot.tokens_per_second))));
    }
    if let Some(loss) = slot.loss {
        pieces.push((4, format!("loss {loss:.3}")));
    }
    if let Some(seconds) = slot.remaining_seconds {
        pieces.push((2, format!("{} left", words::clock(seconds))));
    }
    pieces
}

/// Returns a slot's second line: the change under test and what the run is for.
fn slot_patch(slot: &SlotView, name_width: usize, look: Look) -> String {
    if slot.number.is_none() {
        return String::new();
    }
    let indent = " ".repeat(name_width + 2);
    let role = words::clean(&slot.role);
    let patch = words::clean(&slot.patch);
    let text = if role.is_empty() { patch } else { format!("{patch}  ({role})") };
    words::fit(format!("{indent}{text}").trim_end(), look.width)
}

/// Returns the line of the incumbent: its value, and its gain and change from the baseline.
fn incumbent(snapshot: &Snapshot, look: Look) -> String {
    let mut pieces = vec![(0, "best".to_owned())];
    match snapshot.incumbent {
        Some((mean, error)) => pieces.push((0, format!("{mean:.4} ± {error:.4} bpb"))),
        None => pieces.push((0, "not measured yet".to_owned())),
    }
    if let Some(gain) = &snapshot.gain {
        pieces.push((1, format!("Δ {}", sentences::short_estimate(gain))));
        pieces.push((2, words::clean(&snapshot.incumbent_patch)));
    }
    join_cutting_last(pieces, "  ", look.width)
}

/// Returns the last line: when to expect a verdict, or why nothing runs.
fn next(snapshot: &Snapshot, look: Look) -> String {
    if let Some(reason) = &snapshot.paused {
        return words::fit(&label_text("paused", &words::clean(reason)), look.width);
    }
    let text = match snapshot.next_verdict_seconds {
        Some(seconds) => format!("next  verdict in about {}", words::clock(seconds)),
        None => "next  verdict when the first runs have shown how long they take".to_owned(),
    };
    words::fit(&text, look.width)
}

fn label_text(label: &str, text: &str) -> String {
    format!("{label}  {text}")
}

/// Draws `done` of `total` with eighths of a block, so that a long run is seen to move.
fn bar(done: u64, total: u64, width: usize) -> String {
    const EIGHTHS: [char; 8] = ['·', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (done.min(total) as f64 / total.max(1) as f64 * width as f64 * 8.0) as usize;
    (0..width)
        .map(|cell| match eighths.saturating_sub(cell * 8) {
            0 => EIGHTHS[0],
            n if n >= 8 => '█',
            n => EIGHTHS[n],
        })
        .collect()
}

fn width_of(pieces: &[Piece], gap: usize) -> usize {
    let text: usize = pieces.iter().map(|piece| piece.1.width()).sum();
    text + gap * pieces.len().saturating_sub(1)
}

/// Drops pieces, the largest rank first and the last of equal ranks, until the rest fits or has rank 0 only.
fn drop_until_fits(mut pieces: Vec<Piece>, gap: &str, width: usize) -> Vec<Piece> {
    while width_of(&pieces, gap.len()) > width {
        let least = pieces.iter().map(|piece| piece.0).max().unwrap_or(0);
        let Some(index) = pieces.iter().rposition(|piece| piece.0 == least).filter(|_| least > 0) else {
            break;
        };
        pieces.remove(index);
    }
    pieces
}

fn join(pieces: Vec<Piece>, gap: &str, width: usize) -> String {
    let kept = drop_until_fits(pieces, gap, width);
    let texts: Vec<String> = kept.into_iter().map(|piece| piece.1).collect();
    words::fit(texts.join(gap).trim_end(), width)
}

/// Joins pieces and drops none: where the line is too long, its end is cut.
fn join_cutting_last(pieces: Vec<Piece>, gap: &str, width: usize) -> String {
    let texts: Vec<String> = pieces.into_iter().map(|piece| piece.1).collect();
    words::fit(texts.join(gap).trim_end(), width)
}

#[cfg(test)]
pub(crate) mod tests {
    use autoswarm_protocol::{Budget, CrashClass, Estimate, Verdict, experiment::DiscardReason};

    use super::*;
    use crate::ui::view::look::Colour;

    fn slot(name: &str, phase: SlotPhase) -> SlotView {
        SlotView {
            name: name.to_owned(),
            phase,
            number: Some(13),
            role: "pair 2, incumbent".to_owned(),
            patch: "matrix_lr 0.04 → 0.03, depth 4 → 3".to_owned(),
            done: 345_000,
            total: 812_000,
            tokens_per_second: 40_600.0,
            loss: Some(1.4321),
            remaining_seconds: Some(11.4),
        }
    }

    pub(crate) fn snapshot() -> Snapshot {
        let estimate = Estimate { delta: -0.0213, standard_error: 0.0031, pairs: 3 };
        let idle = SlotView {
            phase: SlotPhase::Idle,
            number: None,
            done: 0,
            total: 0,
            tokens_per_second: 0.0,
            loss: None,
            remaining_seconds: None,
            ..slot("cpu:4-5", SlotPhase::Idle)
        };
        Snapshot {
            objective: "rust-text".to_owned(),
            arena: "1a2b3c4d".to_owned(),
            budget: Budget::Milliseconds(20_000),
            budget_seconds: 20.0,
            slots: vec![slot("cpu:0-1", SlotPhase::Training), slot("cpu:2-3", SlotPhase::Evaluating), idle],
            incumbent: Some((2.1034, 0.0021)),
            incumbent_patch: "batch_tokens 8192 → 4096, warmdown 0.5 → 0.7".to_owned(),
            gain: Some(estimate),
            recent: vec![
                (10, "batch_tokens 8192 → 4096".to_owned(), Verdict::Keep { estimate, audit: None }),
                (
                    11,
                    "depth 4 → 12".to_owned(),
                    Verdict::Crash { class: CrashClass::OutOfMemory, message: String::new() },
                ),
                (
                    12,
                    "width 128 → 160".to_owned(),
                    Verdict::Discard { reason: DiscardReason::NoGain, screened: Some(0.01), estimate: None },
                ),
            ],
            experiments: 12,
            keeps: 2,
            crashes: 1,
            experiments_per_hour: Some(43.2),
            next_verdict_seconds: Some(45.0),
            paused: None,
            network: None,
            swarm: None,
        }
    }

    fn look(width: usize) -> Look {
        Look { width, height: 40, colour: Colour::Off }
    }

    #[test]
    fn a_frame_at_eighty_columns() {
        insta::assert_snapshot!(render(&snapshot(), look(80)).join("\n"));
    }

    #[test]
    fn a_frame_at_fifty_columns() {
        insta::assert_snapshot!(render(&snapshot(), look(50)).join("\n"));
    }

    #[test]
    fn a_frame_at_a_hundred_and_thirty_columns() {
        insta::assert_snapshot!(render(&snapshot(), look(130)).join("\n"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
        let mut many = snapshot();
        many.objective = "目的".repeat(30);
        many.incumbent_patch = "depth 4 → 3, ".repeat(20);
        for slots in [1, 3, 8, 64] {
            many.slots = (0..slots).map(|n| slot(&format!("cpu:{n}"), SlotPhase::Training)).collect();
            for width in 1..160 {
                for height in [6, 10, 24, 60] {
                    let lines = render(&many, Look { width, height, colour: Colour::Off });
                    assert!(lines.len() < height.max(7), "{} lines in {height}", lines.len());
                    for line in lines {
                        assert!(line.width() <= width, "{} > {width}: {line}", line.width());
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_measured_yet_is_said_in_words() {
        let mut new = snapshot();
        (new.incumbent, new.gain, new.next_verdict_seconds) = (None, None, None);
        let text = render(&new, look(80)).join("\n");
        assert!(text.contains("best  not measured yet"), "{text}");
        assert!(text.contains("next  verdict when"), "{text}");
    }

    #[test]
    fn a_pause_says_why() {
        let paused = Snapshot { paused: Some("on battery".to_owned()), ..snapshot() };
        assert!(render(&paused, look(80)).contains(&"paused  on battery".to_owned()));
    }

    #[test]
    fn escape_sequences_from_elsewhere_do_not_reach_the_terminal() {
        let mut hostile = snapshot();
        hostile.objective = "a\u{1b}[2Jb".to_owned();
        hostile.incumbent_patch = "c\u{202e}d".to_owned();
        hostile.slots[0].patch = "e\nf".to_owned();
        let text = render(&hostile, look(80)).join("\n");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        assert!(text.contains("e f"), "{text}");
    }

    #[test]
    fn bars_fill_by_eighths() {
        assert_eq!(bar(0, 100, 4), "····");
        assert_eq!(bar(50, 100, 4), "██··");
        assert_eq!(bar(55, 100, 4), "██▏·");
        assert_eq!(bar(100, 100, 4), "████");
        assert_eq!(bar(120, 100, 4), "████");
    }
}
