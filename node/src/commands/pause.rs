//! `node pause`, `resume` and `stop`: short wishes to the running node.

use std::path::Path;

use anyhow::{Context, bail};

use super::common::print;
use crate::{
    base::text,
    control::{self, Reply, Request},
};

/// A wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Stop training until told to go on.
    Pause,
    /// Go on.
    Resume,
    /// End cleanly.
    Stop,
}

/// Tells the running node and prints what it says.
pub fn run(home: &Path, wish: Wish) -> anyhow::Result<()> {
    let (request, verb) = match wish {
        Wish::Pause => (Request::Pause, "pause"),
        Wish::Resume => (Request::Resume, "resume"),
        Wish::Stop => (Request::Stop, "stop"),
    };
    let reply = control::ask(home, &request, &mut |_| {}).with_context(|| format!("cannot {verb}"))?;
    match reply {
        Reply::Done { text } => print(&format!("{}\n", text::one_line(&text, 300))),
        other => bail!("the running node answered with something else: {other:?}"),
    }
}
