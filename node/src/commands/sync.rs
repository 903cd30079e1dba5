//! `node sync --git`: exchanges the swarm's records through a git repository or a bundle, with no connection
//! to anybody.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::Path,
    sync::atomic::AtomicBool,
};

use anyhow::{Context, anyhow, bail};
use autoswarm_protocol::{id::Author, swarm_config::Objective};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use super::{
    common::{open_existing, print},
    join,
};
use crate::{
    base::{clock::unix_now, hint::hinted},
    cli::args::SyncArgs,
    control::{self, ControlError, Reply, Request},
    home::{identity, journal::Journal},
    session,
    swarm::{
        git::{
            ArchiveAtRest, Imported, Writer, import, incoming,
            remote::{Ours, Remote},
            restore, sync_folder,
        },
        network::archive::Archive,
    },
    ui::view::json::write_line,
};

/// Most address space of this process, bytes, since what it reads may be made to fill its memory. It is forty
/// times what 100,000 records need.
const MAX_MEMORY: u64 = 4 << 30;
/// Largest file, bytes, that this process or a git that it calls may write.
const MAX_FILE: u64 = 2 << 30;

/// What was sent that the other side lacked.
#[derive(Debug, Serialize)]
struct Exported {
    records: usize,
    discoveries: usize,
}

/// Runs `node sync`: takes the records that are there, then writes those that are here.
pub fn run(home: &Path, args: &SyncArgs) -> anyhow::Result<()> {
    let Some((swarm_config, _)) = join::held(&home.join(join::SWARM_CONFIG)) else {
        return Err(hinted(
            "this home never joined a swarm",
            "`node join` does, also with a swarm config and nobody there",
        ));
    };
    let node = Author::of(&identity::load(home)?).ok_or_else(|| anyhow!("the identity is no ed25519 key"))?;
    let remote = Remote::parse(&args.git)?;
    let _alone = begin(home)?;
    confine()?;
    // Candidates go to a file in the home, from which the running node, if there is one, takes them.
    let mut out = BufWriter::new(File::create(incoming(home)).context("cannot write to the home")?);
    let there = remote.read(home, &Ours::read(home, node)?.files, &mut out)?;
    out.flush().context("cannot write to the home")?;
    drop(out);
    let mut imported = match control::ask(home, &Request::Sync, &mut |_| {}) {
        Ok(Reply::Synced { imported }) => imported,
        Ok(other) => bail!("the running node answered with something else: {other:?}"),
        Err(ControlError::NotRunning) => at_rest(home, node, swarm_config.objective)?,
        Err(error) => return Err(error.into()),
    };
    // The reading itself counts records too: those known by their files, and those it refuses.
    imported.add(there.imported.clone());
    if !args.output.json {
        print(&text(&imported))?;
    }
    let ours = Ours::read(home, node)?;
    remote.write(home, &ours, &there)?;
    let held: BTreeSet<_> = ours.files.values().collect();
    let records = held.iter().filter(|id| !there.records.contains(id)).count();
    let is_new = |found: &&(String, git2::Oid)| !there.refs.contains(found);
    let discoveries = ours.refs.iter().filter(|(name, _)| name.starts_with(crate::swarm::git::DISCOVERIES));
    let exported = Exported { records, discoveries: discoveries.filter(is_new).count() };
    // What cannot be removed now, the next sync removes.
    let _ = fs::remove_dir_all(sync_folder(home));
    if args.output.json {
        #[derive(Serialize)]
        struct Both {
            imported: Imported,
            exported: Exported,
        }
        return Ok(write_line(&mut io::stdout(), &Both { imported, exported })?);
    }
    let Exported { records, discoveries } = exported;
    print(&format!("exported  {records} records, {discoveries} discoveries as commits\n"))
}

fn text(imported: &Imported) -> String {
    let Imported { new, known, refused } = imported;
    let lines = refused
        .iter()
        .map(|(reason, count)| format!("refused   {count}: {}\n", crate::base::text::one_line(reason, 200)));
    std::iter::once(format!("imported  {new} new, {known} known\n")).chain(lines).collect()
}

/// Makes an empty folder for this sync. The open file that it returns keeps other syncs off this home.
fn begin(home: &Path) -> anyhow::Result<File> {
    let failed = || format!("cannot write to the home `{}`", home.display());
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(home.join("sync.lock"));
    let lock = lock.with_context(failed)?;
    if lock.try_lock().is_err() {
        return Err(hinted("another `node sync` works on this home", "try again when it is done"));
    }
    let folder = sync_folder(home);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => fs::create_dir_all(&folder).with_context(failed)?,
    }
    Ok(lock)
}

/// Limits what this process and its children can take of the machine, because a pack can be made to grow when
/// it is read.
fn confine() -> anyhow::Result<()> {
    for (resource, most) in [(Resource::As, MAX_MEMORY), (Resource::Fsize, MAX_FILE)] {
        let Rlimit { current, maximum } = getrlimit(resource);
        let current = Some(current.map_or(most, |now| now.min(most)));
        setrlimit(resource, Rlimit { current, maximum }).context("cannot limit this process")?;
    }
    Ok(())
}

/// Imports the records and brings git level with the archive, as a running node does, where none runs.
fn at_rest(home: &Path, node: Author, objective: Objective) -> anyhow::Result<Imported> {
    let held_home = open_existing(home)?;
    let journal = Journal::open(held_home.path())?.journal.path();
    let now = unix_now();
    let (mut archive, _) = Archive::open(&home.join(session::RECORDS), objective.clone(), now)?;
    // An archive that lost everything is filled again from the journal.
    if archive.is_empty() {
        restore(&journal, node, &mut archive, now)?;
    }
    let mut records = ArchiveAtRest { archive: &mut archive, now };
    let imported = import(&incoming(home), &mut records)?;
    records.archive.flush()?;
    Writer::open(&journal, node, objective)?.round(&mut records, &AtomicBool::new(false))?;
    Ok(imported)
}
