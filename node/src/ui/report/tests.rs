//! Stories, readings, the page and the chart.

use autoswarm_protocol::{Bpb, Outcome};

use super::*;
use crate::ui::view::lists::tests::several;

fn story() -> Story {
    Story::of(several()).expect("a baseline")
}

/// A run's report with the given bits per byte on validation, audit and locked.
fn report(story: &Story, values: [f64; 3]) -> RunReport {
    let run =
        story.experiments.iter().flat_map(|experiment| &experiment.runs).find_map(|run| run.outcome.report());
    let [validation, audit, locked] = values.map(|value| Bpb::new(value).expect("positive"));
    RunReport { validation, audit: Some(audit), locked: Some(locked), ..run.expect("a finished run").clone() }
}

fn reading(story: &Story) -> Reading {
    let pairs = [
        [report(story, [2.0, 2.1, 2.2]), report(story, [2.1, 2.2, 2.25])],
        [report(story, [2.0, 2.1, 2.4]), report(story, [2.3, 2.4, 2.55])],
    ];
    Reading::of(story, story.chosen().expect("a keep").config.hash(), &pairs, 1_795_219_384)
        .expect("complete")
}

#[test]
fn a_story_begins_with_the_newest_arenas_newest_baseline() {
    let count = several().len();
    let mut journal: Vec<Experiment> = several();
    for newest in &mut journal {
        newest.number += 100;
    }
    // The clock was set back twice, so that older experiments ended later.
    for mut older in several() {
        older.arena = ArenaId::of(b"the tour");
        older.finished_at += 10_000;
        journal.insert(0, older);
    }
    let mut first_try = several().swap_remove(0);
    (first_try.number, first_try.finished_at) = (50, first_try.finished_at + 5000);
    journal.push(first_try);
    let story = Story::of(journal).expect("a baseline");
    assert_eq!(story.experiments.len(), count);
    assert_eq!(story.arena, several()[0].arena);
    assert_eq!(story.baseline().verdict, Verdict::Baseline);
    assert!(Story::of(Vec::new()).is_none());
}

#[test]
fn a_reading_is_the_mean_difference_of_each_split() {
    let reading = reading(&story());
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(close(reading.validation.delta, -0.2) && close(reading.audit.delta, -0.2));
    assert!(close(reading.locked.delta, -0.1) && close(reading.locked.standard_error, 0.05));
    assert!(close(reading.level, 2.3));
}

#[test]
fn a_reading_without_a_split_is_none() {
    let story = story();
    let pair = [report(&story, [2.0; 3]), report(&story, [2.1; 3])];
    let mut blind = pair.clone();
    blind[1].locked = None;
    let chosen = story.chosen().expect("a keep").config.hash();
    assert_eq!(Reading::of(&story, chosen, &[pair, blind], 0), None);
}

#[test]
fn a_choice_is_read_once_and_every_reading_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("locked.json");
    let story = story();
    let mut readings = Readings::load(&file).expect("none yet");
    assert_eq!((readings.find(&story), readings.count(story.arena)), (None, 0));
    readings.add(&file, reading(&story)).expect("kept");
    let readings = Readings::load(&file).expect("reads back");
    assert_eq!(readings.find(&story), Some(&reading(&story)));
    // Another choice in the same arena has not been read, but the split has.
    let mut later = story.clone();
    let last_keep =
        later.experiments.iter_mut().rfind(|experiment| matches!(experiment.verdict, Verdict::Keep { .. }));
    last_keep.expect("a keep").config = several()[2].config.clone();
    assert_eq!((readings.find(&later), readings.count(later.arena)), (None, 1));
    fs::write(&file, "{").expect("written");
    assert!(Readings::load(&file).expect_err("damaged").to_string().contains("is damaged; move it away"));
}

#[test]
fn the_seeds_of_a_reading_are_nobody_elses() {
    let story = story();
    let chosen = story.chosen().expect("a keep").config.hash();
    let seeds: std::collections::BTreeSet<u64> =
        (0..READING_PAIRS).map(|pair| story.reading_seed(chosen, pair)).collect();
    assert_eq!(seeds.len(), usize::from(READING_PAIRS));
    let of_an_experiment = confirmation_seed(story.arena, chosen, story.baseline().config.hash(), 0, 0);
    assert!(!seeds.contains(&of_an_experiment));
}

#[test]
fn the_page_tells_the_whole_story() {
    let story = story();
    let page = markdown(&story, Some(&reading(&story)), 2, "report.svg");
    insta::assert_snapshot!(page);
}

#[test]
fn the_chart_shows_every_experiment_with_a_number() {
    let story = story();
    let picture = chart::svg(&story).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    let circles = picture.matches("<circle").count();
    let numbers = story.experiments[1..].iter().filter(|experiment| match &experiment.verdict {
        Verdict::Keep { .. } => true,
        Verdict::Discard { estimate, screened, .. } => estimate.is_some() || screened.is_some(),
        _ => false,
    });
    assert_eq!(circles, numbers.count());
    assert!(picture.contains("#1 depth"));
    let mut empty = story;
    for run in &mut empty.experiments[0].runs {
        run.outcome = Outcome::Crashed(autoswarm_protocol::Crash {
            class: autoswarm_protocol::CrashClass::Killed,
            message: String::new(),
            seconds: 0.0,
        });
    }
    assert_eq!(chart::svg(&empty), None);
}
