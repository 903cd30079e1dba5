//! The `git` command, for remotes that libgit2 cannot reach as it is built here.
//!
//! **No hooks, no prompts, no protocol that runs commands**, and a remote's name is never an option.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::base::text;

/// Settings of every call. Blobs over 1 MiB are not inflated in memory. Other defaults of the newest gits may
/// write more than is asked for, so they are off.
const SETTINGS: [&str; 13] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.bigFileThreshold=1m",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.followTags=false",
];

/// Environment variables that would point git at another repository than the one that is named.
const UNSET: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_COMMON_DIR",
];

/// Most bytes that are kept of what git says on standard error.
const MAX_SAID: u64 = 64 << 10;

/// Returns whether there is a `git` command to call.
pub(super) fn is_installed() -> bool {
    let version = Command::new("git").arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success())
}

/// Runs `git` on a repository. The error quotes the first line that says what went wrong, else the last line.
pub(super) fn run(repository: &Path, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<()> {
    let mut command = Command::new("git");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    for name in UNSET {
        command.env_remove(name);
    }
    command.arg("--git-dir").arg(repository).args(arguments);
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").env_remove("GIT_CONFIG_PARAMETERS");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start `git`")?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // A remote that talks without end meets a closed pipe.
        stderr.take(MAX_SAID).read_to_end(&mut said)?;
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_verdict =
        |line: &&str| line.starts_with("fatal:") || line.starts_with("error:") || line.contains("rejected]");
    let last = lines().find(is_verdict).or_else(|| lines().next_back()).unwrap_or("it says nothing");
    bail!("git says `{}`", text::one_line(last, 300))
}

/// Makes an empty repository that can read the journal's objects, so that what is known is not sent again.
pub(super) fn staging(path: &Path) -> anyhow::Result<git2::Repository> {
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false).mkpath(true);
    let repository = git2::Repository::init_opts(path, &options)?;
    write_alternates(path).context("cannot prepare a repository in the home")?;
    // Opened again, so that it sees the journal's objects.
    drop(repository);
    Ok(git2::Repository::open_bare(path)?)
}

/// Lets the staging repository read the journal's objects, by a relative path: both are in one home.
fn write_alternates(staging: &Path) -> io::Result<()> {
    const JOURNAL: &str = "../../../journal/objects";
    let objects = staging.join("objects");
    if !objects.join(JOURNAL).is_dir() {
        return Ok(());
    }
    fs::create_dir_all(objects.join("info"))?;
    fs::write(objects.join("info/alternates"), format!("{JOURNAL}\n"))
}
