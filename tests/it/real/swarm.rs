//! A swarm of three real processes, two of which train: a discovery is heard, tried, cited and answered.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use super::{place, trainer};
use crate::{
    solo::{Place, succeed},
    swarm::{LISTEN, Node},
};

/// How long each step may take on a busy machine, where trainers give way to all other work.
const PATIENCE: Duration = Duration::from_mins(15);

/// A start that hardly learns, so that its cure is a gain which no noise hides and no search finds in one
/// step. It is small, and leaves nothing to calibrate, so that it is the same for all nodes.
const POOR: &str = "matrix_lr = 0.0001\nembedding_lr = 0.001\nunembedding_lr = 0.0001\nscalar_lr = 0.001\n\
    depth = 1\nwidth = 32\nhead_dim = 16\nsequence_length = 64\nbatch_tokens = 512\nwindow_pattern = \"L\"\n";
const CURE: &str = "matrix_lr 0.04, embedding_lr 0.6, unembedding_lr 0.004, scalar_lr 0.5";

/// A home beside an objective with a megabyte of text and a poor start.
fn objective() -> Place {
    let place = place();
    let text = place.folder.path().join("text.txt");
    let toml = format!(
        "name = \"little\"\ndescription = \"squares\"\n[objective]\nmetric = \"val_bpb\"\n\
         corpus = {{ source = \"path\", path = \"{}\" }}\ntokenizer = {{ kind = \"bytes\" }}\n\
         evaluation = {{ context = 128, tokens = 16384 }}\ndtype = \"f32\"\nmin_effect = 0.0005\n\
         [objective.baseline]\n{POOR}",
        text.display()
    );
    fs::write(place.folder.path().join("little.toml"), toml).expect("a file");
    place
}

/// Starts a joiner that trains on one core of its own, the `n`th of those that are allowed.
fn joiner(ticket: &str, n: usize) -> Node {
    let mut place = Place::new();
    place.trainer = trainer();
    let seed = n.to_string();
    let mut command = place.node(&["join", ticket, "--listen", LISTEN, "--no-mdns", "--json"]);
    command.args(["--budget", "1s", "--seed", &seed]);
    // A process begins on the cores of the thread that starts it, and a node keeps to the cores that it gets.
    let allowed = sched_getaffinity(None).expect("a set of cores");
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let mut one = CpuSet::new();
    one.set(cores[n % cores.len()]);
    sched_setaffinity(None, &one).expect("one of the allowed cores");
    let node = Node::spawn(place, &mut command, PATIENCE);
    sched_setaffinity(None, &allowed).expect("the cores of before");
    node
}

/// Looks again and again until there is something.
#[track_caller]
fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "no {what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(250));
    }
}

/// Returns the messages of all commits in a journal, whether its node runs or not.
fn messages(home: &Path) -> Vec<String> {
    let repository = git2::Repository::open(home.join("journal")).expect("a journal");
    let mut walk = repository.revwalk().expect("a walk");
    walk.push_glob("refs/*").expect("refs");
    let commits = walk.filter_map(|id| repository.find_commit(id.ok()?).ok());
    commits.filter_map(|commit| commit.message().ok().map(str::to_owned)).collect()
}

fn row(node: &Node, id: &str) -> Option<Value> {
    node.discoveries().into_iter().find(|row| row["id"] == id)
}

/// Returns the re-runs of a discovery that a node knows.
fn re_runs(node: &Node, id: &str) -> Vec<Value> {
    let shown = succeed(&mut node.place.node(&["discoveries", "show", id, "--json"]));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["attestations"].as_array().expect("a list").clone()
}

#[test]
fn a_discovery_is_heard_tried_cited_and_answered() {
    let started = Instant::now();
    let said = |what: &str| println!("{:>6.1} s  {what}", started.elapsed().as_secs_f64());
    let seeding = objective();
    let mut command =
        seeding.node(&["seed", "little.toml", "--serve-only", "--listen", LISTEN, "--no-mdns", "--json"]);
    let mut seeder = Node::spawn(seeding, &mut command, PATIENCE);
    let ticket = seeder.ticket();
    let (mut finder, mut other) = (joiner(&ticket, 0), joiner(&ticket, 1));
    for joiner in [&mut finder, &mut other] {
        joiner.wait_for("a baseline", |event| event["event"] == "concluded" && event["number"] == 0);
    }
    said("both joiners have their baseline");
    // What a search finds, and when, is luck. A person's change goes through the same verdict and is told the
    // same way.
    let tried = succeed(&mut finder.place.node(&["try", CURE, "--because", "rates that learn", "--json"]));
    let tried: Value = serde_json::from_str(&tried).expect("JSON");
    assert!(!tried["verdict"]["keep"].is_null(), "{}", tried["verdict"]);
    said(&format!("the finder keeps it: {}", tried["verdict"]["keep"]["estimate"]));
    let patch = &tried["hypothesis"]["patch"];
    let own = |row: &Value| row["own"] == true && row["patch"] == *patch;
    let id = wait_until("discovery of the finder", || finder.discoveries().into_iter().find(own));
    let id = id["id"].as_str().expect("an id").to_owned();
    for node in [&seeder, &other] {
        let heard = wait_until("news of the discovery", || row(node, &id));
        assert_eq!((&heard["own"], &heard["patch"]), (&Value::Bool(false), patch));
    }
    said("the seeder and the other joiner have heard it");
    // The other joiner cites it in an experiment of its own, beside the re-run for the finder.
    let cites = |message: &String| {
        let has = |wanted: &str| message.lines().any(|line| line.starts_with(wanted));
        has(&format!("Inspired-By: {id}")) && !has("Verdict: re-run")
    };
    let citing =
        wait_until("experiment that cites it", || messages(&other.place.home()).into_iter().find(cites));
    said(&format!("the other joiner tried it: {}", citing.lines().next().unwrap_or_default()));
    assert_eq!(row(&other, &id).expect("still held")["tried"], true);
    let back = wait_until("re-run", || re_runs(&finder, &id).into_iter().next());
    wait_until("re-run", || re_runs(&seeder, &id).into_iter().next());
    said(&format!("its re-run is back at the finder: {}", back["attestation"]));
    let here = re_runs(&other, &id);
    let same =
        here.iter().find(|re_run| re_run["attestation"] == back["attestation"]).expect("what was told");
    assert_eq!((&same["own"], &back["own"]), (&Value::Bool(true), &Value::Bool(false)));
    the_export_trains(&finder, &id);
    said("its exported config trains");
}

/// Trains the config that `export` prints, on the dataset that the node itself trains on.
fn the_export_trains(node: &Node, id: &str) {
    let toml = succeed(&mut node.place.node(&["discoveries", "export", &id[..12]]));
    let config = node.place.folder.path().join("exported.toml");
    fs::write(&config, &toml).expect("a file");
    let data = fs::read_dir(node.place.home().join("data")).expect("a folder of datasets");
    let mut data = data.flatten().map(|entry| entry.path());
    let data = data.find(|path| path.join("dataset.json").is_file()).expect("a dataset");
    let mut train = std::process::Command::new(trainer());
    train.args(["train", "--budget-tokens", "32768", "--seed", "1", "--threads", "1"]);
    train.args(["--context", "128", "--evaluation-tokens", "16384"]);
    train.arg("--config").arg(&config).arg("--data").arg(data);
    let printed = succeed(&mut train);
    assert!(printed.contains("val_bpb:"), "{printed}");
}
