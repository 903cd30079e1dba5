//! `node discoveries`: what this node has received, from the running node or from its records.

use std::{io, path::Path};

use anyhow::{anyhow, bail};
use autoswarm_protocol::{Patch, TrainConfig, Verdict, id::Author};
use serde::Serialize;

use super::{
    common::{open_existing, print, stdout_width},
    join,
};
use crate::{
    base::{clock::unix_now, hint::hinted},
    cli::args::{
        Against, DiffArgs, DiscoveriesAction, DiscoveriesArgs, DiscoveryArgs, DiscoveryListArgs, ExportArgs,
        ExportForm,
    },
    control::{self, ControlError, Reply, Request},
    home::identity,
    session,
    swarm::{
        discoveries::{self, Details, Discoveries, DiscoveryFilter, Listing, Whose},
        network::archive::Archive,
    },
    ui::view::{
        discoveries::{self as pages, Sides},
        json::write_line,
        look::Colour,
    },
};

/// Runs the action that was asked for; without one it lists.
pub fn run(home: &Path, args: DiscoveriesArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(home, &args.list),
        Some(DiscoveriesAction::List(args)) => list(home, &args),
        Some(DiscoveriesAction::Show(args)) => show(home, &args),
        Some(DiscoveriesAction::Diff(args)) => diff(home, &args),
        Some(DiscoveriesAction::Export(args)) => export(home, args),
    }
}

fn list(home: &Path, args: &DiscoveryListArgs) -> anyhow::Result<()> {
    let filter = filter(args, unix_now());
    // Sort and limit are no filters: they alone never leave the list empty.
    let takes_all =
        filter == DiscoveryFilter { sort: filter.sort, limit: filter.limit, ..DiscoveryFilter::default() };
    let Listing { rows, left_out } = some(home, &filter)?;
    if args.output.json {
        rows.iter().try_for_each(|row| write_line(&mut io::stdout(), row))?;
    } else if rows.is_empty() && !takes_all {
        print("no discovery passes the filters\n")?;
    } else {
        print(&pages::table(&rows, unix_now(), stdout_width()))?;
    }
    say_left_out(left_out);
    Ok(())
}

/// Makes a filter of what was typed; `now` is in seconds since 1970.
fn filter(args: &DiscoveryListArgs, now: u64) -> DiscoveryFilter {
    DiscoveryFilter {
        id: None,
        status: args.status,
        author: args.author.clone(),
        whose: match (args.mine, args.foreign) {
            (true, _) => Whose::Mine,
            (_, true) => Whose::Foreign,
            _ => Whose::All,
        },
        knob: args.knob.clone(),
        budget: args.class,
        arena: args.arena.clone(),
        since: args.since.map(|age| now.saturating_sub(age.as_secs())),
        sort: args.sort,
        limit: args.limit,
    }
}

/// Tells on standard error how many rows the printed list lacks.
fn say_left_out(left_out: u32) {
    if left_out > 0 {
        tracing::warn!("{left_out} more are left out; `--limit` takes more, the filters fewer");
    }
}

fn show(home: &Path, args: &DiscoveryArgs) -> anyhow::Result<()> {
    let (details, _) = one(home, &args.id)?;
    if args.output.json {
        return Ok(write_line(&mut io::stdout(), &details)?);
    }
    print(&pages::show(&details))
}

/// What `diff --json` prints.
#[derive(Serialize)]
struct Difference<'a> {
    id: &'a str,
    against: &'a str,
    /// The changes that lead from the other config to the discovery's.
    changes: &'a Patch,
    /// The changes that the discovery itself claims, from its parent.
    claimed: &'a Patch,
}

fn diff(home: &Path, args: &DiffArgs) -> anyhow::Result<()> {
    let (details, incumbent) = one(home, &args.which.id)?;
    let discovery = &details.discovery;
    let (against, from, base) = match (args.against, incumbent) {
        (None | Some(Against::Incumbent), Some(config)) => ("incumbent", "this node's incumbent", config),
        (Some(Against::Incumbent), None) => {
            return Err(hinted(
                "this node has no incumbent yet",
                "`--against parent` has another comparison",
            ));
        }
        (None | Some(Against::Parent), _) => {
            let parent =
                discovery.parent().ok_or_else(|| anyhow!("its patch does not lead to its config"))?;
            ("parent", "its parent", parent)
        }
    };
    let changes = Patch::between(&base, &discovery.config);
    let claimed = &discovery.patch;
    if args.which.output.json {
        let difference = Difference { id: &details.id, against, changes: &changes, claimed };
        return Ok(write_line(&mut io::stdout(), &difference)?);
    }
    let to = format!("{} by {}", &details.id[..8], &details.author[..8]);
    print(&pages::difference(Sides { from, to: &to }, &changes, claimed, Colour::for_stdout()))
}

fn export(home: &Path, args: ExportArgs) -> anyhow::Result<()> {
    let form = if args.json { ExportForm::Json } else { args.form };
    if form == ExportForm::Tsv {
        let Listing { rows, left_out } =
            some(home, &DiscoveryFilter { id: args.id.clone(), ..DiscoveryFilter::default() })?;
        if let (Some(id), true) = (&args.id, rows.is_empty()) {
            bail!("there is no discovery `{id}`; `node discoveries` lists them");
        }
        say_left_out(left_out);
        return print(&discoveries::tsv(&rows));
    }
    let Some(id) = args.id else {
        return Err(hinted("this form is of one discovery", "name it, or take `--as tsv`, which has all"));
    };
    let (details, _) = one(home, &id)?;
    match form {
        ExportForm::Json => Ok(write_line(&mut io::stdout(), &details.discovery.config)?),
        ExportForm::Autoresearch => print(&discoveries::autoresearch(&details)),
        ExportForm::Toml | ExportForm::Tsv => print(&discoveries::toml(&details)),
    }
}

/// Returns the discoveries that pass a filter.
fn some(home: &Path, filter: &DiscoveryFilter) -> anyhow::Result<Listing> {
    match control::ask(home, &Request::Discoveries { filter: filter.clone() }, &mut |_| {}) {
        Ok(Reply::Discoveries { listing }) => Ok(listing),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => Ok(at_rest(home)?.0.list(filter)),
        Err(error) => Err(error.into()),
    }
}

/// Returns one discovery by the first digits of its id, and the incumbent of this node.
fn one(home: &Path, id: &str) -> anyhow::Result<(Details, Option<TrainConfig>)> {
    match control::ask(home, &Request::Discovery { id: id.to_owned() }, &mut |_| {}) {
        Ok(Reply::Discovery { details, incumbent }) => Ok((*details, incumbent.map(|config| *config))),
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => {
            let (discoveries, incumbent) = at_rest(home)?;
            Ok((discoveries.find(id).map_err(|reason| anyhow!(reason))?, incumbent))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the records of a home where no node runs. Returns them with the node's incumbent: the config of the
/// journal's last baseline or keep.
fn at_rest(home: &Path) -> anyhow::Result<(Discoveries, Option<TrainConfig>)> {
    let held_home = open_existing(home)?;
    let Some((swarm_config, _)) = join::held(&home.join(join::SWARM_CONFIG)) else {
        return Err(hinted("this home never joined a swarm", "`node join` does"));
    };
    let own = Author::of(&identity::load(home)?).ok_or_else(|| anyhow!("the identity is no ed25519 key"))?;
    let (archive, _) = Archive::open(&home.join(session::RECORDS), swarm_config.objective, unix_now())?;
    let mut discoveries = Discoveries::new(own);
    for held in archive.iter() {
        discoveries.add(&held.record, None, unix_now());
    }
    let mut incumbent = None;
    for found in crate::home::journal::Journal::open(held_home.path())?.experiments {
        discoveries.observe(&found.experiment);
        if matches!(found.experiment.verdict, Verdict::Baseline | Verdict::Keep { .. }) {
            incumbent = Some((*found.experiment.config).clone());
        }
    }
    Ok((discoveries, incumbent))
}
