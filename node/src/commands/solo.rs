//! `node solo`: research alone on this machine until told to stop.

use std::path::Path;

use super::common::runtime;
use crate::{
    cli::{args::SoloArgs, settings::Settings},
    session,
    ui::view::View,
};

/// Runs `node solo`.
pub fn run(home: &Path, args: &SoloArgs) -> anyhow::Result<()> {
    let settings = Settings::for_solo(args)?;
    runtime()?.block_on(session::solo(&settings, home, View::for_stdout(args.session.output.json)))
}
