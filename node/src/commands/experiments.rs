//! `node experiments`: lists and shows what this node has done, from the running node or from the journal.

use std::{io, path::Path};

use anyhow::{anyhow, bail};
use autoswarm_protocol::Experiment;

use crate::{
    cli::{ExperimentsAction, ExperimentsArgs, ListArgs, ShowArgs},
    commands::{self, now, print, stdout_width},
    control::{self, ControlError, Reply, Request},
    journal::Journal,
    view::{
        json,
        lists::{self, Filter, Row},
    },
};

/// Does what was asked with the experiments.
pub fn run(home: &Path, args: ExperimentsArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(home, &args.list),
        Some(ExperimentsAction::List(list_args)) => list(home, &list_args),
        Some(ExperimentsAction::Show(show_args)) => show(home, &show_args),
        Some(ExperimentsAction::Replay(replay_args)) => commands::replay::run(home, &replay_args),
    }
}

fn list(home: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let verdict = args.verdict.map(|verdict| verdict.name().to_owned());
    let rows = rows(home, &Filter { verdict, limit: args.limit })?;
    if args.output.json {
        return rows.iter().try_for_each(|row| Ok(json::write_line(&mut io::stdout(), row)?));
    }
    print(&lists::table(&rows, now(), stdout_width()))
}

fn rows(home: &Path, filter: &Filter) -> anyhow::Result<Vec<Row>> {
    match control::ask(home, &Request::Experiments { filter: filter.clone() }, &mut |_| {}) {
        Ok(Reply::Experiments { rows }) => Ok(rows),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => Ok(filter.apply(from_journal(home)?.iter())),
        Err(error) => Err(error.into()),
    }
}

fn show(home: &Path, args: &ShowArgs) -> anyhow::Result<()> {
    let experiment = one(home, &args.id)?;
    if args.output.json {
        return Ok(json::write_line(&mut io::stdout(), &experiment)?);
    }
    print(&lists::show(&experiment))
}

/// Returns one experiment by its number or the first digits of its id.
pub fn one(home: &Path, id: &str) -> anyhow::Result<Experiment> {
    match control::ask(home, &Request::Show { id: id.to_owned() }, &mut |_| {}) {
        Ok(Reply::Experiment { experiment }) => Ok(*experiment),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => {
            let experiments = from_journal(home)?;
            lists::find(experiments.iter(), id).cloned().map_err(|reason| anyhow!(reason))
        }
        Err(error) => Err(error.into()),
    }
}

fn from_journal(home: &Path) -> anyhow::Result<Vec<Experiment>> {
    let _held = commands::open_existing(home)?;
    Ok(Journal::open(home)?.experiments.into_iter().map(|found| found.experiment).collect())
}
