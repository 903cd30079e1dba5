//! Tests of discoveries' commits and their ids, of the writer in any order and after any kill, and of
//! repositories made to harm.

use std::{
    collections::BTreeMap, fs, path::PathBuf, process::Command, sync::atomic::AtomicBool, time::Instant,
};

use autoswarm_protocol::{
    Bpb, Patch, SwarmConfig, TrainConfig,
    id::{ArenaId, ConfigHash},
    record::{Body, Digest, DigestEnding, DigestLine, Discovery, Hardware, Signed, sign, verify},
    swarm_config::Objective,
};
use git2::{Oid, Repository};
use libp2p::identity::Keypair;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::{
    harvest::{Harvest, harvest},
    remote::{Ours, Remote},
    writer::refs_of,
    *,
};
use crate::home::journal::{Journal, JournalCaps};

const NOW: u64 = 1_795_219_384;

/// A swarm config that never changes: the golden ids depend on it.
const CONFIG: &str = "name = \"t\"\ndescription = \"t\"\n[objective]\nmetric = \"val_bpb\"\n\
    corpus = { source = \"path\", path = \"/t\" }\ntokenizer = { kind = \"bytes\" }\n\
    evaluation = { context = 256, tokens = 65536 }\ndtype = \"f32\"\nmin_effect = 0.001\n";

fn objective() -> Objective {
    SwarmConfig::parse(CONFIG).expect("valid").objective
}

fn keys(n: u8) -> Keypair {
    Keypair::ed25519_from_bytes([n; 32]).expect("32 bytes are a key")
}

fn node(n: u8) -> Author {
    Author::of(&keys(n)).expect("ed25519")
}

fn discovery(author: u8, matrix_lr: f64, inspirations: &[RecordId], because: &str) -> Signed {
    let objective = objective();
    let parent = TrainConfig::from_toml("depth = 2").expect("valid").effective(objective.context as usize);
    let patch = Patch::parse(&format!("matrix_lr {matrix_lr}"), &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(objective.context as usize);
    let estimate = autoswarm_protocol::Estimate { delta: -0.02, standard_error: 0.004, pairs: 3 };
    let body = Body::Discovery(Box::new(Discovery {
        arena: ArenaId::of(b"arena"),
        budget: autoswarm_protocol::Budget::Milliseconds(20_000),
        hardware: Hardware { device: "cpu".to_owned(), threads: 1, slots: 2, tokens_per_second: 8100.0 },
        patch,
        config: (*config).clone(),
        estimate,
        audit: None,
        level: Bpb::new(2.4).expect("positive"),
        tokens: (812_032, 812_032),
        seconds: 20.1,
        curve: vec![5.5, 3.1, 2.4],
        inspirations: inspirations.to_vec(),
        because: because.to_owned(),
    }));
    sign(&body, &objective, &keys(author), NOW).expect("valid")
}

fn digest(author: u8, n: u32) -> Signed {
    let patch = Patch::parse("warmup 0.1", &TrainConfig::new()).expect("a patch");
    let line = DigestLine {
        config: ConfigHash::of(&n.to_le_bytes()),
        patch,
        ending: DigestEnding::Discarded,
        found: None,
    };
    let body = Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: vec![line] });
    sign(&body, &objective(), &keys(author), NOW).expect("valid")
}

/// A home with a journal and an archive in memory.
struct Place {
    folder: TempDir,
    archive: Archive,
    node: Author,
}

impl Place {
    fn new(n: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Journal::open(folder.path()).expect("a journal");
        fs::create_dir_all(sync_folder(folder.path())).expect("a folder");
        Self { folder, archive: Archive::in_memory(objective()), node: node(n) }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn take(&mut self, records: &[&Signed]) {
        for record in records {
            assert!(matches!(self.archive.insert(&record.bytes, NOW), Ok(Taken::New(_))));
        }
    }

    fn write(&mut self) -> writer::Written {
        let mut writer = Writer::open(&self.journal(), self.node, objective()).expect("opens");
        let mut records = ArchiveAtRest { archive: &mut self.archive, now: NOW };
        writer.round(&mut records, &AtomicBool::new(false)).expect("writes")
    }

    /// Returns the discoveries' commits by their refs.
    fn commits(&self) -> BTreeMap<String, Oid> {
        let repository = Repository::open_bare(self.journal()).expect("a journal");
        refs_of(&repository, DISCOVERIES).expect("readable").into_iter().collect()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git").arg("--git-dir").arg(self.journal()).args(arguments).output();
        let output = output.expect("git is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Does what `node sync` does with the home of a node that does not run.
    fn sync(&mut self, remote: &Remote) -> (Imported, Harvest) {
        let home = self.folder.path();
        let mut out = fs::File::create(incoming(home)).expect("a file");
        let known = Ours::read(home, self.node).expect("readable").files;
        let there = remote.read(home, &known, &mut out).expect("readable");
        let mut records = ArchiveAtRest { archive: &mut self.archive, now: NOW };
        let mut imported = import(&incoming(home), &mut records).expect("readable");
        imported.add(there.imported.clone());
        self.write();
        let home = self.folder.path();
        remote.write(home, &Ours::read(home, self.node).expect("readable"), &there).expect("writable");
        (imported, there)
    }
}

/// Five discoveries, three of which build on others, and three digests.
fn history() -> Vec<Signed> {
    let a = discovery(1, 0.03, &[], "first");
    let b = discovery(2, 0.02, &[], "second");
    let c = discovery(3, 0.05, &[b.id, a.id], "both");
    let d = discovery(1, 0.06, &[c.id], "later");
    let of_digest = digest(4, 0);
    let e = discovery(2, 0.07, &[of_digest.id, a.id], "not all inspirations are discoveries");
    vec![a, b, c, d, of_digest, e, digest(1, 1), digest(2, 2)]
}

#[test]
fn a_discovery_has_the_same_commit_everywhere_and_for_ever() {
    let mut place = Place::new(9);
    let history = history();
    place.take(&history.iter().collect::<Vec<_>>());
    assert_eq!(place.write(), writer::Written { records: 8, discoveries: 5 });
    let commits = place.commits();
    let of = |record: &Signed| {
        let name = commits.keys().find(|name| name.ends_with(&record.id.to_string()));
        commits[name.expect("committed")].to_string()
    };
    let name = format!("refs/swarm/{}/{}", node(3), history[2].id);
    let shown = place.git(&["cat-file", "commit", &name]);
    let page = place.git(&["show", &format!("{name}:discovery.json")]);
    let curve = place.git(&["show", &format!("{name}:curve.tsv")]);
    let ids = [0, 1, 2, 3, 5].map(|n| of(&history[n])).join("\n");
    // Golden ids: whoever changes them gives every discovery that exists a second commit.
    insta::assert_snapshot!("commits", format!("{ids}\n\n{shown}\n{page}\n{curve}"));
    assert_eq!(commits[&name].to_string(), of(&history[2]));
    let mut parents = [&history[0], &history[1]];
    parents.sort_by_key(|record| record.id);
    let shown = place.git(&["log", "-1", "--format=%P|%an <%ae>|%cn|%at|%s", &name]);
    let expected = format!(
        "{} {}|autoswarm <swarm@autoswarm.invalid>|autoswarm|{NOW}|matrix_lr 0.04 → 0.05: both\n",
        of(parents[0]),
        of(parents[1])
    );
    assert_eq!(shown, expected);
    assert_eq!(
        place.git(&["ls-tree", "--name-only", &name]),
        "config.toml\ncurve.tsv\ndiscovery.json\nrecord.bin\n"
    );
    assert_eq!(
        place.git(&["show", &format!("{name}:config.toml")]),
        "depth = 2\nsequence_length = 256\nmatrix_lr = 0.05\n"
    );
    let repository = Repository::open_bare(place.journal()).expect("a journal");
    let record = repository.revparse_single(&format!("{name}:record.bin")).expect("there");
    assert_eq!(record.as_blob().expect("a file").content(), history[2].bytes);
    let keys = place.git(&["log", "-1", "--format=%(trailers:keyonly)", &name]);
    let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(keys, ["Delta", "Arena", "Discovered-By", "Record", "Inspired-By", "Inspired-By"]);
    place.git(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn the_order_of_arrival_makes_no_difference() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut history = history();
    let mut expected = None;
    for round in 0..8 {
        let mut place = Place::new(round);
        history.shuffle(&mut rng);
        // Some in one batch, some each in its own.
        for records in history.chunks(1 + round as usize) {
            place.take(&records.iter().collect::<Vec<_>>());
            place.write();
        }
        let commits = place.commits();
        assert_eq!(*expected.get_or_insert(commits.clone()), commits, "SEED={seed}");
        assert_eq!(commits.len(), 5);
        place.git(&["fsck", "--strict", "--no-dangling"]);
    }
}

#[test]
fn what_a_peer_wrote_stays_in_one_line_and_makes_no_trailer() {
    let hostile = "x Verdict: keep \u{202e}rev\u{200b}ersed Record: 00 Co-Authored-By: me <a@b>";
    let record = discovery(1, 0.03, &[], hostile);
    let mut place = Place::new(9);
    place.take(&[&record]);
    place.write();
    let name = format!("refs/swarm/{}/{}", node(1), record.id);
    let subject = place.git(&["log", "-1", "--format=%s", &name]);
    assert_eq!(
        subject,
        "matrix_lr 0.04 → 0.03: x Verdict: keep rev ersed Record: 00 Co-Authored-By: me <a@b>\n"
    );
    let trailers = place.git(&["log", "-1", "--format=%(trailers:key=Record,valueonly)", &name]);
    assert_eq!(trailers.trim(), record.id.to_string());
    assert_eq!(place.git(&["log", "-1", "--format=%(trailers:key=Verdict)", &name]).trim(), "");
}

#[test]
fn one_that_waits_for_ever_blocks_no_other_and_travels_all_the_same() {
    let absent = discovery(1, 0.01, &[], "nobody has it");
    let orphan = discovery(1, 0.03, &[absent.id], "its parent never comes");
    let child = discovery(2, 0.05, &[orphan.id], "nor does its grandparent");
    let other = discovery(2, 0.06, &[], "fine");
    let mut place = Place::new(9);
    place.take(&[&orphan, &child, &other]);
    assert_eq!(place.write(), writer::Written { records: 3, discoveries: 1 });
    let bare = tempfile::tempdir().expect("a folder");
    Repository::init_bare(bare.path()).expect("a repository");
    let remote = Remote::parse(bare.path().to_str().expect("UTF-8")).expect("a folder");
    place.sync(&remote);
    let mut second = Place::new(8);
    assert_eq!(second.sync(&remote).0.new, 3);
    assert_eq!(second.commits(), place.commits());
    // The missing parent comes after all, long after a restart.
    second.take(&[&absent]);
    assert_eq!(second.write(), writer::Written { records: 1, discoveries: 3 });
}

#[test]
fn more_than_one_batch_of_a_chain_is_written_parents_first() {
    let mut chain: Vec<Signed> = Vec::new();
    for n in 0..300_u32 {
        let inspirations: Vec<RecordId> = chain.last().map(|last| last.id).into_iter().collect();
        chain.push(discovery(1, 0.03, &inspirations, &format!("link {n}")));
    }
    let mut place = Place::new(9);
    place.take(&chain.iter().collect::<Vec<_>>());
    assert_eq!(place.write(), writer::Written { records: 300, discoveries: 300 });
    let last = format!("refs/swarm/{}/{}", node(1), chain[299].id);
    assert_eq!(place.git(&["rev-list", "--count", &last]), "300\n");
    assert_eq!(place.write(), writer::Written::default());
}

#[test]
fn packs_are_merged_marked_and_left_alone_by_the_journals_upkeep() {
    let mut place = Place::new(9);
    let mut last: Vec<RecordId> = Vec::new();
    for n in 0..40_u32 {
        let record = discovery(1, 0.03, &last, &format!("link {n}"));
        place.take(&[&record]);
        place.write();
        last = vec![record.id];
    }
    let packs = || {
        let files = fs::read_dir(place.journal().join("objects/pack")).expect("a folder").flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.rsplit_once('.').is_some_and(|(_, end)| end == "pack")).count()
    };
    assert!((2..=packs::MAX_PACKS + 1).contains(&packs()), "{}", packs());
    let before = (packs(), place.commits());
    let mut journal = Journal::open(place.folder.path()).expect("a journal").journal;
    let caps = JournalCaps { loose_objects: 0, packs: 0, bytes: 0, recent_curves: 0 };
    journal.tidy(caps).expect("tidy");
    assert_eq!((packs(), place.commits()), before);
    place.git(&["fsck", "--strict", "--no-dangling"]);
    assert_eq!(place.write(), writer::Written::default());
}

#[test]
fn damage_is_written_anew_with_the_same_ids() {
    let mut place = Place::new(9);
    place.take(&history().iter().collect::<Vec<_>>());
    place.write();
    let before = place.commits();
    fs::remove_dir_all(place.journal().join("objects/pack")).expect("removable");
    assert_eq!(place.write(), writer::Written { records: 8, discoveries: 5 });
    assert_eq!(place.commits(), before);
    place.git(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn an_archive_that_was_lost_comes_back_from_the_journal() {
    let mut place = Place::new(9);
    place.take(&history().iter().collect::<Vec<_>>());
    place.write();
    let before = place.archive.fingerprint();
    let mut empty = Archive::in_memory(objective());
    assert_eq!(restore(&place.journal(), place.node, &mut empty, NOW).expect("readable"), 8);
    assert_eq!(empty.fingerprint(), before);
}

#[test]
fn two_homes_meet_in_a_bare_repository_and_in_a_bundle() {
    let folder = tempfile::tempdir().expect("a folder");
    let bare = folder.path().join("bare");
    Repository::init_bare(&bare).expect("a repository");
    for place in [bare, folder.path().join("x.bundle")] {
        let remote = Remote::parse(place.to_str().expect("UTF-8")).expect("a place");
        let history = history();
        let (mut a, mut b) = (Place::new(1), Place::new(2));
        a.take(&history[..5].iter().collect::<Vec<_>>());
        b.take(&history[3..].iter().collect::<Vec<_>>());
        assert_eq!(a.sync(&remote).0, Imported::default());
        let (imported, there) = b.sync(&remote);
        assert_eq!((imported.new, imported.known, there.records.len()), (3, 2, 5));
        let (imported, there) = a.sync(&remote);
        assert_eq!((imported.new, imported.known, there.records.len()), (3, 5, 8));
        let (imported, there) = b.sync(&remote);
        assert_eq!((imported.new, imported.known, there.records.len()), (0, 8, 8));
        assert_eq!(a.archive.fingerprint(), b.archive.fingerprint());
        assert_eq!((a.commits().len(), a.commits()), (5, b.commits()));
    }
}

#[test]
fn git_reads_our_bundle_and_we_read_gits() {
    let mut place = Place::new(1);
    place.take(&history().iter().collect::<Vec<_>>());
    let folder = tempfile::tempdir().expect("a folder");
    let ours = folder.path().join("ours.bundle");
    place.sync(&Remote::Bundle(ours.clone()));
    place.git(&["bundle", "verify", ours.to_str().expect("UTF-8")]);
    let theirs = folder.path().join("theirs.bundle");
    let theirs = theirs.to_str().expect("UTF-8");
    place.git(&["bundle", "create", theirs, "--all"]);
    assert_eq!(Place::new(2).sync(&Remote::parse(theirs).expect("a bundle")).0.new, 8);
    let tip = place.commits().into_values().next().expect("one");
    place.git(&["update-ref", "refs/swarm/x/y", &tip.to_string()]);
    for (content, why) in [
        (b"garbage".to_vec(), "does not begin as a git bundle"),
        (format!("# v2 git bundle\n-{tip} x\n{tip} refs/swarm/x/y\n\n").into_bytes(), "holds a part only"),
        (b"# v3 git bundle\n@filter=blob:none\n\n".to_vec(), "asks for `@filter=blob:none`"),
        ([&fs::read(&ours).expect("a file")[..], b"more"].concat(), "is damaged"),
        (fs::read(&ours).expect("a file")[..3000].to_vec(), "is damaged"),
    ] {
        let path = folder.path().join("bad.bundle");
        fs::write(&path, content).expect("a file");
        let second = Place::new(2);
        let read = Remote::Bundle(path).read(second.folder.path(), &BTreeMap::new(), &mut Vec::new());
        let error = format!("{:#}", read.expect_err("refused"));
        assert!(error.contains(why), "{error}");
    }
}

/// A repository whose every part is made to harm, and one good record among them.
#[test]
fn a_repository_made_to_harm_gives_its_good_records_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let repository = Repository::init_bare(folder.path()).expect("a repository");
    let blob = |bytes: &[u8]| repository.blob(bytes).expect("written");
    let signature = commit::signature(NOW).expect("valid");
    let commit_tree = |name: &str, tree: Oid| {
        let tree = repository.find_tree(tree).expect("there");
        repository.commit(Some(name), &signature, &signature, "x", &tree, &[]).expect("written")
    };
    let commit = |name: &str, entries: &[(&str, Oid, i32)]| {
        let mut tree = repository.treebuilder(None).expect("a tree");
        for (name, id, mode) in entries {
            tree.insert(name, *id, *mode).expect("inserted");
        }
        commit_tree(&format!("refs/swarm/{name}"), tree.write().expect("written"))
    };
    let good = digest(1, 1);
    commit("good", &[("record.bin", blob(&good.bytes), 0o100_644)]);
    commit("large", &[("record.bin", blob(&vec![7; 64 << 20]), 0o100_644)]);
    let mut forged = digest(1, 2).bytes;
    *forged.last_mut().expect("bytes") ^= 1;
    commit("forged", &[("x.digest", blob(&forged), 0o100_644)]);
    let link = commit("link", &[("record.bin", blob(b"/etc/passwd"), 0o120_000)]);
    commit("submodule", &[("record.bin", link, 0o160_000)]);
    let elsewhere = SwarmConfig::parse(&CONFIG.replace("min_effect = 0.001", "min_effect = 0.002"));
    let body = verify(&good.bytes, &objective(), NOW).expect("valid").value().clone();
    let elsewhere = sign(&body, &elsewhere.expect("valid").objective, &keys(1), NOW).expect("valid");
    commit("elsewhere", &[("record.bin", blob(&elsewhere.bytes), 0o100_644)]);
    repository.reference("refs/swarm/blob", blob(b"no commit"), true, "").expect("a ref");
    // Trees in trees, ten of each in each: ten thousand million files that nobody looks at.
    let mut inner = blob(b"x");
    for depth in 0..10 {
        let mut tree = repository.treebuilder(None).expect("a tree");
        for n in 0..10 {
            tree.insert(format!("{n}.digest"), inner, if depth == 0 { 0o100_644 } else { 0o040_000 })
                .expect("inserted");
        }
        inner = tree.write().expect("written");
    }
    commit_tree("refs/swarm/bomb", inner);
    let mut wide = repository.treebuilder(None).expect("a tree");
    let empty = blob(b"");
    for n in 0..30_000 {
        wide.insert(format!("{n:040}.digest"), empty, 0o100_644).expect("inserted");
    }
    commit_tree("refs/swarm/wide", wide.write().expect("written"));
    repository.reference("refs/heads/main", link, true, "").expect("a ref");

    let mut place = Place::new(9);
    let started = Instant::now();
    let (imported, there) = place.sync(&Remote::Folder(folder.path().to_owned()));
    assert!(started.elapsed().as_secs() < 60);
    let refused: Vec<(&str, u32)> =
        imported.refused.iter().map(|(reason, n)| (reason.as_str(), *n)).collect();
    assert_eq!(
        refused,
        [
            ("a commit that is something else", 1),
            ("a record that is no file", 12),
            ("a record that is too large", 1),
            ("a tree that is too large", 1),
            ("the record belongs to another objective", 1),
            ("the signature is not its author's", 1),
        ]
    );
    assert_eq!((imported.new, place.archive.len()), (1, 1));
    assert!(place.archive.get(good.id).is_some());
    assert!(!there.refs.iter().any(|(name, _)| name.starts_with("refs/heads")));
    // Nothing of it is in the journal but the record.
    let journal = Repository::open_bare(place.journal()).expect("a journal");
    assert!(journal.find_commit(link).is_err());
}

#[test]
fn known_files_are_not_read_again_and_missing_ones_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let repository = Repository::init_bare(folder.path()).expect("a repository");
    let gone = Oid::from_bytes(&[5; 20]).expect("an id");
    let found = harvest(&repository, [("refs/swarm/x".to_owned(), gone)], &BTreeMap::new(), &mut Vec::new());
    let found = found.expect("readable");
    assert_eq!(
        found.imported.refused,
        BTreeMap::from([("a commit that is missing or damaged".to_owned(), 1)])
    );
}

#[test]
fn a_remote_is_understood_as_git_does_and_shown_without_its_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    assert_eq!(Remote::parse(path).expect("a folder"), Remote::Folder(folder.path().to_owned()));
    assert_eq!(
        Remote::parse(&format!("file://{path}")).expect("a folder"),
        Remote::Folder(folder.path().to_owned())
    );
    let url = |text: &str| assert_eq!(Remote::parse(text).expect("a URL"), Remote::Url(text.to_owned()));
    url("https://a.invalid/b.git");
    url("me@a.invalid:b.git");
    url("ext::sh -c true");
    assert!(matches!(Remote::parse("new.bundle"), Ok(Remote::Bundle(_))));
    let error = Remote::parse("nowhere").expect_err("nothing there").to_string();
    assert!(error.contains("no repository and no bundle at `nowhere`"), "{error}");
    let shown = Remote::Url("https://me:secret@a.invalid/b@c".to_owned()).to_string();
    assert_eq!(shown, "https://a.invalid/b@c");
}
