//! What a session is begun with and how it ends.

/// A change as a person typed it.
#[derive(Debug, Clone)]
pub struct PersonsChange {
    /// The patch to the incumbent.
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
