//! What a session may begin with, a person's change, and how it ends.

/// A change to the incumbent as a person typed it; nothing of it is checked yet.
#[derive(Debug, Clone)]
pub struct PersonsChange {
    /// The patch to the incumbent, such as `depth 3, width 160`.
    pub patch: String,
    /// Why it should help.
    pub because: String,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It did all that it was asked for.
    Done,
    /// A person, a deadline or a signal ended it.
    Stopped,
}
