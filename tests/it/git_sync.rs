//! `node sync --git` with real nodes, over a bare repository, a bundle and a stand-in for ssh.
//!
//! Nodes run, rest or are killed meanwhile.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use autoswarm_node::{
    home::{identity, journal::Journal},
    swarm::{
        git::{
            ArchiveAtRest, Writer, import, incoming,
            remote::{Ours, Remote},
            sync_folder,
        },
        network::archive::Archive,
    },
};
use autoswarm_protocol::{
    Bpb, Budget, Estimate, Patch, SwarmConfig, TrainConfig,
    id::{ArenaId, Author, ConfigHash, RecordId},
    record::{Body, Digest, DigestEnding, DigestLine, Discovery, Hardware, Signed, sign},
    swarm_config::Objective,
};
use git2::Repository;
use libp2p::identity::Keypair;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::solo::{Place, fail, succeed, text};

const NOW: u64 = 1_795_219_384;

/// How long a test may wait for one thing on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

const CONFIG: &str = "name = \"little\"\ndescription = \"a little text\"\n[objective]\nmetric = \"val_bpb\"\n\
    corpus = { source = \"path\", path = \"/t\" }\ntokenizer = { kind = \"bytes\" }\n\
    evaluation = { context = 256, tokens = 65536 }\ndtype = \"f32\"\nmin_effect = 0.0001\n";

fn objective() -> Objective {
    SwarmConfig::parse(CONFIG).expect("valid").objective
}

fn keys(n: u32) -> Keypair {
    Keypair::ed25519_from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()).expect("32 bytes are a key")
}

fn discovery(n: u32, inspirations: Vec<RecordId>) -> Body {
    let parent = TrainConfig::from_toml("depth = 2").expect("valid").effective(256);
    let patch = Patch::parse("matrix_lr 0.03", &parent).expect("a patch");
    let config = patch.apply(&parent).expect("applies").effective(256);
    Body::Discovery(Box::new(Discovery {
        arena: ArenaId::of(b"arena"),
        budget: Budget::Milliseconds(20_000),
        hardware: Hardware { device: "cpu".to_owned(), threads: 1, slots: 2, tokens_per_second: 8100.0 },
        patch,
        config: (*config).clone(),
        estimate: Estimate { delta: -0.02, standard_error: 0.004, pairs: 3 },
        audit: None,
        level: Bpb::new(2.4).expect("positive"),
        tokens: (812_032, 812_032),
        seconds: 20.1,
        curve: vec![5.5, 3.1, 2.4],
        inspirations,
        because: format!("idea {n}"),
    }))
}

fn digest(n: u32) -> Body {
    let patch = Patch::parse("warmup 0.1", &TrainConfig::new()).expect("a patch");
    let line = |m: u32| DigestLine {
        config: ConfigHash::of(&[n.to_le_bytes(), m.to_le_bytes()].concat()),
        patch: patch.clone(),
        ending: DigestEnding::Discarded,
        found: None,
    };
    Body::Digest(Digest { arena: ArenaId::of(b"a"), lines: (0..3).map(line).collect() })
}

/// Makes `count` records of ten authors; every fifth is a discovery that builds on up to two before it.
fn history(count: u32) -> Vec<Signed> {
    let (objective, authors) = (objective(), (0..10).map(keys).collect::<Vec<_>>());
    let mut discoveries: Vec<RecordId> = Vec::new();
    (0..count)
        .map(|n| {
            let of_before: Vec<RecordId> = discoveries.iter().rev().step_by(2).take(2).copied().collect();
            let body = if n % 5 == 0 { discovery(n, of_before) } else { digest(n) };
            let signed = sign(&body, &objective, &authors[n as usize % authors.len()], NOW).expect("valid");
            if n % 5 == 0 {
                discoveries.push(signed.id);
            }
            signed
        })
        .collect()
}

/// A home that has joined a swarm and holds these records; no node runs on it.
fn joined(records: &[Signed]) -> Place {
    let place = Place::new();
    fs::create_dir_all(place.home()).expect("a folder");
    fs::write(place.folder.path().join("little.toml"), CONFIG).expect("a file");
    fs::write(place.home().join("swarm-config.toml"), CONFIG).expect("a file");
    fs::write(place.home().join("lock"), "").expect("a file");
    let (mut archive, _) = Archive::open(&place.home().join("records"), objective(), NOW).expect("opens");
    for record in records {
        archive.insert(&record.bytes, NOW).expect("valid");
    }
    archive.flush().expect("flushed");
    place
}

/// A running node that only listens.
struct Observer(Child);

impl Observer {
    fn start(place: &Place) -> Self {
        let mut command = place.node(&["join", "little.toml", "--observe", "--no-mdns", "--json"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the node starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut lines = lines.skip_while(|line| !line.contains("observing"));
        assert!(lines.next().is_some(), "the node ended before it observed");
        // Later output is read and dropped, or the node would wait for a reader.
        thread::spawn(move || lines.count());
        Self(child)
    }

    fn stop(mut self, place: &Place) {
        succeed(&mut place.node(&["stop"]));
        assert!(self.0.wait().expect("ended").success());
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // A node that has ended already is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Syncs and returns what was printed, as JSON.
#[track_caller]
fn sync(place: &Place, remote: &Path) -> Value {
    let printed = succeed(place.node(&["sync", "--json", "--git"]).arg(remote));
    serde_json::from_str(&printed).expect("one JSON object")
}

#[track_caller]
fn check(printed: &Value, new: u32, known: u32, records: u32, discoveries: u32) {
    let expected = serde_json::json!({
        "imported": { "new": new, "known": known, "refused": {} },
        "exported": { "records": records, "discoveries": discoveries },
    });
    assert_eq!(*printed, expected);
}

/// Returns the refs of a repository's discoveries, with their commits.
fn commits(repository: &Path) -> Vec<(String, String)> {
    let repository = Repository::open(repository).expect("a repository");
    let refs = repository.references_glob("refs/swarm/*").expect("readable").flatten();
    let mut found: Vec<_> = refs
        .map(|found| (found.name().expect("UTF-8").to_owned(), found.target().expect("direct").to_string()))
        .collect();
    found.sort();
    found
}

fn bare(folder: &Path) -> PathBuf {
    let path = folder.join("bare.git");
    Repository::init_bare(&path).expect("a repository");
    path
}

#[test]
fn records_go_from_home_to_home_and_back_through_a_bare_repository() {
    let history = history(30);
    let (a, b) = (joined(&history[..20]), joined(&history[15..]));
    let remote = bare(a.folder.path());
    check(&sync(&a, &remote), 0, 0, 20, 4);
    // A node runs on b meanwhile: it takes the records itself.
    let running = Observer::start(&b);
    check(&sync(&b, &remote), 15, 5, 10, 2);
    let until = Instant::now() + PATIENCE;
    while succeed(&mut b.node(&["discoveries", "list", "--json"])).lines().count() < 6 {
        assert!(Instant::now() < until, "the running node does not hear of what came");
    }
    check(&sync(&b, &remote), 0, 30, 0, 0);
    running.stop(&b);
    check(&sync(&a, &remote), 10, 20, 0, 0);
    check(&sync(&a, &remote), 0, 30, 0, 0);
    let shown = succeed(&mut a.node(&["discoveries", "list", "--json"]));
    assert_eq!(shown.lines().count(), 6, "{shown}");
    let there = commits(&remote);
    assert_eq!((there.len(), &there), (6, &commits(&a.home().join("journal"))));
    assert_eq!(there, commits(&b.home().join("journal")));
    let printed = succeed(b.node(&["sync", "--git"]).arg(&remote));
    assert_eq!(printed, "imported  0 new, 30 known\nexported  0 records, 0 discoveries as commits\n");
    assert!(!a.home().join("sync").exists());
}

#[test]
fn a_node_at_work_sends_what_it_found_and_another_gets_it() {
    let a = Place::new();
    let config = CONFIG.replace("/t", a.folder.path().join("text.txt").to_str().expect("UTF-8"));
    fs::write(a.folder.path().join("little.toml"), &config).expect("a file");
    let mut command =
        a.node(&["join", "little.toml", "--no-mdns", "--json", "--budget", "1s", "--seed", "1"]);
    command.args(["--devices", "cpu:1x1", "--listen", "/ip4/127.0.0.1/tcp/0"]).stdout(Stdio::piped());
    let mut child = command.env("FAKE_TRAINER", "slow=0.02").spawn().expect("the node starts");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let running = Observer(child);
    let mut lines = stdout.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"told ")), "it found nothing");
    thread::spawn(move || lines.count());
    let remote = bare(a.folder.path());
    let sent = sync(&a, &remote);
    let records = sent["exported"]["records"].as_u64().expect("a number") as u32;
    assert!(records > 0 && sent["exported"]["discoveries"].as_u64() > Some(0), "{sent}");
    running.stop(&a);
    let b = Place::new();
    fs::create_dir_all(b.home()).expect("a folder");
    fs::write(b.home().join("swarm-config.toml"), &config).expect("a file");
    fs::write(b.home().join("lock"), "").expect("a file");
    check(&sync(&b, &remote), records, 0, 0, 0);
    assert_eq!(commits(&b.home().join("journal")), commits(&remote));
}

#[test]
fn a_bundle_carries_them_where_nothing_connects() {
    let history = history(12);
    let (a, b) = (joined(&history), joined(&[]));
    let bundle = a.folder.path().join("carried.bundle");
    check(&sync(&a, &bundle), 0, 0, 12, 3);
    check(&sync(&b, &bundle), 12, 0, 0, 0);
    let clone = a.folder.path().join("clone");
    Repository::init_bare(&clone).expect("a repository");
    git(&clone, &["fetch", "--quiet", bundle.to_str().expect("UTF-8"), "refs/swarm/*:refs/swarm/*"]);
    assert_eq!(commits(&clone), commits(&b.home().join("journal")));
    // A bundle that holds more than a node takes is not overwritten.
    let other = a.folder.path().join("other.bundle");
    git(
        &clone,
        &["fetch", "--quiet", bundle.to_str().expect("UTF-8"), "refs/swarm-records/*:refs/swarm-records/*"],
    );
    let elsewhere = Repository::open(&clone).expect("a repository");
    let blob = elsewhere.blob(b"no record").expect("written");
    let mut tree = elsewhere.treebuilder(None).expect("a tree");
    tree.insert("record.bin", blob, 0o100_644).expect("inserted");
    let tree = elsewhere.find_tree(tree.write().expect("written")).expect("there");
    let author = git2::Signature::now("x", "x@x.invalid").expect("valid");
    elsewhere.commit(Some("refs/swarm/x/y"), &author, &author, "x", &tree, &[]).expect("written");
    git(&clone, &["bundle", "create", "--quiet", other.to_str().expect("UTF-8"), "--all"]);
    let before = fs::read(&other).expect("a file");
    let d = joined(&[]);
    let output = d.node(&["sync", "--git"]).arg(&other).output().expect("the node starts");
    let printed = text(&output.stdout);
    assert!(
        printed.starts_with("imported  12 new, 0 known\nrefused   1: the record speaks version"),
        "{printed}"
    );
    let error = text(&output.stderr);
    assert!(error.contains("holds records that this node did not take"), "{error}");
    assert_eq!((fs::read(&other).expect("a file"), commits(&d.home().join("journal")).len()), (before, 3));
    git(&clone, &["update-ref", "-d", "refs/swarm/x/y"]);
    let chains = elsewhere.references_glob("refs/swarm-records/*").expect("readable").flatten();
    chains.for_each(|mut chain| chain.delete().expect("deleted"));
    // The discoveries' commits alone, as a person may push them without the records' chains, are enough.
    let c = joined(&[]);
    check(&sync(&c, &clone), 3, 0, 0, 0);
}

fn git(repository: &Path, arguments: &[&str]) {
    let output = Command::new("git").arg("--git-dir").arg(repository).args(arguments).output().expect("git");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_git_command_reaches_the_rest_and_runs_nothing() {
    let (a, b) = (joined(&history(10)), joined(&[]));
    let folder = a.folder.path();
    let remote = bare(folder);
    // Stands for ssh, without a network: the last argument is the command for the other side.
    let ssh = folder.join("ssh.sh");
    fs::write(&ssh, "for last; do :; done\nexec sh -c \"$last\"\n").expect("a file");
    let over_ssh = |place: &Place, remote: &str| {
        let mut command = place.node(&["sync", "--json", "--git", remote]);
        command.env("GIT_SSH_COMMAND", format!("sh {}", ssh.display())).env("GIT_SSH_VARIANT", "simple");
        command
    };
    let url = format!("me@there:{}", remote.display());
    let printed = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
    check(&printed(succeed(&mut over_ssh(&a, &url))), 0, 0, 10, 2);
    check(&printed(succeed(&mut over_ssh(&b, &url))), 10, 0, 0, 0);
    check(&printed(succeed(&mut over_ssh(&b, &url))), 0, 10, 0, 0);
    assert_eq!(commits(&remote), commits(&b.home().join("journal")));

    let witness = folder.join("it-ran");
    let hostile = [
        (format!("ext::touch {}", witness.display()), "not allowed"),
        (format!("-oProxyCommand=touch${{IFS}}{}:x", witness.display()), "no repository and no bundle"),
        (format!("--upload-pack=touch {}", witness.display()), "no repository and no bundle"),
        (format!("ssh://-oProxyCommand=x/{}", witness.display()), "strange hostname"),
    ];
    for (remote, why) in hostile {
        let error = fail(&mut b.node(&["sync", &format!("--git={remote}")]));
        assert!(error.contains(why), "{remote}: {error}");
    }
    assert!(!witness.exists());
    let error = fail(b.node(&["sync", "--git", "https://x.invalid/y"]).env("PATH", "/nowhere"));
    assert!(error.contains("needs the `git` command") && error.contains("hint: install git"), "{error}");
    let error = fail(&mut over_ssh(&b, &format!("me@there:{}/nothing", folder.display())));
    assert!(error.contains("cannot fetch from") && error.contains("git says"), "{error}");
}

#[test]
fn hooks_and_work_trees_of_a_folder_do_not_matter() {
    let a = joined(&history(10));
    let remote = a.folder.path().join("with-files");
    Repository::init(&remote).expect("a repository");
    let witness = a.folder.path().join("it-ran");
    for hook in ["pre-receive", "update", "post-receive", "reference-transaction", "post-update"] {
        let path = remote.join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", witness.display())).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("ours");
    }
    check(&sync(&a, &remote), 0, 0, 10, 2);
    assert!(!witness.exists());
    assert_eq!(commits(&remote).len(), 2);
    // A work tree's own files are untouched.
    let files: Vec<_> =
        fs::read_dir(&remote).expect("a folder").flatten().map(|file| file.file_name()).collect();
    assert_eq!(files, [".git"]);
}

#[test]
fn a_sync_that_cannot_be_says_why() {
    let place = Place::new();
    let error = fail(&mut place.node(&["sync", "--git", "x.bundle"]));
    assert!(error.contains("this home never joined a swarm") && error.contains("hint: "), "{error}");
    let a = joined(&history(5));
    let error = fail(&mut a.node(&["sync", "--git", "nowhere"]));
    assert!(
        error.contains("no repository and no bundle at `nowhere`") && error.contains("hint: "),
        "{error}"
    );
    fs::create_dir(a.folder.path().join("empty")).expect("a folder");
    let error = fail(&mut a.node(&["sync", "--git", "empty"]));
    assert!(error.contains("`empty` is no git repository"), "{error}");
    let lock = fs::File::create(a.home().join("sync.lock")).expect("a file");
    lock.lock().expect("free");
    let error = fail(&mut a.node(&["sync", "--git", "x.bundle"]));
    assert!(error.contains("another `node sync`"), "{error}");
}

/// Kills of one CI run; `KILLS=100` makes more.
const KILLS: u32 = 4;

#[test]
fn a_kill_in_the_middle_of_the_writing_loses_nothing() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let kills: u32 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    println!("SEED={seed} KILLS={kills}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let history = history(1500);
    let whole = joined(&history);
    check(&sync(&whole, &whole.folder.path().join("x.bundle")), 0, 0, 1500, 300);
    let expected = commits(&whole.home().join("journal"));
    let killed = joined(&history);
    let mut interrupted = 0;
    for _ in 0..kills {
        let mut running = Observer::start(&killed);
        thread::sleep(Duration::from_millis(rng.random_range(0..1500)));
        running.0.kill().expect("it runs");
        running.0.wait().expect("ended");
        let there = commits(&killed.home().join("journal"));
        interrupted += u32::from(!there.is_empty() && there.len() < expected.len());
        // At any moment, all that a ref leads to is there.
        git(&killed.home().join("journal"), &["fsck", "--strict", "--connectivity-only", "--no-dangling"]);
    }
    println!("{interrupted} of {kills} kills came in the middle");
    // The next start catches up by itself.
    let running = Observer::start(&killed);
    let until = Instant::now() + PATIENCE;
    while commits(&killed.home().join("journal")) != expected {
        assert!(Instant::now() < until, "git does not catch up");
        thread::sleep(Duration::from_millis(100));
    }
    running.stop(&killed);
    let empty = joined(&[]);
    let bundle = killed.folder.path().join("x.bundle");
    sync(&killed, &bundle);
    check(&sync(&empty, &bundle), 1500, 0, 0, 0);
}

/// Records of one CI run; `RECORDS=10000` makes more.
const RECORDS: u32 = 1000;

#[test]
fn thousands_of_records_are_written_carried_and_read() {
    let count: u32 = std::env::var("RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(RECORDS);
    let records = history(count);
    let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
    println!("{count} records of {bytes} bytes, {} of them discoveries", count.div_ceil(5));
    let folder = tempfile::tempdir().expect("a folder");
    let home = |name: &str| {
        let home = folder.path().join(name);
        fs::create_dir_all(sync_folder(&home)).expect("a folder");
        Journal::open(&home).expect("a journal");
        home
    };
    let (a, b) = (home("a"), home("b"));
    let node = |home: &Path| Author::of(&identity::load(home).expect("made")).expect("ed25519");
    let mut archive = Archive::in_memory(objective());
    for record in &records {
        archive.insert(&record.bytes, NOW).expect("valid");
    }
    let write = |home: &Path, archive: &mut Archive| {
        let started = Instant::now();
        let journal = home.join("journal");
        let mut writer = Writer::open(&journal, node(home), objective()).expect("opens");
        writer.round(&mut ArchiveAtRest { archive, now: NOW }, &AtomicBool::new(false)).expect("writes");
        started.elapsed()
    };
    println!("written into git in {:.1?}", write(&a, &mut archive));
    let started = Instant::now();
    Writer::open(&a.join("journal"), node(&a), objective()).expect("opens");
    println!("opened again in {:.1?}", started.elapsed());
    let started = Instant::now();
    Journal::open(&a).expect("a journal");
    println!("a journal with them opens in {:.1?}", started.elapsed());
    for remote in [bare(folder.path()), folder.path().join("x.bundle")] {
        let remote = Remote::parse(remote.to_str().expect("UTF-8")).expect("a place");
        let started = Instant::now();
        let there = remote.read(&a, &Ours::read(&a, node(&a)).expect("readable").files, &mut Vec::new());
        let there = there.expect("readable");
        remote.write(&a, &Ours::read(&a, node(&a)).expect("readable"), &there).expect("writable");
        println!("exported to {remote} in {:.1?}", started.elapsed());
        let started = Instant::now();
        let mut out = fs::File::create(incoming(&b)).expect("a file");
        remote.read(&b, &std::collections::BTreeMap::new(), &mut out).expect("readable");
        println!("read from it in {:.1?}", started.elapsed());
        let started = Instant::now();
        let mut empty = Archive::in_memory(objective());
        let taken =
            import(&incoming(&b), &mut ArchiveAtRest { archive: &mut empty, now: NOW }).expect("readable");
        assert_eq!((taken.new, empty.fingerprint()), (count, archive.fingerprint()));
        println!("judged and taken in {:.1?}", started.elapsed());
    }
    println!("written at the other home in {:.1?}", write(&b, &mut archive));
    assert_eq!(commits(&a.join("journal")), commits(&b.join("journal")));
}
