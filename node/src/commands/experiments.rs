//! `node experiments`: lists and shows what this node has done, from the running node or from the journal.

use std::{env, io, path::Path};

use anyhow::{Context, anyhow, bail};
use autoswarm_protocol::Experiment;

use super::{
    common::{open_existing, print, stdout_width},
    replay,
};
use crate::{
    base::{clock::unix_now, hint::hinted},
    cli::{
        args::{ExperimentsAction, ExperimentsArgs, ListArgs, ShowArgs},
        settings::{SessionSpec, load_swarm_config},
    },
    control::{self, ControlError, Reply, Request},
    events::rows::{self, ExperimentFilter, ExperimentRow},
    home::journal::{Journal, Recorded},
    machine::guest,
    proposers::{
        directed::ProgramPaths,
        evolve::{Evolve, Machine},
    },
    research::beliefs::NOTHING_BELIEVED,
    research::{Propose, beliefs::Importance},
    ui::view::{importance, json, lists},
};

/// Vocabulary of the default tokenizer. Memory is predicted from it until runs were measured.
const VOCABULARY: u32 = 256;

/// Runs the action that was asked for; without one it lists.
pub fn run(home: &Path, args: ExperimentsArgs) -> anyhow::Result<()> {
    match args.action {
        None if args.importance => show_importance(home, &args.list),
        None => list(home, &args.list),
        Some(ExperimentsAction::List(list_args)) => list(home, &list_args),
        Some(ExperimentsAction::Show(show_args)) => show(home, &show_args),
        Some(ExperimentsAction::Replay(replay_args)) => replay::run(home, &replay_args),
    }
}

fn list(home: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let verdict = args.verdict.map(|verdict| verdict.name().to_owned());
    let rows = rows(home, &ExperimentFilter { verdict, limit: args.limit })?;
    if args.output.json {
        return rows.iter().try_for_each(|row| Ok(json::write_line(&mut io::stdout(), row)?));
    }
    print(&lists::table(&rows, unix_now(), stdout_width()))
}

fn rows(home: &Path, filter: &ExperimentFilter) -> anyhow::Result<Vec<ExperimentRow>> {
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

/// Prints what the search believes of each knob.
fn show_importance(home: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let beliefs = match control::ask(home, &Request::Importance, &mut |_| {}) {
        Ok(Reply::Importance { importance }) => *importance,
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => importance_from_journal(home)?,
        Err(error) => return Err(error.into()),
    };
    if args.output.json {
        return Ok(json::write_line(&mut io::stdout(), &beliefs)?);
    }
    print(&importance::page(&beliefs, args.limit as usize, stdout_width()))
}

/// Makes a search that has seen the home's experiments in the arena of the newest one, and returns what it
/// believes. It knows from the recorded runs alone what fits the machine.
fn importance_from_journal(home: &Path) -> anyhow::Result<Importance> {
    let mut experiments = from_journal(home)?;
    let nothing = || hinted(NOTHING_BELIEVED, "`node solo` measures one");
    let arena = experiments.last().ok_or_else(nothing)?.arena;
    experiments.retain(|experiment| experiment.arena == arena);
    let mut reports = experiments.iter().flat_map(|it| &it.runs).filter_map(|run| run.outcome.report());
    let seconds = reports.next_back().ok_or_else(nothing)?.training_seconds;
    let last = SessionSpec::default().or_last(home);
    let objective = load_swarm_config(last.swarm_config.as_deref().unwrap_or("default"))?.objective;
    let threads = guest::default_threads(guest::cores()) as u16;
    let machine = Machine::cpu(threads, guest::memory_bytes(), VOCABULARY);
    let mut evolve = Evolve::new(objective, machine, seconds, 0);
    let folder = env::current_dir().context("cannot tell which folder this is")?;
    evolve.direct(ProgramPaths { asked: None, folder, home: home.to_owned() }.read()?);
    for experiment in &experiments {
        evolve.observe(experiment);
    }
    evolve.importance().ok_or_else(nothing)
}

/// Returns one experiment by its number, or by the first digits of its id or of its commit.
pub fn one(home: &Path, id: &str) -> anyhow::Result<Experiment> {
    match control::ask(home, &Request::Show { id: id.to_owned() }, &mut |_| {}) {
        Ok(Reply::Experiment { experiment }) => Ok(*experiment),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => {
            let recorded = recorded(home)?;
            let experiments = recorded.iter().map(|found| (&found.experiment, found.commit.as_str()));
            rows::find(experiments, id).cloned().map_err(|reason| anyhow!(reason))
        }
        Err(error) => Err(error.into()),
    }
}

fn from_journal(home: &Path) -> anyhow::Result<Vec<Experiment>> {
    Ok(recorded(home)?.into_iter().map(|found| found.experiment).collect())
}

fn recorded(home: &Path) -> anyhow::Result<Vec<Recorded>> {
    let _held = open_existing(home)?;
    Ok(Journal::open(home)?.experiments)
}
