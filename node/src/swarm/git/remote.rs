//! Git remotes by which records are exchanged: a repository in a folder, a bundle, or whatever the `git`
//! command reaches.
//!
//! A folder is read and written by libgit2 alone: git itself would run that repository's hooks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use autoswarm_protocol::id::{Author, RecordId};
use git2::{Oid, Repository, RepositoryOpenFlags};

use super::{
    DISCOVERIES, RECORDS, bundle, git_command,
    harvest::{Harvest, harvest},
    records_ref, sync_folder,
    writer::{Log, refs_of},
};
use crate::base::{hint::hinted, text};

/// A place to sync with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A repository in a folder of this machine.
    Folder(PathBuf),
    /// A bundle file, which need not exist yet.
    Bundle(PathBuf),
    /// Anything else that the `git` command understands.
    Url(String),
}

impl Remote {
    /// Reads what a person wrote; paths are relative to the current folder.
    pub fn parse(remote: &str) -> anyhow::Result<Self> {
        if let Some(path) = remote.strip_prefix("file://") {
            return Self::parse_path(Path::new(path), remote);
        }
        if remote.contains("://") {
            return Ok(Self::Url(remote.to_owned()));
        }
        let path = Path::new(remote);
        // `host:path` is ssh, as for git itself, unless there is a file of that name.
        let host = remote.split_once(':').map(|(host, _)| host).filter(|host| !host.contains('/'));
        match host {
            Some(host) if !host.is_empty() && !path.exists() => Ok(Self::Url(remote.to_owned())),
            _ => Self::parse_path(path, remote),
        }
    }

    fn parse_path(path: &Path, remote: &str) -> anyhow::Result<Self> {
        let shown = text::one_line(remote, 200);
        if path.is_dir() {
            Ok(Self::Folder(path.to_owned()))
        } else if path.is_file() || (!path.exists() && path.extension().is_some_and(|end| end == "bundle")) {
            Ok(Self::Bundle(path.to_owned()))
        } else {
            Err(hinted(
                format!("there is no repository and no bundle at `{shown}`"),
                format!(
                    "`git init --bare {shown}` makes a repository; \
                     a name that ends in `.bundle` makes a bundle"
                ),
            ))
        }
    }

    /// Reads what is there. Candidates for the archive go to `out`, except for files that are `known`.
    pub fn read(
        &self,
        home: &Path,
        known: &BTreeMap<Oid, RecordId>,
        out: &mut impl Write,
    ) -> anyhow::Result<Harvest> {
        match self {
            Self::Folder(path) => {
                let repository = self.open(path)?;
                harvest(&repository, refs_of(&repository, "refs/swarm")?, known, out)
            }
            Self::Bundle(path) if !path.exists() => Ok(Harvest::default()),
            Self::Bundle(path) => {
                let repository = git_command::staging(&staging(home))?;
                harvest(&repository, bundle::read(path, &repository)?, known, out)
            }
            Self::Url(url) => {
                if !git_command::is_installed() {
                    return Err(hinted(
                        format!("`{self}` needs the `git` command, which is not installed"),
                        "install git, or sync with a folder or a bundle file",
                    ));
                }
                let repository = git_command::staging(&staging(home))?;
                let refs = [DISCOVERIES, RECORDS].map(|prefix| format!("+{prefix}*:{prefix}*"));
                let options =
                    ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--"];
                let arguments: Vec<&str> = options
                    .into_iter()
                    .chain([url.as_str()])
                    .chain(refs.iter().map(String::as_str))
                    .collect();
                git_command::run(&staging(home), &arguments)
                    .with_context(|| format!("cannot fetch from `{self}`"))?;
                harvest(&repository, refs_of(&repository, "refs/swarm")?, known, out)
            }
        }
    }

    fn open(&self, path: &Path) -> anyhow::Result<Repository> {
        let flags = RepositoryOpenFlags::NO_SEARCH;
        Repository::open_ext(path, flags, &[] as &[&Path])
            .with_context(|| format!("`{self}` is no git repository that can be used"))
    }

    /// Writes what the home has in git to the remote; `there` is what was read from it before.
    pub fn write(&self, home: &Path, ours: &Ours, there: &Harvest) -> anyhow::Result<()> {
        let journal = home.join("journal");
        let new: Vec<&(String, Oid)> = ours.refs.iter().filter(|found| !there.refs.contains(found)).collect();
        if new.is_empty() {
            return Ok(());
        }
        match self {
            Self::Folder(path) => {
                let remote = self.open(path)?;
                copy(&Repository::open_bare(&journal)?, &remote, &new, there)
                    .with_context(|| format!("cannot write to `{self}`"))
            }
            Self::Bundle(path) => {
                // The bundle is replaced as a whole: records that it alone holds would be lost.
                let held: BTreeSet<&RecordId> = ours.files.values().collect();
                if !there.records.iter().all(|id| held.contains(id)) {
                    return Err(hinted(
                        format!(
                            "the bundle `{self}` holds records that this node did not take, \
                             so it is left as it is"
                        ),
                        "sync with a new bundle to carry what this node holds",
                    ));
                }
                bundle::write(path, &Repository::open_bare(&journal)?, &ours.refs)
            }
            Self::Url(url) => {
                // Only this node writes its chain, and a discovery has one commit. So what differs there is
                // older or wrong, and is overwritten.
                let options = ["push", "--quiet", "--no-verify", "--", url.as_str()];
                let all = format!("+{DISCOVERIES}*:{DISCOVERIES}*");
                let chain = new.iter().find(|(name, _)| name.starts_with(RECORDS));
                let chain = chain.map(|(name, _)| format!("+{name}:{name}"));
                let arguments: Vec<&str> =
                    options.into_iter().chain([all.as_str()]).chain(chain.as_deref()).collect();
                git_command::run(&journal, &arguments).with_context(|| format!("cannot push to `{self}`"))
            }
        }
    }
}

/// Copies what `refs` reach and the remote lacks: objects first, refs last.
fn copy(
    journal: &Repository,
    remote: &Repository,
    refs: &[&(String, Oid)],
    there: &Harvest,
) -> anyhow::Result<()> {
    let theirs = remote.odb()?;
    let mut walk = journal.revwalk()?;
    for (_, id) in refs {
        walk.push(*id)?;
    }
    // What both sides have need not be copied.
    for (_, id) in &there.refs {
        if theirs.exists(*id) && journal.find_commit(*id).is_ok() {
            walk.hide(*id)?;
        }
    }
    let mut builder = journal.packbuilder()?;
    builder.insert_walk(&mut walk)?;
    if builder.object_count() > 0 {
        let mut pack = theirs.packwriter()?;
        let mut result = Ok(());
        builder.foreach(|chunk| {
            result = pack.write_all(chunk);
            result.is_ok()
        })?;
        result?;
        pack.commit()?;
    }
    for (name, id) in refs {
        remote.reference(name, *id, true, "node sync")?;
    }
    Ok(())
}

/// Returns the repository into which the `git` command and bundles put what is not judged yet.
fn staging(home: &Path) -> PathBuf {
    sync_folder(home).join("staging.git")
}

/// What a home has in git: its records, and the refs that others get.
#[derive(Debug, Default)]
pub struct Ours {
    /// The records, by the file that holds each.
    pub files: BTreeMap<Oid, RecordId>,
    /// The refs that others get: discoveries' commits and this node's chain.
    pub refs: Vec<(String, Oid)>,
}

impl Ours {
    /// Reads the journal of a home; nothing where there is none yet.
    pub fn read(home: &Path, node: Author) -> anyhow::Result<Self> {
        let Ok(journal) = Repository::open_bare(home.join("journal")) else { return Ok(Self::default()) };
        let mut refs = refs_of(&journal, DISCOVERIES)?;
        // The running node may write meanwhile: what counts is what these refs reach.
        let chain = refs_of(&journal, &records_ref(node))?;
        let logs = chain.iter().map(|(_, tip)| Log::at(&journal, *tip));
        let files =
            logs.flat_map(|log| log.files().map(|(id, file)| (file, id)).collect::<Vec<_>>()).collect();
        refs.extend(chain);
        Ok(Self { files, refs })
    }
}

impl fmt::Display for Remote {
    /// Prints the remote in one line. What stands before a URL's host may be a password, so it is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self {
            Self::Folder(path) | Self::Bundle(path) => path.display().to_string(),
            Self::Url(url) => match url.split_once("://") {
                Some((scheme, rest)) => {
                    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                    format!("{scheme}://{host}/{path}")
                }
                None => url.clone(),
            },
        };
        f.write_str(&text::one_line(&shown, 200))
    }
}
