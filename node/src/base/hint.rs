//! An error with a hint: one line says what went wrong, another what to do about it.

/// An error whose fix is printed as a line of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What went wrong, and why.
    pub message: String,
    /// What a person can do about it.
    pub hint: String,
}

/// Makes an error with a hint.
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// Returns the hint of the first cause in the chain that has one.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.as_str())
}
