//! Small simulated swarms: seeds repeat, talking beats silence, liars do little harm, and a partition heals.
//!
//! `scripts/simulate.sh` runs the large ones; `node/docs/simulation.md` has their figures.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use autoswarm_tests::{
    simulator::{Link, Partition, Spec, Story, conditions::Condition, simulate},
    surrogate::Surrogate,
};

/// The seeds of each comparison, and the threads that share them.
const SEEDS: std::ops::Range<u64> = 1..5;
const THREADS: usize = 2;

fn gains(condition: &Condition) -> f64 {
    let gains = condition.figures(|story| story.mean_gain(story.length));
    gains.iter().sum::<f64>() / gains.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let surface = Surrogate::committed();
    let story = |seed| simulate(&Spec { liars: 1, ..Spec::new(3, 0.06, seed) }, &surface);
    let first = story(1);
    assert!(first.experiments.0 > 10, "{first:?}");
    assert_eq!(first, story(1));
    assert_ne!(first.digest, story(2).digest);
}

#[test]
fn talking_beats_silence_and_liars_do_no_harm() {
    let surface = Surrogate::committed();
    let spec = Spec::new(12, 0.15, 0);
    let run = |name: &str, spec: Spec| Condition::run(name, spec, SEEDS, THREADS, &surface);
    let talking = run("talking", spec.clone());
    let silent = run("silent", Spec { talking: false, ..spec.clone() });
    let among_liars = run("among liars", Spec { liars: 5, ..spec });
    let (talk, silence, lies) = (gains(&talking), gains(&silent), gains(&among_liars));
    println!("gain: talking {talk:.4}, silent {silence:.4}, five liars beside twelve {lies:.4} bpb");
    let sum = |of: fn(&Story) -> usize| among_liars.stories.iter().map(of).sum::<usize>();
    let (adoptions, harmful) = (sum(|story| story.adoptions.len()), sum(Story::harmful_lies));
    println!("{adoptions} adoptions among liars, {harmful} of them harmful lies");
    assert!(talk > silence, "{talk} {silence}");
    assert!(lies > 0.6 * talk, "{lies} {talk}");
    assert!(adoptions > 0 && harmful * 20 <= adoptions, "{harmful} of {adoptions}");
}

#[test]
fn a_partition_heals_and_lost_messages_come_later() {
    let surface = Surrogate::committed();
    let partition = Partition { from: 0.0, until: 200.0 };
    let link = Link { loss: 0.4, partition: Some(partition), ..Link::default() };
    let story = simulate(&Spec { link, ..Spec::new(2, 0.14, 3) }, &surface);
    // Each node is one half of the swarm, so nothing is adopted before the partition ends.
    assert!(story.adoptions.iter().all(|adoption| adoption.at > partition.until), "{:?}", story.adoptions);
    assert!(story.foreign.0 + story.foreign.1 > 0.0, "{story:?}");
}
