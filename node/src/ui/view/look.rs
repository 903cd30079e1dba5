//! How text looks on the terminal at hand: the terminal's size, and the colours of labels.

use std::io::{self, IsTerminal};

/// How large the terminal is and whether labels are coloured.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width of the terminal, columns.
    pub width: usize,
    /// Height of the terminal, rows.
    pub height: usize,
    /// Whether labels are coloured.
    pub colour: Colour,
}

/// Whether labels are coloured. Colour never carries meaning: the words say everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Labels are coloured by escape sequences.
    On,
    /// No escape sequence is written.
    Off,
}

impl Colour {
    /// Returns whether to colour standard output: on a terminal, unless `NO_COLOR` is set to anything.
    pub fn for_stdout() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_terminal(&io::stdout()) && !no_color { Self::On } else { Self::Off }
    }
}

/// Returns whether standard output is a terminal that can do more than print lines.
pub(super) fn is_terminal(stdout: &io::Stdout) -> bool {
    stdout.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

// Codes of the terminal escape sequence that sets a style.
pub(super) const BOLD: &str = "1";

pub(super) const GREEN: &str = "32";

pub(super) const RED: &str = "31";

pub(super) const CYAN: &str = "36";

pub(super) const DIM: &str = "2";

/// Colours a text with one of the terminal codes above.
pub(super) fn label(text: &str, colour: Colour, code: &str) -> String {
    match colour {
        Colour::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        Colour::Off => text.to_owned(),
    }
}

/// Colours the first word of a plain line by what it says; the word itself carries the meaning.
pub fn colour_line(line: &str, colour: Colour) -> String {
    let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    let code = match word {
        "keep" => GREEN,
        "crash" => RED,
        "discard" | "run" | "try" => DIM,
        "note" | "hint" | "pause" | "stop" => BOLD,
        _ => return line.to_owned(),
    };
    format!("{}{rest}", label(word, colour, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_adds_nothing_but_colour() {
        assert_eq!(colour_line("keep     x", Colour::On), "\u{1b}[32mkeep\u{1b}[0m     x");
        assert_eq!(colour_line("keep     x", Colour::Off), "keep     x");
        assert_eq!(colour_line("ready    x", Colour::On), "ready    x");
    }
}
