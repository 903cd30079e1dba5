//! The cache of corpora that are expensive to make: one copy per user.
//!
//! A stored corpus is a folder with two files: `listing.tsv` ([`Corpus::listing`]), and `text`, the documents
//! one after the other. The folder appears complete or not at all. It is checked byte for byte whenever it is
//! read.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use autoswarm_protocol::{Split, id::CorpusHash};

use super::{Corpus, CorpusError, Document, Progress};

/// Returns the folder of stored corpora: below `AUTOSWARM_CACHE` if it is set, else in the platform's cache
/// folder.
pub fn default_cache() -> Result<PathBuf, CorpusError> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("AUTOSWARM_CACHE").or_else(|| Some(platform_cache(&set)?.join("autoswarm")));
    cache.map(|cache| cache.join("corpora")).ok_or_else(|| CorpusError::Io {
        action: "find",
        path: "$HOME".into(),
        source: io::Error::other("it is not set; set it or AUTOSWARM_CACHE"),
    })
}

fn platform_cache(set: &impl Fn(&'static str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = || set("HOME");
    if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        set("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    }
}

/// Locks the cache, so that one process at a time prepares a corpus. The lock ends when the returned file is
/// closed.
pub fn lock(cache: &Path, progress: Progress<'_>) -> Result<File, CorpusError> {
    let path = cache.join(".lock");
    let fail = |source| CorpusError::Io { action: "lock", path: path.clone(), source };
    fs::create_dir_all(cache).map_err(fail)?;
    let file = File::create(&path).map_err(fail)?;
    if file.try_lock().is_err() {
        progress("wait", 0, 0);
        file.lock().map_err(fail)?;
    }
    Ok(file)
}

/// Returns the corpus stored under `name` if it is there, undamaged, and has this id.
pub fn load(cache: &Path, name: &str, hash: CorpusHash, progress: Progress<'_>) -> Option<Corpus> {
    let folder = cache.join(name);
    let listing = fs::read_to_string(folder.join("listing.tsv")).ok()?;
    if CorpusHash::of(listing.as_bytes()) != hash {
        return None;
    }
    progress("load", 0, 0);
    let mut text = String::from_utf8(fs::read(folder.join("text")).ok()?).ok()?;
    // Documents are cut off from the end of the text, so that the bytes of each move only once.
    let mut documents = Vec::new();
    for line in listing.lines().rev() {
        let mut fields = line.splitn(4, '\t');
        let split = fields.next()?;
        let split = Split::ALL.into_iter().find(|known| known.name() == split)?;
        let length: usize = fields.next()?.parse().ok()?;
        let wanted = fields.next()?;
        let path = fields.next()?.to_owned();
        let start = text.len().checked_sub(length).filter(|&start| text.is_char_boundary(start))?;
        let document = Document { path, split, text: text.split_off(start) };
        if blake3::hash(document.text.as_bytes()).to_hex().as_str() != wanted {
            return None;
        }
        documents.push(document);
    }
    text.is_empty().then(|| Corpus::new(documents, Vec::new()))
}

/// Stores a corpus under `name`, and replaces what is there.
pub fn save(cache: &Path, name: &str, corpus: &Corpus) -> Result<(), CorpusError> {
    let folder = cache.join(name);
    let partial = cache.join(format!("{name}.partial"));
    let fail = |source| CorpusError::Io { action: "write", path: partial.clone(), source };
    for old in [&partial, &folder] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
    }
    fs::create_dir_all(&partial).map_err(fail)?;
    write_files(&partial, corpus).map_err(fail)?;
    fs::rename(&partial, &folder).map_err(fail)
}

fn write_files(folder: &Path, corpus: &Corpus) -> io::Result<()> {
    fs::write(folder.join("listing.tsv"), corpus.listing())?;
    let mut text = io::BufWriter::new(File::create(folder.join("text"))?);
    for document in corpus.documents() {
        text.write_all(document.text.as_bytes())?;
    }
    text.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
