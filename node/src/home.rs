//! The home: the one folder in which a node keeps everything, and in which only one process works at a time.
//!
//! | path | what |
//! |---|---|
//! | `journal/` | the git repository that is the truth ([`crate::home::journal`]) |
//! | `pending.json`, `results.tsv` | experiments in flight; the journal as a table |
//! | `index/` | the rebuildable index ([`crate::home::index`]) |
//! | `data/`, `runs/`, `logs/` | prepared datasets; configs and logs of recent runs; logs |
//! | `records/`, `sync/` | the swarm's records; what one `node sync` brings, until it is done |
//! | `lock`, `control.sock` | the lock of the process at work, with its id; the socket by which it is asked |
//!
//! Folders are 0700 and files 0600. What those files say is not here.

pub mod git_config;
pub mod identity;
pub mod index;
pub mod journal;

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Free disk space, bytes, below which nothing is started: a journal that cannot be written is worth nothing.
pub const MIN_FREE_BYTES: u64 = 500 << 20;

/// How often, and how long apart, a lock is asked for again: half a second in all.
const LOCK_TRIES: u32 = 10;
const LOCK_REST: Duration = Duration::from_millis(50);

/// What is wrong with a home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No environment variable says where it is.
    #[error(
        "cannot tell where to keep things: neither `AUTOSWARM_HOME` nor `HOME` is set; pass `--home DIR`"
    )]
    Nowhere,
    /// It cannot be made or written.
    #[error(
        "cannot write to the home `{}`: {source}; make it writable, or choose another with `--home DIR`",
        path.display()
    )]
    NotWritable {
        /// The file or folder that is not writable.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process works in it.
    #[error(
        "another node (process {holder}) works in the home `{}`; ask it with `node status`, stop it, or \
         choose another home with `--home DIR`",
        path.display()
    )]
    Busy {
        /// The folder of the home.
        path: PathBuf,
        /// The other's process id, or `unknown`.
        holder: String,
    },
    /// The disk is nearly full.
    #[error(
        "only {} MB are free on the disk of `{}`, and {} MB are needed; free some space",
        free / 1_000_000, path.display(), MIN_FREE_BYTES / 1_000_000
    )]
    DiskFull {
        /// The folder of the home.
        path: PathBuf,
        /// Bytes that are free on its disk.
        free: u64,
    },
}

/// An open home; nobody else opens it before this is dropped.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// Locked as long as it is open; the operating system unlocks it however this process ends.
    _lock: File,
}

impl Home {
    /// Makes the home where it is missing, locks it, and checks that it can be written and has space.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let failed = |source| HomeError::NotWritable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = lock(path)?;
        let home = Self { path: path.to_owned(), _lock: lock };
        for folder in [home.data(), home.runs(), home.logs()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|source| HomeError::NotWritable { path: folder, source })?;
        }
        home.check_space()?;
        Ok(home)
    }

    /// Returns the default home: the folder that `AUTOSWARM_HOME` names in `environment`, else one in the
    /// platform's data folder.
    pub fn default_path(environment: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, HomeError> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set("AUTOSWARM_HOME") {
            return Ok(path);
        }
        if cfg!(target_os = "macos") {
            let library = set("HOME").map(|home| home.join("Library/Application Support/autoswarm"));
            return library.ok_or(HomeError::Nowhere);
        }
        let data = set("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let data = data.or_else(|| set("HOME").map(|home| home.join(".local/share")));
        data.map(|data| data.join("autoswarm")).ok_or(HomeError::Nowhere)
    }

    /// Returns the process id of the node that works in a home, without waiting for it; none if nobody does.
    pub fn holder(path: &Path) -> Option<String> {
        let file = File::open(path.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder_in(file)),
            _ => None,
        }
    }

    /// Checks that the disk has space for more.
    pub fn check_space(&self) -> Result<(), HomeError> {
        // A file system that does not say gets the benefit of the doubt; writing will tell.
        let Ok(disk) = rustix::fs::statvfs(&self.path) else { return Ok(()) };
        enough_space(&self.path, disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Returns the folder of the home.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder of prepared datasets.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Returns the folder of single runs.
    pub fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Returns the folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Returns the folder of the index.
    pub fn index(&self) -> PathBuf {
        self.path.join("index")
    }
}

fn enough_space(path: &Path, free: u64) -> Result<(), HomeError> {
    if free < MIN_FREE_BYTES { Err(HomeError::DiskFull { path: path.to_owned(), free }) } else { Ok(()) }
}

fn lock(home: &Path) -> Result<File, HomeError> {
    let path = home.join("lock");
    let failed = |source| HomeError::NotWritable { path: path.clone(), source };
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(failed)?;
    match try_patiently(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(HomeError::Busy { path: home.to_owned(), holder: holder_in(file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Locks a file, trying more than once. A node that was just killed may have left its lock to a child that
/// was about to become a trainer; that child is gone in a moment.
fn try_patiently(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_REST),
            other => return other,
        }
    }
    file.try_lock()
}

fn holder_in(file: File) -> String {
    let mut text = String::new();
    // The holder may be about to write its id.
    match file.take(20).read_to_string(&mut text) {
        Ok(1..) => crate::base::text::one_line(&text, 20),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_default(set: &[(&str, &str)], expected: Option<&str>) {
        let lookup =
            |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        assert_eq!(Home::default_path(lookup).ok(), expected.map(PathBuf::from));
    }

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn the_default_follows_the_environment() {
        check_default(&[("AUTOSWARM_HOME", "/a"), ("HOME", "/h")], Some("/a"));
        check_default(&[("AUTOSWARM_HOME", ""), ("HOME", "/h")], Some("/h/.local/share/autoswarm"));
        check_default(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")], Some("/x/autoswarm"));
        check_default(&[("XDG_DATA_HOME", "x"), ("HOME", "/h")], Some("/h/.local/share/autoswarm"));
        check_default(&[], None);
    }

    #[test]
    fn a_second_one_is_told_who_holds_the_home_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("home");
        assert_eq!(Home::holder(&path), None);
        let first = Home::open(&path).expect("a free home");
        let error = Home::open(&path).expect_err("it is taken").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains(&path.display().to_string()) && error.contains("--home"), "{error}");
        assert_eq!(Home::holder(&path), Some(std::process::id().to_string()));
        drop(first);
        // A child that another test has just forked holds every lock of this process until it runs its own
        // program.
        let soon = |is_so: &dyn Fn() -> bool| {
            let wait = || std::thread::sleep(std::time::Duration::from_millis(10));
            (0..500).any(|_| is_so() || (wait(), false).1)
        };
        assert!(soon(&|| Home::holder(&path).is_none()), "nobody holds it, and somebody is named");
        assert!(soon(&|| Home::open(&path).is_ok()), "free again");
    }

    #[test]
    fn a_home_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(&folder.path().join("home")).expect("a free home");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode(home.path()), mode(&home.runs())), (0o700, 0o700));
        assert_eq!(mode(&home.path().join("lock")), 0o600);
    }

    #[test]
    fn a_home_that_cannot_be_written_says_so_and_how_to_choose_another() {
        // Permissions do not bind root; a file where a folder should be does.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let error = Home::open(&file.join("home")).expect_err("no folder can be there").to_string();
        assert!(error.contains("cannot write to the home") && error.contains("--home DIR"), "{error}");
    }

    #[test]
    fn a_full_disk_says_how_much_is_needed() {
        let error = enough_space(Path::new("/h"), 499_000_000).expect_err("too little").to_string();
        assert_eq!(error, "only 499 MB are free on the disk of `/h`, and 524 MB are needed; free some space");
        assert!(enough_space(Path::new("/h"), MIN_FREE_BYTES).is_ok());
    }
}
