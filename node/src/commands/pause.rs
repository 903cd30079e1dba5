//! `node pause`, `node resume` and `node stop`: simple requests to the running node.

use std::path::Path;

use anyhow::{Context, bail};

use super::common::print;
use crate::{
    base::text,
    control::{self, Reply, Request},
};

/// What a person wants of the running node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Stop training until told to go on.
    Pause,
    /// Train again after a pause.
    Resume,
    /// End the node cleanly.
    Stop,
}

/// Sends the request to the running node and prints its answer.
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
