//! The live view: a frame redrawn in place at the bottom of a terminal, with events scrolling above it.
//!
//! Not here: what a line says (`frame`, `plain`), and the drawing itself, its rate and the cursor
//! (indicatif).

use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    frame,
    look::{self, Colour, Look},
    plain::{self, WorkSteps},
};
use crate::{
    base::words,
    events::{NodeEvent, Snapshot},
};

/// Redraws a second: smooth to the eye, and no load beside the training.
const REDRAWS_PER_SECOND: u8 = 8;

/// Draws on the terminal at standard output.
#[derive(Debug)]
pub struct Live {
    screen: MultiProgress,
    /// The frame's lines; indicatif draws each as a bar that is text alone.
    lines: Vec<ProgressBar>,
    /// The bar of long work other than training, with its stage.
    work: Option<(String, ProgressBar)>,
    work_steps: WorkSteps,
    colour: Colour,
}

impl Live {
    /// Makes the view, which takes the bottom of the terminal.
    pub fn new(colour: Colour) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(REDRAWS_PER_SECOND));
        Self { screen, lines: Vec::new(), work: None, work_steps: WorkSteps::default(), colour }
    }

    /// Lets an event's lines scroll above the frame; long work gets a bar instead.
    pub fn happened(&mut self, now: u64, event: &NodeEvent) -> io::Result<()> {
        if let NodeEvent::Working { stage, done, total } = event {
            self.working(stage, *done, *total);
            return Ok(());
        }
        self.end_work();
        // The frame shows single runs. What scrolls is what a person wants to find again.
        if matches!(event, NodeEvent::RunFinished { crash: None, .. }) || !self.work_steps.is_due(event) {
            return Ok(());
        }
        // The summary is the last word, so no frame stays below it.
        if matches!(event, NodeEvent::Summary(_)) {
            self.finish();
        }
        for line in plain::lines(event) {
            let line = look::colour_line(&line, self.colour);
            self.screen.println(format!("{}  {line}", words::time_of_day(now)))?;
        }
        Ok(())
    }

    /// Redraws the frame from a snapshot.
    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        let (height, width) = console_size();
        let look = Look { width: width.saturating_sub(1), height, colour: self.colour };
        let lines = frame::with_swarm(snapshot, look);
        while self.lines.len() > lines.len() {
            if let Some(line) = self.lines.pop() {
                self.screen.remove(&line);
            }
        }
        while self.lines.len() < lines.len() {
            self.lines.push(self.screen.add(ProgressBar::new_spinner().with_style(line_style())));
        }
        for (bar, line) in self.lines.iter().zip(lines) {
            bar.set_message(line);
        }
    }

    /// Removes the frame and leaves the cursor below what scrolled.
    pub fn finish(&mut self) {
        self.end_work();
        for line in self.lines.drain(..) {
            line.finish_and_clear();
            self.screen.remove(&line);
        }
    }

    /// Shows how far a stage of long work is, on a bar above the frame.
    fn working(&mut self, stage: &str, done: u64, total: u64) {
        if self.work.as_ref().is_some_and(|(current, _)| current != stage) {
            self.end_work();
        }
        if self.work.is_none() {
            let bar = self.screen.insert(0, ProgressBar::new(total.max(1)).with_style(work_style(total)));
            self.work = Some((stage.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.work {
            bar.set_style(work_style(total));
            bar.set_length(total.max(1));
            bar.set_message(words::clean(stage));
            bar.set_position(done);
        }
    }

    fn end_work(&mut self) {
        if let Some((_, bar)) = self.work.take() {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

fn line_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").expect("the template names one known field")
}

fn work_style(total: u64) -> ProgressStyle {
    let template = if total > 0 {
        "{msg:<10} {bar:30} {percent:>3} %  {eta} left"
    } else {
        "{msg:<10} {spinner} {pos} done"
    };
    ProgressStyle::with_template(template)
        .expect("the template names known fields")
        .progress_chars("█▉▊▋▌▍▎▏·")
}

/// Returns the terminal's rows and columns; 24 × 80, the oldest convention, where they cannot be known.
fn console_size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0)
        .map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::view::{frame::tests::snapshot, plain::tests::every_event};

    #[test]
    fn every_event_and_frame_is_drawn_without_a_terminal_too() {
        let mut live = Live::new(Colour::On);
        for event in every_event() {
            live.happened(0, &event).expect("standard output is open");
            live.snapshot(&snapshot());
        }
        let frame_lines = live.lines.len();
        assert!(frame_lines >= 6);
        let mut fewer = snapshot();
        fewer.slots.truncate(1);
        live.snapshot(&fewer);
        assert_eq!(live.lines.len(), frame_lines - 4);
        live.finish();
        assert!(live.lines.is_empty() && live.work.is_none());
    }
}
