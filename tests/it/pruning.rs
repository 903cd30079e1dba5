//! Pruning, tried on recorded runs of the real trainer: what it stops, what that saves, and what it loses.

#![allow(clippy::print_stdout)] // figures, for `--nocapture`

use std::collections::BTreeMap;

use autoswarm_node::research::pruning::{Early, PruneModel};
use autoswarm_protocol::{
    Bpb, Patch, RunReport,
    outcome::CurvePoint,
    pruning::{CURVE_POINTS, PRUNE_POINTS, curve_point},
};
use autoswarm_tests::surrogate::{
    runs::{RealRun, real_runs},
    start,
};

/// Places in a recorded curve: those where pruning looks, and the end.
const LOOKS: [usize; 4] = [2, 4, 6, 8];
/// Seconds of starting and evaluating beside 5 s of training. // measured 2026-11
const BESIDE: f64 = 1.5;

/// Makes the report that a recorded run would have had; none without a number.
fn report(run: &RealRun) -> Option<RunReport> {
    let measured = run.measured?;
    let steps = (measured.tokens / run.config.integer(autoswarm_protocol::Knob::BatchTokens) as f64) as u64;
    let at = |point: u64| (1..=steps).find(|step| curve_point(*step, steps) == Some(point));
    let points =
        PRUNE_POINTS.into_iter().chain([CURVE_POINTS]).zip(LOOKS).map(|(point, place)| {
            Some(CurvePoint { step: at(point)?, tokens: 0, loss: *run.curve.get(place)? })
        });
    let (tokens, validation) = (measured.tokens as u64, Bpb::new(measured.validation).ok()?);
    Some(RunReport {
        steps,
        curve: points.collect::<Option<_>>()?,
        ..RunReport::simulated(run.config.hash(), run.seed, tokens, measured.cpu_seconds, validation)
    })
}

#[test]
fn recorded_runs_lose_no_gain_to_pruning() {
    let start = start();
    let all: Vec<(RealRun, RunReport)> =
        real_runs().into_iter().filter_map(|run| report(&run).map(|report| (run, report))).collect();
    let incumbents: BTreeMap<u64, Early> = all
        .iter()
        .filter(|(run, _)| run.config == start)
        .filter_map(|(run, report)| Some((run.seed, Early::of(report)?)))
        .collect();
    let levels: BTreeMap<u64, f64> = all
        .iter()
        .filter(|(run, _)| run.config == start)
        .map(|(run, report)| (run.seed, report.validation.get()))
        .collect();
    let mut model = PruneModel::default();
    let (mut children, mut stopped, mut gains, mut lost) = (0, 0, 0, 0);
    let (mut cost, mut saved) = (0.0, 0.0);
    for (run, report) in all.iter().filter(|(run, _)| run.config != start) {
        let Some(early) = incumbents.get(&run.seed) else { continue };
        let group = Patch::between(&start, &run.config).group();
        let gained = report.validation.get() < levels[&run.seed];
        (children, gains) = (children + 1, gains + u32::from(gained));
        cost += report.training_seconds + BESIDE;
        let bounds = model.bounds(group, run.config.hash(), early);
        let end = report.curve.iter().find(|at| {
            let point = curve_point(at.step, report.steps);
            bounds.zip(point).is_some_and(|(bounds, point)| bounds.passed(point, at.loss).is_some())
        });
        match end {
            Some(at) => {
                let share = at.step as f64 / report.steps as f64;
                saved += (1.0 - share) * report.training_seconds + BESIDE;
                (stopped, lost) = (stopped + 1, lost + u32::from(gained));
            }
            // A run that was stopped has no end to learn from.
            None => model.observe(group, report, early),
        }
    }
    println!(
        "{children} children, {gains} better than the start on their seed; \
         {stopped} stopped, {lost} of those better; {:.1} % saved",
        100.0 * saved / cost
    );
    assert!(children > 150 && gains > 30, "{children} {gains}");
    assert!(stopped >= 5 && saved > 0.02 * cost, "{stopped} {saved} {cost}");
    assert!(50 * lost <= gains, "{lost} of {gains} gains lost: at most 2 % may be");
}
