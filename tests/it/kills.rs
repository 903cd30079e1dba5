//! A node that joined a swarm is killed again and again, at any moment.
//!
//! In the end, all that it said it sent is at home and at its peer, and index, journal and archive agree.

#![allow(clippy::print_stdout)] // seeds and counts, for `--nocapture`

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use autoswarm_node::{
    base::clock::unix_now, home::identity, session::RECORDS, swarm::network::archive::Archive,
};
use autoswarm_protocol::{
    Experiment, SwarmConfig, Verdict,
    experiment::Comparison,
    id::{Author, ConfigHash, RecordId},
    record::{Body, Discovery},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::{
    solo::{Place, succeed},
    swarm::{LISTEN, PATIENCE, place},
};

/// Kills of one CI run; `KILLS=1000` makes more.
const KILLS: u32 = 100;

/// Kills between two looks into the archive. The node itself looks at each start, and reports damage.
const LOOK_EVERY: u32 = 10;

/// Longest life of a node that is killed at an event of every life, however slow the machine is, and at an
/// event that comes only now and then.
const LONG_LIFE: Duration = Duration::from_secs(10);
const SHORT_LIFE: Duration = Duration::from_millis(600);

/// When to kill a node.
#[derive(Clone, Copy)]
enum Moment {
    /// At any time.
    Any,
    /// When the node prints this event, as it does in every life.
    Surely(&'static str),
    /// When the node prints this event, if it does.
    Perhaps(&'static str),
}

const MOMENTS: [Moment; 5] = [
    Moment::Any,
    Moment::Surely("concluded"),
    Moment::Surely("sent"),
    Moment::Perhaps("told"),
    Moment::Perhaps("heard"),
];

/// Events that wait to be read; a node that prints more waits for the test.
const MAX_WAITING: usize = 10_000;

/// A running node and the events that it prints.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) events: Receiver<Value>,
}

impl Node {
    pub(crate) fn start(mut command: Command) -> Self {
        command.args(["--listen", LISTEN, "--no-mdns", "--json", "--budget", "1s", "--devices", "cpu:1x1"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the node starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let (sender, events) = mpsc::sync_channel(MAX_WAITING);
        thread::spawn(move || {
            // The last line may be cut off by the kill.
            for event in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events }
    }

    /// Waits for an event; returns the events before it, and it as the last.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str) -> Vec<Value> {
        let (until, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    let is_it = is_a(&event, what);
                    seen.push(event);
                    if is_it {
                        return seen;
                    }
                }
                Err(error) => panic!("no {what}: {error}; {seen:?}"),
            }
        }
    }

    /// Lets the node live until its moment and then `longer`, kills it, and returns all its events.
    fn live_and_die(mut self, moment: Moment, longer: Duration) -> Vec<Value> {
        let (what, life) = match moment {
            Moment::Any => (None, longer),
            Moment::Surely(what) => (Some(what), LONG_LIFE),
            Moment::Perhaps(what) => (Some(what), SHORT_LIFE),
        };
        let (mut until, mut seen) = (Instant::now() + life, Vec::new());
        let mut waits = what;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    if waits.is_some_and(|what| is_a(&event, what)) {
                        until = Instant::now() + longer;
                        waits = None;
                    }
                    seen.push(event);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended by itself, {:?}: {seen:?}", self.child.wait())
                }
            }
        }
        self.child.kill().expect("a running node");
        self.child.wait().expect("an ended node");
        seen.extend(self.events.iter());
        seen
    }

    /// Ends the node as a service manager does, by SIGTERM.
    fn end(mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("a running node");
        // Its events are read to the end, or it would wait for the test.
        let said: Vec<Value> = self.events.iter().collect();
        assert!(self.child.wait().expect("an ended node").success(), "{said:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed half-way leaves no node behind; one that ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether an event is of this kind, or has a text that begins with this.
fn is_a(event: &Value, what: &str) -> bool {
    event["event"] == what || event["text"].as_str().is_some_and(|text| text.starts_with(what))
}

/// What a node said it sent.
#[derive(Default)]
struct Sent {
    discoveries: Vec<Discovery>,
    attestations: BTreeSet<(RecordId, Comparison)>,
    results: BTreeSet<ConfigHash>,
}

impl Sent {
    fn learn(&mut self, events: &[Value]) {
        let texts =
            events.iter().filter(|event| event["event"] == "swarm").filter_map(|e| e["text"].as_str());
        for json in texts.filter_map(|text| text.strip_prefix("sent ")?.split_once(": ")) {
            match serde_json::from_str(json.1).expect("a record's body") {
                Body::Discovery(discovery) => self.discoveries.push(*discovery),
                Body::Attestation(it) => {
                    self.attestations.insert((it.discovery, it.comparison));
                }
                Body::Digest(digest) => self.results.extend(digest.lines.iter().map(|line| line.config)),
                Body::Claim(_) => {}
            }
        }
    }

    /// Returns the first of these things that is not among the bodies held, in words.
    fn missing(&self, held: &[Body]) -> Option<String> {
        let discovery = self.discoveries.iter().find(|sent| {
            !held.iter().any(|body| matches!(body, Body::Discovery(held) if held.as_ref() == *sent))
        });
        let said = |it: &&(RecordId, Comparison)| {
            !held.iter().any(
                |body| matches!(body, Body::Attestation(held) if (held.discovery, held.comparison) == **it),
            )
        };
        let told: BTreeSet<ConfigHash> = held
            .iter()
            .filter_map(|body| match body {
                Body::Digest(digest) => Some(digest.lines.iter().map(|line| line.config)),
                _ => None,
            })
            .flatten()
            .collect();
        let attestation = self.attestations.iter().find(said).map(|it| format!("{it:?}"));
        let result = self.results.difference(&told).next().map(|it| format!("the result of {it}"));
        discovery.map(|it| format!("{} ({})", it.patch, it.because)).or(attestation).or(result)
    }
}

/// Returns an author's records in the archive of a home; the archive must be undamaged.
fn held(home: &Path, swarm_config: &str, author: Author) -> Vec<Body> {
    let objective = SwarmConfig::parse(swarm_config).expect("valid").objective;
    let (archive, note) = Archive::open(&home.join(RECORDS), objective, unix_now()).expect("an archive");
    assert_eq!(note, None);
    let of_author = archive.iter().filter(|held| held.record.author() == author);
    of_author.map(|held| held.record.value().clone()).collect()
}

/// Asserts that each discovery held is a keep in the journal, and that no keep was told twice.
fn agree(held: &[Body], journal: &[Experiment]) {
    let mut seen = BTreeSet::new();
    for body in held {
        let Body::Discovery(discovery) = body else { continue };
        let keeps = journal.iter().filter(|experiment| {
            matches!(experiment.verdict, Verdict::Keep { .. })
                && experiment.hypothesis.patch == discovery.patch
                && *experiment.config == discovery.config
        });
        assert!(keeps.count() > 0, "{} is told and not in the journal", discovery.patch);
        let config = ConfigHash::of(&discovery.config.canonical_bytes());
        assert!(seen.insert((config, discovery.patch.to_string())), "{} is told twice", discovery.patch);
    }
}

fn journal(place: &Place) -> Vec<Experiment> {
    place.read().into_iter().map(|recorded| recorded.experiment).collect()
}

fn fingerprint(place: &Place) -> Value {
    let status = succeed(&mut place.node(&["status", "--json"]));
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let view = if status["network"].is_null() { &status } else { &status["network"] };
    view["fingerprint"].clone()
}

#[test]
fn kills_of_a_joined_node_lose_nothing_that_it_told() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 = number("SEED").unwrap_or(1);
    let kills = number("KILLS").map_or(KILLS, |kills| kills as u32);
    println!("SEED={seed} KILLS={kills}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    // The seeder stays up. It makes discoveries of its own, so that the joiner has something to answer.
    let seeding = place();
    let toml = std::fs::read_to_string(seeding.folder.path().join("little.toml")).expect("a file");
    let mut command = seeding.node(&["seed", "little.toml", "--seed", "7"]);
    command.env("FAKE_TRAINER", "slow=0.2");
    let mut seeder = Node::start(command);
    let ticket = seeder.wait_for("ticket").pop().expect("an event");
    let ticket = ticket["ticket"].as_str().expect("a text").to_owned();

    let joined = Place::new();
    let join = |seed: u32| {
        let mut command = joined.node(&["join", &ticket, "--show-sent", "--seed", &seed.to_string()]);
        // A little slowness spreads the kills over the phases of a run; little noise makes many keeps.
        command.env("FAKE_TRAINER", "slow=0.01,sigma=0.0005");
        Node::start(command)
    };
    let (mut sent, started) = (Sent::default(), Instant::now());
    for kill in 0..kills {
        let moment = MOMENTS[rng.random_range(0..MOMENTS.len())];
        let most = if matches!(moment, Moment::Any) { SHORT_LIFE.as_millis() as u64 } else { 60 };
        let longer = Duration::from_millis(rng.random_range(0..most));
        let events = join(kill).live_and_die(moment, longer);
        let damage =
            events.iter().find(|event| event["text"].as_str().is_some_and(|it| it.contains("damaged")));
        assert_eq!(damage, None, "kill {kill}");
        sent.learn(&events);
        let journal = journal(&joined);
        if kill % LOOK_EVERY == 0 && joined.home().join(RECORDS).is_dir() {
            let own = author(&joined);
            agree(&held(&joined.home(), &toml, own), &journal);
        }
        // Makes room for the seeder's events, or it would wait for the test.
        while seeder.events.try_recv().is_ok() {}
    }
    println!("{kills} kills in {:.1?}", started.elapsed());

    // A last life without a kill tells what kills kept from the swarm. What it says itself does not count,
    // since no restart follows.
    let mut last = join(kills);
    last.wait_for("concluded");
    for place in [&joined, &seeding] {
        succeed(&mut place.node(&["pause"]));
    }
    let until = Instant::now() + PATIENCE;
    while fingerprint(&joined) != fingerprint(&seeding) {
        assert!(Instant::now() < until, "the two never had the same records");
        thread::sleep(Duration::from_millis(200));
    }
    for node in [last, seeder] {
        node.end();
    }

    let own = author(&joined);
    let (at_home, at_peer) = (held(&joined.home(), &toml, own), held(&seeding.home(), &toml, own));
    assert_eq!(sent.missing(&at_home), None, "at home");
    assert_eq!(sent.missing(&at_peer), None, "at the peer");
    let journal = journal(&joined);
    agree(&at_home, &journal);
    agree(&at_peer, &journal);
    println!(
        "{} discoveries, {} attestations, {} results were said to be sent; \
         {} experiments, {} records of its own",
        sent.discoveries.len(),
        sent.attestations.len(),
        sent.results.len(),
        journal.len(),
        at_home.len()
    );
    let said = sent.discoveries.len() + sent.attestations.len() + sent.results.len();
    let enough = kills < KILLS || !(sent.discoveries.is_empty() || sent.attestations.is_empty());
    assert!(said > 0 && enough && !at_home.is_empty(), "too little happened to show anything");
}

fn author(place: &Place) -> Author {
    let keys = identity::load(&place.home()).expect("an identity");
    Author::of(&keys).expect("it is ed25519")
}
