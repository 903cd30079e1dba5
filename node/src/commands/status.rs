//! `node status`: what the running node is doing, or what the home holds while no node runs.

use std::{
    io::{self, IsTerminal},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::bail;
use serde::Serialize;

use super::common::{open_existing, print, stdout_width};
use crate::{
    base::clock::unix_now,
    cli::args::StatusArgs,
    control::{self, ControlError, Reply, Request},
    events::RECENT_VERDICTS,
    home::journal::Journal,
    swarm::{discoveries::SwarmView, network::NetworkView},
    ui::view::{
        json,
        lists::{self, HomeAtRest},
        swarm,
    },
};

/// Time between two prints of `--watch`.
const WATCH_REST: Duration = Duration::from_secs(1);

/// Prints the status once, or again every second.
pub fn run(home: &Path, args: &StatusArgs) -> anyhow::Result<()> {
    loop {
        let text = once(home, args.output.json)?;
        if args.watch && !args.output.json && io::stdout().is_terminal() {
            // Puts the cursor at the top left, and clears what the last print left below.
            print("\u{1b}[H\u{1b}[J")?;
        }
        print(&text)?;
        if !args.watch {
            return Ok(());
        }
        thread::sleep(WATCH_REST);
    }
}

fn once(home: &Path, as_json: bool) -> anyhow::Result<String> {
    match control::ask(home, &Request::Status, &mut |_| {}) {
        Ok(Reply::Status { snapshot }) if as_json => line(&*snapshot),
        Ok(Reply::Status { snapshot }) => Ok(lists::status(&snapshot, stdout_width())),
        Ok(Reply::Network { view, swarm }) if as_json => line(&Observing { network: &view, swarm: &swarm }),
        Ok(Reply::Network { view, swarm }) => Ok(swarm::page(&view, &swarm, None)),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => {
            let _held = open_existing(home)?;
            let opened = Journal::open(home)?;
            let experiments: Vec<_> = opened.experiments.into_iter().map(|found| found.experiment).collect();
            let state = HomeAtRest::of(&experiments, RECENT_VERDICTS);
            if as_json { line(&state) } else { Ok(lists::at_rest(&state, unix_now(), stdout_width())) }
        }
        Err(error) => Err(error.into()),
    }
}

/// The status of a node that trains nothing, as `--json` prints it.
#[derive(Serialize)]
struct Observing<'a> {
    #[serde(flatten)]
    network: &'a NetworkView,
    swarm: &'a SwarmView,
}

fn line(value: &impl Serialize) -> anyhow::Result<String> {
    let mut out = Vec::new();
    json::write_line(&mut out, value)?;
    Ok(String::from_utf8(out)?)
}
