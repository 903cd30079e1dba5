//! What a person sees of a running node: plain lines, JSON lines or a live view, all over the same two types.
//!
//! The driver hands over each [`NodeEvent`] and, now and then, a [`Snapshot`]. Pure functions turn those
//! values into text; this file only chooses a view and writes. Events go to standard output, since they are
//! what a redirected `solo` is asked for. Prompts and errors go to standard error and are not here.

pub mod discoveries;
pub mod frame;
pub mod importance;
pub mod json;
pub mod lists;
pub mod live;
pub mod look;
pub mod plain;
pub mod swarm;

use std::io::{self, Write};

use crate::events::{NodeEvent, Snapshot};
use look::{Colour, is_terminal};

/// One of the ways to watch a node.
#[derive(Debug)]
pub enum View {
    /// One line per event.
    Plain(plain::Plain<io::Stdout>),
    /// One line per event on standard error, for a command whose standard output is its result.
    Narration(plain::Plain<io::Stderr>),
    /// One JSON object per event.
    Json(json::Json<io::Stdout>),
    /// Bars on a terminal, with the events scrolling above them.
    Live(Box<live::Live>),
}

impl View {
    /// Chooses the view for standard output: JSON where asked for, live on a terminal, plain lines elsewhere.
    pub fn for_stdout(json: bool) -> Self {
        let stdout = io::stdout();
        if json {
            Self::Json(json::Json::new(stdout))
        } else if is_terminal(&stdout) {
            Self::Live(Box::new(live::Live::new(Colour::for_stdout())))
        } else {
            Self::Plain(plain::Plain::new(stdout))
        }
    }

    /// Chooses the view of a command whose standard output is its result: live on a terminal, else lines on
    /// standard error.
    pub fn beside_result(json: bool) -> Self {
        match Self::for_stdout(json) {
            live @ Self::Live(_) => live,
            _ => Self::Narration(plain::Plain::new(io::stderr())),
        }
    }

    /// Shows an event that happened at `now`, seconds since 1970. An error means that nobody reads any more.
    pub fn happened(&mut self, now: u64, event: &NodeEvent) -> io::Result<()> {
        match self {
            Self::Plain(view) => view.happened(now, event),
            Self::Narration(view) => view.happened(now, event),
            Self::Json(view) => view.happened(now, event),
            Self::Live(view) => view.happened(now, event),
        }
    }

    /// Shows the state of a session; only the live view does so.
    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        if let Self::Live(view) = self {
            view.snapshot(snapshot);
        }
    }

    /// Leaves the terminal as it was found. Dropping the view does the same.
    pub fn finish(&mut self) {
        if let Self::Live(view) = self {
            view.finish();
        }
        // Nothing can be told to a reader that is gone.
        let _ = io::stdout().flush();
    }
}
