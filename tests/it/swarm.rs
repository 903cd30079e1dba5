//! A swarm of real processes: a seeder and joiners on loopback, with the fake trainer.

use std::{
    io::{BufRead, BufReader},
    mem,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use autoswarm_protocol::id::CorpusHash;

use crate::solo::{Place, fail, misuse, succeed};

pub(crate) const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// How long a test waits for one thing on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A node of the swarm, working in the background.
pub(crate) struct Node {
    pub(crate) place: Place,
    child: Child,
    events: Receiver<serde_json::Value>,
    patience: Duration,
}

/// Most events that wait to be looked at; beyond that, the node itself waits for the test.
const MAX_EVENTS: usize = 100_000;

impl Node {
    pub(crate) fn start(place: Place, arguments: &[&str], seed: &str) -> Self {
        let mut command = place.node(arguments);
        command.args(["--listen", LISTEN, "--no-mdns", "--json", "--budget", "1s", "--devices", "cpu:1x1"]);
        command.args(["--seed", seed]).env("FAKE_TRAINER", "slow=0.02");
        Self::spawn(place, &mut command, PATIENCE)
    }

    /// Starts a node that was told to print JSON; `patience` is for each thing waited for.
    pub(crate) fn spawn(place: Place, command: &mut Command, patience: Duration) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the node starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let (sender, events) = mpsc::sync_channel(MAX_EVENTS);
        thread::spawn(move || {
            let mut events = lines.map(|line| serde_json::from_str(&line).expect("a JSON line"));
            // The test may be over before its node.
            events.all(|event| sender.send(event).is_ok())
        });
        Self { place, child, events, patience }
    }

    /// Waits for an event; panics with the events seen if it does not come.
    #[track_caller]
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        is_it: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let until = Instant::now() + self.patience;
        let mut seen = Vec::new();
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) if is_it(&event) => return event,
                Ok(event) => seen.push(event.to_string()),
                Err(error) => panic!("no {what} ({error}): {}", seen.join("\n")),
            }
        }
    }

    /// Asks the node to stop, and waits until it has.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        succeed(&mut self.place.node(&["stop"]));
        assert!(self.child.wait().expect("an ended node").success());
    }

    #[track_caller]
    pub(crate) fn ticket(&mut self) -> String {
        let event = self.wait_for("a ticket", |event| event["event"] == "ticket");
        event["ticket"].as_str().expect("a text").to_owned()
    }

    /// Returns the ticket that `status` of the running node prints.
    fn ticket_of_status(&self) -> String {
        let status = succeed(&mut self.place.node(&["status"]));
        let line = status.lines().find_map(|line| line.strip_prefix("ticket   "));
        line.expect("a ticket").to_owned()
    }

    /// Returns the discoveries that this node lists.
    pub(crate) fn discoveries(&self) -> Vec<serde_json::Value> {
        let list = succeed(&mut self.place.node(&["discoveries", "list", "--json"]));
        list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed half-way leaves no node behind; one that ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a place with a swarm config, `little.toml`, that names its own little text.
pub(crate) fn place() -> Place {
    place_with("")
}

/// Makes such a place with `more` in the config's `corpus`.
fn place_with(more: &str) -> Place {
    let place = Place::new();
    let text = place.folder.path().join("text.txt");
    let toml = format!(
        "name = \"little\"\ndescription = \"a little text\"\n[objective]\nmetric = \"val_bpb\"\n\
         corpus = {{ source = \"path\", path = \"{}\"{more} }}\ntokenizer = {{ kind = \"bytes\" }}\n\
         evaluation = {{ context = 256, tokens = 65536 }}\ndtype = \"f32\"\nmin_effect = 0.0001\n",
        text.display()
    );
    std::fs::write(place.folder.path().join("little.toml"), toml).expect("a file");
    place
}

pub(crate) fn told(event: &serde_json::Value, what: &str) -> bool {
    event["event"] == "swarm" && event["text"].as_str().is_some_and(|text| text.starts_with(what))
}

#[test]
fn a_discovery_travels_is_tried_and_its_re_run_comes_back() {
    let mut seeder = Node::start(place(), &["seed", "little.toml"], "1");
    let ticket = seeder.ticket();
    let mut joiners: Vec<Node> =
        ["2", "3"].map(|seed| Node::start(Place::new(), &["join", &ticket], seed)).into();
    for joiner in &mut joiners {
        joiner.wait_for("a peer", |event| told(event, "peer"));
    }
    // Somebody makes a discovery. A joiner hears of it, tries it in an experiment that cites it, and answers.
    joiners[0].wait_for("news of a discovery", |event| told(event, "heard"));
    joiners[0].wait_for("an answer", |event| {
        told(event, "told what") && event["text"].as_str().is_some_and(|text| text.ends_with("transplanted"))
    });
    let of_others = joiners[0].discoveries().into_iter().filter(|row| row["own"] == false);
    assert!(of_others.clone().any(|row| row["tried"] == true), "{:?}", of_others.collect::<Vec<_>>());
    let experiments =
        succeed(&mut joiners[0].place.node(&["experiments", "list", "--json", "--limit", "1000"]));
    let experiments =
        experiments.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let mut cited =
        experiments.filter(|row| row["because"].as_str().is_some_and(|why| why.contains("a peer's")));
    let number = cited.next().expect("a hypothesis that names its inspiration")["number"].to_string();
    let shown = succeed(&mut joiners[0].place.node(&["experiments", "show", &number, "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let inspired_by = shown["hypothesis"]["inspired_by"][0].as_str().expect("an id").to_owned();
    assert!(joiners[0].discoveries().iter().any(|row| row["id"] == inspired_by.as_str()));
    // Another joiner runs a discovery again for its author, as the author ran it.
    let reproduced = |event: &serde_json::Value| {
        event["event"] == "swarm" && event["text"].as_str().is_some_and(|text| text.ends_with("reproduced"))
    };
    joiners[1].wait_for("a reproduction", reproduced);
    let shown: Vec<serde_json::Value> = joiners[1]
        .discoveries()
        .iter()
        .map(|row| {
            succeed(&mut joiners[1].place.node(&[
                "discoveries",
                "show",
                row["id"].as_str().expect("an id"),
                "--json",
            ]))
        })
        .map(|line| serde_json::from_str(&line).expect("JSON"))
        .collect();
    assert!(shown.iter().any(|found| found["attestations"].to_string().contains("reproduced")), "{shown:?}");
    // Both others get an answer, so the author has it, whoever that is.
    let until = Instant::now() + PATIENCE;
    let is_back = |node: &Node| node.discoveries().iter().any(|row| row["attestations"].as_u64() > Some(0));
    while !is_back(&seeder) || !is_back(&joiners[1]) {
        assert!(Instant::now() < until, "the re-run did not come back");
        thread::sleep(Duration::from_millis(200));
    }
    let status = succeed(&mut seeder.place.node(&["status"]));
    assert!(status.contains("2 peers connected") && status.contains("ticket   "), "{status}");
}

#[test]
fn a_late_joiner_has_the_whole_history_also_when_the_seeder_is_gone() {
    let mut seeder = Node::start(place(), &["seed", "little.toml"], "1");
    let ticket = seeder.ticket();
    let mut second = Node::start(Place::new(), &["join", &ticket], "2");
    second.wait_for("news of a discovery", |event| told(event, "heard"));
    let ticket = second.ticket_of_status();
    drop(seeder);
    let mut late = Node::start(Place::new(), &["join", &ticket, "--observe"], "3");
    late.wait_for("news of a discovery", |event| told(event, "heard"));
    let known: Vec<String> = second.discoveries().iter().map(|row| row["id"].to_string()).collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let here: Vec<String> = late.discoveries().iter().map(|row| row["id"].to_string()).collect();
        if known.iter().all(|id| here.contains(id)) {
            break;
        }
        assert!(Instant::now() < until, "{here:?} lacks some of {known:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn nobody_home_is_no_reason_to_stop() {
    let place = place();
    let nobody = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let mut node = Node::start(place, &["join", "little.toml", "--peer", nobody], "1");
    node.wait_for("a verdict", |event| event["event"] == "concluded" && event["number"] == 1);
    let status = succeed(&mut node.place.node(&["status"]));
    assert!(status.contains("0 peers connected") && status.contains("training goes on alone"), "{status}");
}

#[test]
fn a_pinned_text_may_lie_elsewhere_at_each_node() {
    let pin = format!(", blake3 = \"{}\"", CorpusHash::of(b"fake corpus"));
    let mut seeder = Node::start(place_with(&pin), &["seed", "little.toml"], "1");
    let ticket = seeder.ticket();
    let arena =
        |node: &mut Node| node.wait_for("a start", |event| event["event"] == "started")["arena"].clone();
    let seeded = arena(&mut seeder);
    std::fs::remove_file(seeder.place.folder.path().join("text.txt")).expect("a file");
    let joiner = Place::new();
    let error = fail(&mut joiner.node(&["join", &ticket, "--no-mdns", "--listen", LISTEN]));
    assert!(error.contains("not there") && error.contains("`--data PATH`"), "{error}");
    let mut joiner = Node::start(joiner, &["join", &ticket, "--data", "text.txt"], "2");
    assert_eq!(arena(&mut joiner), seeded);
    joiner.wait_for("news of a discovery", |event| told(event, "heard"));
    joiner.stop();
    let again = mem::replace(&mut joiner.place, Place::new());
    let mut joiner = Node::start(again, &["join", &ticket], "2");
    assert_eq!(arena(&mut joiner), seeded, "a home knows where its text lies");
    let error = fail(&mut place().node(&["join", "little.toml", "--data", "text.txt"]));
    assert!(error.contains("blake3"), "{error}");
    let error = fail(&mut place().node(&["join", "default", "--data", "text.txt"]));
    assert!(error.contains("pinned list of crates"), "{error}");
}

#[test]
fn an_external_address_stands_first_in_the_ticket() {
    let external = "/dns4/example.org/tcp/4001";
    let arguments = ["seed", "little.toml", "--serve-only", "--external", external];
    let mut seeder = Node::start(place(), &arguments, "1");
    let ticket = seeder.ticket();
    let (_, addresses) = ticket.split_once('@').expect("a ticket");
    assert!(addresses.starts_with(&format!("{external}/p2p/")), "{ticket}");
    seeder.stop();
    let error = misuse(&mut place().node(&["seed", "little.toml", "--external", "/ip4/0.0.0.0/tcp/1"]));
    assert!(error.contains("--external") && error.contains("public address"), "{error}");
}

#[test]
fn a_wrong_ticket_is_named() {
    let place = Place::new();
    let error = fail(&mut place.node(&["join", "abc@/ip4/127.0.0.1/tcp/1"]));
    assert!(error.contains("the ticket's objective") && error.contains("`abc`"), "{error}");
    let error = fail(&mut place.node(&["join", "little.toml"]));
    assert!(error.contains("there is no swarm config `little.toml`"), "{error}");
    let error = fail(&mut place.node(&["discoveries"]));
    assert!(error.contains("this home never joined a swarm"), "{error}");
}
