//! What `node discoveries` prints, from the sample that the discoveries' own tests make.

use autoswarm_protocol::TrainConfig;

use super::*;
use crate::swarm::discoveries::{DiscoveryFilter, Sort, inspect::tests::sample};

const NOW: u64 = 1_795_219_384;

#[test]
fn a_list_at_a_hundred_columns() {
    let listing = sample().0.list(&DiscoveryFilter { sort: Sort::Delta, ..DiscoveryFilter::default() });
    insta::assert_snapshot!(table(&listing.rows, NOW, 100));
}

#[test]
fn an_empty_list_says_so() {
    assert_eq!(table(&[], NOW, 100), "no discoveries yet\n");
}

#[test]
fn everything_about_one_with_its_re_runs() {
    let (discoveries, ids) = sample();
    insta::assert_snapshot!(show(&discoveries.find(&ids[0]).expect("there")));
}

#[test]
fn everything_about_one_with_its_lineage() {
    let (discoveries, ids) = sample();
    insta::assert_snapshot!(show(&discoveries.find(&ids[2]).expect("there")));
}

#[test]
fn a_difference_has_signs_and_the_colours_repeat_them() {
    let (discoveries, ids) = sample();
    let discovery = discoveries.find(&ids[1]).expect("there").discovery;
    let incumbent = Patch::parse("warmdown 0.7, depth 2", &TrainConfig::new()).expect("a patch");
    let incumbent = incumbent.apply(&TrainConfig::new()).expect("applies").effective(256);
    let changes = Patch::between(&incumbent, &discovery.config);
    let sides = Sides { from: "this node's incumbent", to: "f2b705f1 by d9320d72" };
    let plain = difference(sides, &changes, &discovery.patch, Colour::Off);
    insta::assert_snapshot!(plain);
    let coloured = difference(sides, &changes, &discovery.patch, Colour::On);
    assert!(coloured.contains("\u{1b}[31m-depth 2\u{1b}[0m\n\u{1b}[32m+depth 3"), "{coloured}");
    let codes = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[36m"];
    assert_eq!(codes.iter().fold(coloured, |text, code| text.replace(code, "")), plain);
}

#[test]
fn no_difference_is_said() {
    let sides = Sides { from: "a", to: "b\u{1b}[2J" };
    let text = difference(sides, &Patch::default(), &Patch::default(), Colour::Off);
    assert_eq!(text, "--- a\n+++ b [2J\nno difference\n");
}
