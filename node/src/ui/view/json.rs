//! The JSON view: each event as one line with its time, for programs.
//!
//! The names of the fields are those of [`NodeEvent`].

use std::io::{self, Write};

use serde::Serialize;

use crate::{base::words, events::NodeEvent};

/// Writes one JSON object per event to `W`.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    event: &'a NodeEvent,
}

impl<W: Write> Json<W> {
    /// Makes the view that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an event that happened at `now`, seconds since 1970.
    pub fn happened(&mut self, now: u64, event: &NodeEvent) -> io::Result<()> {
        write_line(&mut self.out, &Line { at: words::timestamp(now), event })
    }
}

/// Writes one value as a line of JSON and flushes, so that a reader sees it at once.
pub fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::view::plain::tests::every_event;

    #[test]
    fn every_event_is_one_line_that_reads_back() {
        for event in every_event() {
            let mut view = Json::new(Vec::new());
            view.happened(11_045, &event).expect("a vector takes every byte");
            let text = String::from_utf8(view.out).expect("UTF-8");
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["at"], "1970-01-01T03:04:05Z");
            assert_eq!(serde_json::from_value::<NodeEvent>(value).expect("an event"), event);
        }
    }
}
