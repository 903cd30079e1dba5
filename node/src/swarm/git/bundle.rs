//! Bundles: a repository in one file, to carry where no connection goes.
//!
//! The format is git's version 2: a signature, a line for each ref, an empty line, a pack. `git clone`,
//! `git fetch` and `git bundle verify` read what is written here, and what git writes is read here.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
};

use anyhow::{Context, bail, ensure};
use git2::{Oid, Repository};

const SIGNATURE: &str = "# v2 git bundle\n";
/// Signature of version 3, which differs by its capabilities alone.
const SIGNATURE_3: &str = "# v3 git bundle\n";
/// Longest line of the head, bytes: git's longest ref and an id.
const MAX_LINE: u64 = 4096;
/// Most lines of the head, one for each ref.
const MAX_LINES: usize = 400_000;
/// Largest bundle that is read, bytes: ten times 100,000 records.
const MAX_BUNDLE_BYTES: u64 = 2 << 30;

/// Reads a bundle's objects into `repository` and returns its refs.
pub fn read(file: &Path, repository: &Repository) -> anyhow::Result<Vec<(String, Oid)>> {
    let shown = file.display();
    let open = File::open(file).with_context(|| format!("cannot read the bundle `{shown}`"))?;
    let mut reader = BufReader::new(open.take(MAX_BUNDLE_BYTES));
    let refs = read_head(&mut reader).with_context(|| format!("`{shown}` is no bundle that is read here"))?;
    let damaged = || format!("the bundle `{shown}` is damaged");
    let odb = repository.odb()?;
    let mut pack = odb.packwriter()?;
    let mut chunk = vec![0; 1 << 16];
    loop {
        match reader.read(&mut chunk)? {
            0 => break,
            n => pack.write_all(&chunk[..n]).with_context(damaged)?,
        }
    }
    pack.commit().with_context(damaged)?;
    Ok(refs)
}

fn read_head(reader: &mut impl BufRead) -> anyhow::Result<Vec<(String, Oid)>> {
    let mut refs = Vec::new();
    let version = read_line(reader)?;
    ensure!(version == SIGNATURE || version == SIGNATURE_3, "it does not begin as a git bundle");
    for _ in 0..MAX_LINES {
        let line = read_line(reader)?;
        let line = line.strip_suffix('\n').context("it ends in the middle")?;
        if line.is_empty() {
            return Ok(refs);
        }
        if line == "@object-format=sha1" {
            continue;
        }
        ensure!(!line.starts_with('@'), "it asks for `{}`", crate::base::text::one_line(line, 80));
        ensure!(!line.starts_with('-'), "it holds a part only; make it with all of its refs' history");
        let (id, name) = line.split_once(' ').context("a line of its head makes no sense")?;
        ensure!(id.len() == 40, "a line of its head makes no sense");
        refs.push((name.to_owned(), Oid::from_str(id)?));
    }
    bail!("it has more than {MAX_LINES} refs");
}

fn read_line(reader: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    String::from_utf8(line).context("its head is no text")
}

/// Writes a bundle of `refs` with all that they reach, in one step: the old one stays until the new one is
/// whole.
pub fn write(file: &Path, repository: &Repository, refs: &[(String, Oid)]) -> anyhow::Result<()> {
    let mut walk = repository.revwalk()?;
    refs.iter().try_for_each(|(_, id)| walk.push(*id))?;
    let mut builder = repository.packbuilder()?;
    builder.insert_walk(&mut walk)?;
    let name = file.file_name().context("a bundle needs a name")?;
    let new = file.with_file_name(format!("{}.new", name.to_string_lossy()));
    let failed = || format!("cannot write the bundle `{}`", file.display());
    let mut out = File::create(&new).with_context(failed)?;
    let mut head = SIGNATURE.to_owned();
    for (name, id) in refs {
        head.extend([id.to_string().as_str(), " ", name, "\n"]);
    }
    head.push('\n');
    out.write_all(head.as_bytes()).with_context(failed)?;
    let mut result = Ok(());
    builder.foreach(|chunk| {
        result = out.write_all(chunk);
        result.is_ok()
    })?;
    result.and_then(|()| out.sync_all()).and_then(|()| fs::rename(&new, file)).with_context(failed)
}
