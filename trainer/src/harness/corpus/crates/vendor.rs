//! The pinned crates on disk, fetched by `cargo vendor --locked`.
//!
//! Cargo does the work: it downloads, resumes, honours the user's proxies and mirrors, and checks every crate
//! against the lock file.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::corpus::{CorpusError, Progress};

/// The Cargo manifest that lists the crates of the corpus.
pub const MANIFEST: &str = include_str!("crates.toml");

/// The lock file of [`MANIFEST`].
pub const LOCK: &str = include_str!("crates.lock");

/// The number of last lines of cargo's output that an error repeats.
const LAST_WORDS: usize = 4;

/// Returns the names and versions of the crates that the manifest lists, as the lock file pins them.
pub fn listed() -> BTreeMap<String, String> {
    let manifest: toml::Table = MANIFEST.parse().expect("the committed manifest is TOML");
    let names = manifest["dependencies"].as_table().expect("the committed manifest lists dependencies");
    let mut listed = BTreeMap::new();
    for (name, version) in locked() {
        let Some(wanted) = names.get(&name).and_then(|entry| entry["version"].as_str()) else { continue };
        let wanted = wanted.trim_start_matches('=');
        // The lock names the build metadata after `+`, the manifest does not.
        if version.split('+').next() == Some(wanted) {
            listed.insert(name, version);
        }
    }
    listed
}

/// Returns name and version of every crate in the lock file that comes from a registry.
fn locked() -> Vec<(String, String)> {
    let lock: toml::Table = LOCK.parse().expect("the committed lock is TOML");
    let packages = lock["package"].as_array().expect("the committed lock lists packages");
    packages
        .iter()
        .filter(|package| package.get("source").is_some())
        .filter_map(|package| {
            Some((package["name"].as_str()?.to_owned(), package["version"].as_str()?.to_owned()))
        })
        .collect()
}

/// Vendors the pinned crates below `cache` and returns their folder. Remains of an interrupted run are
/// removed first. Its downloads are not repeated: they are in cargo's own cache.
pub fn vendor(cache: &Path, progress: Progress<'_>) -> Result<PathBuf, CorpusError> {
    let work = cache.join("crates.partial");
    let fail = |source| CorpusError::Io { action: "write", path: work.clone(), source };
    if work.exists() {
        fs::remove_dir_all(&work).map_err(fail)?;
    }
    fs::create_dir_all(&work).map_err(fail)?;
    fs::write(work.join("Cargo.toml"), MANIFEST).map_err(fail)?;
    fs::write(work.join("Cargo.lock"), LOCK).map_err(fail)?;
    // The manifest names this empty library, because a package needs a target.
    fs::write(work.join("lib.rs"), "").map_err(fail)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["vendor", "--locked", "--versioned-dirs", "--color", "never", "vendor"])
        .current_dir(&work)
        // Progress is read from cargo's output, which this variable would silence.
        .env_remove("CARGO_TERM_QUIET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    run(&mut command, progress)?;
    Ok(work)
}

/// Runs cargo and turns its output on standard error into progress.
fn run(command: &mut Command, progress: Progress<'_>) -> Result<(), CorpusError> {
    let mut child = command.spawn().map_err(|error| CorpusError::Vendor {
        reason: format!("cannot run cargo: {error}"),
        fix: "put the Rust tool chain's `cargo` on the PATH, or give a corpus of your own with --corpus PATH"
            .to_owned(),
    })?;
    let total = locked().len() as u64;
    let (mut downloaded, mut vendored) = (0, 0);
    let mut last_words: Vec<String> = Vec::new();
    let stderr = child.stderr.take().expect("the child's standard error is piped");
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let line = line.trim();
        if line.starts_with("Downloaded ") {
            downloaded += 1;
            progress("download", downloaded, total);
        } else if line.starts_with("Vendoring ") {
            vendored += 1;
            progress("extract", vendored, total);
        } else if !line.is_empty() {
            last_words.push(line.to_owned());
            last_words.drain(..last_words.len().saturating_sub(LAST_WORDS));
        }
    }
    let status = child.wait().map_err(|error| CorpusError::Vendor {
        reason: format!("cargo was lost: {error}"),
        fix: "run it again".to_owned(),
    })?;
    if status.success() {
        return Ok(());
    }
    Err(CorpusError::Vendor {
        reason: format!("`cargo vendor` failed ({status}): {}", last_words.join(" ")),
        fix: "check the network and the free disk (0.7 GB) and run it again: what was downloaded is kept; \
              or give a corpus of your own with --corpus PATH"
            .to_owned(),
    })
}
