//! What several verbs need: start the runtime, open a home, print.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use anyhow::Context as _;

use crate::{base::hint::hinted, home::Home};

/// Makes the runtime of the verbs that supervise trainers. It has two threads; the rest of the machine is for
/// training.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.context("cannot start the runtime")
}

/// Writes text to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Returns the columns of the terminal at standard output; more than any line needs for a file or a pipe.
pub(super) fn stdout_width() -> usize {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return 10_000;
    }
    rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .filter(|size| size.ws_col > 0)
        .map_or(80, |size| usize::from(size.ws_col))
}

/// Opens a home that a command only reads; where there is none, the error says so.
pub(super) fn open_existing(path: &Path) -> anyhow::Result<Home> {
    // `Home::open` would make a home, and a command that only reads must not.
    if !path.join("lock").exists() {
        return Err(hinted(
            format!("there is no home at `{}` yet", path.display()),
            "`node solo` makes it; or name another with `--home DIR`",
        ));
    }
    Ok(Home::open(path)?)
}
