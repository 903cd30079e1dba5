//! `node discoveries` and `status` in a swarm of real processes, on a running node and on its home at rest.

use autoswarm_protocol::TrainConfig;
use serde_json::Value;

use crate::{
    solo::{Place, fail, succeed},
    swarm::{Node, place, told},
};

fn list(place: &Place, filters: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["discoveries", "list", "--json"];
    arguments.extend(filters);
    let printed = succeed(&mut place.node(&arguments));
    printed.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn say(place: &Place, arguments: &[&str]) -> String {
    succeed(&mut place.node(&[&["discoveries"], arguments].concat()))
}

/// Checks everything that `discoveries` can show; it must be the same whether a node runs or not.
#[track_caller]
fn look(place: &Place) {
    let foreign = list(place, &["--foreign"]);
    assert!(!foreign.is_empty() && foreign.iter().all(|row| row["own"] == false), "{foreign:?}");
    assert!(list(place, &["--mine"]).iter().all(|row| row["own"] == true));
    let of = |name: &str| foreign[0][name].as_str().expect("a text").to_owned();
    let (id, author, arena) = (of("id"), of("author"), of("arena"));
    let [knob, from, to] =
        [0, 1, 2].map(|n| foreign[0]["patch"][0][n].as_str().expect("a change").to_owned());
    let narrow = ["--knob", &knob, "--author", &author, "--arena", &arena, "--class", "1s", "--since", "1d"];
    assert!(list(place, &narrow).iter().any(|row| row["id"] == id.as_str()), "{narrow:?}");
    assert_eq!(list(place, &["--class", "24"]), [Value::Null; 0]);
    assert_eq!(list(place, &["--sort", "surety", "--limit", "1"]).len(), 1);
    assert_eq!(say(place, &["--class", "24"]), "no discovery passes the filters\n");
    let table = say(place, &[]);
    assert!(table.starts_with("id ") && table.contains(&id[..8]) && table.contains("1s"), "{table}");

    let shown = say(place, &["show", &id[..10]]);
    assert!(shown.contains(&id) && shown.contains(&format!("change     {knob} {from} → {to}")), "{shown}");
    let against_incumbent = say(place, &["diff", &id[..10]]);
    assert!(against_incumbent.starts_with("--- this node's incumbent\n+++ "), "{against_incumbent}");
    let against_parent = say(place, &["diff", &id[..10], "--against", "parent"]);
    assert!(
        against_parent.contains(&format!("\n-{knob} {from}\n+{knob} {to}  (its change)\n")),
        "{against_parent}"
    );
    assert!(!against_parent.contains('\u{1b}'), "no colours where no terminal is");
    let difference = say(place, &["diff", &id[..10], "--against", "parent", "--json"]);
    let difference: Value = serde_json::from_str(&difference).expect("JSON");
    assert_eq!(
        (&difference["changes"], &difference["claimed"]),
        (&foreign[0]["patch"], &foreign[0]["patch"])
    );

    let whole: Value = serde_json::from_str(&say(place, &["show", &id, "--json"])).expect("JSON");
    let toml = say(place, &["export", &id]);
    let config = TrainConfig::from_toml(&toml).expect("a config");
    let json: Value = serde_json::from_str(&say(place, &["export", &id, "--as", "json"])).expect("JSON");
    assert_eq!(json, whole["discovery"]["config"]);
    assert_eq!(json, serde_json::to_value(&config).expect("JSON"));
    let row = say(place, &["export", &id[..12], "--as", "tsv"]);
    assert_eq!((row.lines().count(), row.lines().nth(1).map(|line| line.starts_with(&id))), (2, Some(true)));
    assert!(say(place, &["export", "--as", "tsv"]).lines().count() > foreign.len());
    let diff = say(place, &["export", &id, "--as", "autoresearch"]);
    assert!(diff.contains("--- a/train.py\n+++ b/train.py\n@@ "), "{diff}");

    let error = fail(&mut place.node(&["discoveries", "show", "0000000000000000"]));
    assert!(error.contains("there is no discovery `0000000000000000`"), "{error}");
    let error = fail(&mut place.node(&["discoveries", "export", "--as", "autoresearch"]));
    assert!(error.contains("this form is of one discovery") && error.contains("hint: "), "{error}");
}

#[test]
fn what_was_received_is_shown_running_and_at_rest() {
    let mut seeder = Node::start(place(), &["seed", "little.toml"], "1");
    let ticket = seeder.ticket();
    let mut joiner = Node::start(Place::new(), &["join", &ticket], "2");
    joiner.wait_for("news of a discovery", |event| told(event, "heard"));
    look(&joiner.place);
    let status = succeed(&mut joiner.place.node(&["status"]));
    assert!(status.contains("\narrived  ") && status.contains("1 peer connected"), "{status}");
    let status = succeed(&mut joiner.place.node(&["status", "--json"]));
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert!(status["swarm"]["arrived"]["discoveries"]["hour"].as_u64() > Some(0), "{status}");
    assert_eq!(status["swarm"]["peers"][0]["peer"], status["network"]["peers"][0]["peer"]);
    joiner.stop();
    look(&joiner.place);
}
