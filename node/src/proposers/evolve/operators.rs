//! The operators of the search: each lists the changes that its idea suggests, with the reason in one line.
//!
//! Not here: which changes may be tried and what they promise (`search.rs`); the choice (`propose.rs`).

use std::collections::BTreeMap;

use autoswarm_protocol::{Knob, Patch, Value, train_config::parse_value};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    ledger::Trial,
    model::{Belief, knobs_of},
    normal::normal,
    operator::Operator,
    priors::{PRIORS, PriorTarget},
    search::{Candidate, Search, shorten},
    space::Axis,
};
use crate::proposers::program::Scope;

/// The knobs that decide how much training a budget buys, and the rate that depends on them most.
const SCALE: [Knob; 5] =
    [Knob::BatchTokens, Knob::Depth, Knob::Width, Knob::SequenceLength, Knob::MatrixRate];
/// Knobs whose best values move together, with the direction in which the second follows the first.
const TOGETHER: [(Knob, Knob, f64); 7] = [
    (Knob::BatchTokens, Knob::MatrixRate, 1.0),
    (Knob::Depth, Knob::Width, -1.0),
    (Knob::SequenceLength, Knob::BatchTokens, 1.0),
    (Knob::Width, Knob::MatrixRate, -1.0),
    (Knob::EmbeddingRate, Knob::UnembeddingRate, 1.0),
    (Knob::Warmdown, Knob::FinalRate, -1.0),
    (Knob::Width, Knob::MlpRatio, -1.0),
];
/// Most keeps that are bracketed and split, the newest ones.
const RECENT_KEEPS: usize = 6;
/// Most near misses that are combined with each other.
const NEAR_MISSES: usize = 8;
/// Draws from the model's belief, each of which gives changes of several knobs.
const DRAWS: usize = 8;
/// Numbers of knobs that those changes move.
const TOGETHER_AT_ONCE: [usize; 3] = [2, 3, 4];
/// Random jumps that are listed for a broad proposal.
const COMBINATIONS: usize = 16;

/// Lists what an operator would like to try, within a person's scope.
pub(super) fn candidates(
    operator: Operator,
    search: &Search<'_>,
    scope: Scope,
    rng: &mut ChaCha8Rng,
) -> Vec<Candidate> {
    match operator {
        Operator::Prior => prior_art(search),
        Operator::Scale => scale(search, scope),
        Operator::Model => model(search, scope, rng),
        Operator::Bracket => bracket(search),
        Operator::Split => split(search),
        Operator::Ablation => ablation(search),
        Operator::Recombination => recombination(search),
    }
    .into_iter()
    .filter(|candidate| fits_scope(candidate, search))
    .collect()
}

/// Returns whether a candidate keeps to the scope that a person asked for, which binds every operator.
fn fits_scope(candidate: &Candidate, search: &Search<'_>) -> bool {
    match search.context.direction.scope {
        Some(Scope::Narrow) => candidate.changes.len() == 1,
        Some(Scope::Focused) => candidate.changes.len() <= 3,
        Some(Scope::Broad) | None => true,
    }
}

fn prior_art(search: &Search<'_>) -> Vec<Candidate> {
    if !search.context.objective.priors {
        return Vec::new();
    }
    PRIORS
        .iter()
        .filter_map(|prior| {
            let changes = prior
                .changes
                .iter()
                .map(|(knob, target)| {
                    let axis = search.space.axis(*knob);
                    let from = search.context.incumbent.get(*knob);
                    let to = match *target {
                        PriorTarget::Steps(steps) => axis.step(from, steps),
                        PriorTarget::Set(text) => parse_value(*knob, text).ok(),
                    };
                    to.map(|to| (*knob, to))
                })
                .collect::<Option<Vec<_>>>()?;
            Some(Candidate::new(changes, format!("{}: {}", Operator::Prior, prior.because)))
        })
        .collect()
}

fn scale(search: &Search<'_>, scope: Scope) -> Vec<Candidate> {
    let incumbent = search.context.incumbent;
    let mut out = Vec::new();
    for knob in SCALE {
        let axis = search.space.axis(knob);
        let from = incumbent.get(knob);
        for steps in [1.0, -1.0, 2.0, -2.0] {
            let Some(to) = axis.step(from, steps) else { continue };
            let (now, then) =
                (search.predictor.predict(incumbent), search.space.child(incumbent, &[(knob, to)]));
            let because = match then.map(|(child, _)| search.predictor.predict(&child)) {
                Some(then) if (then.steps / now.steps - 1.0).abs() > 0.02 => format!(
                    "{}: {} steps instead of {} in the same time",
                    Operator::Scale,
                    round_two(then.steps),
                    round_two(now.steps)
                ),
                _ => format!("{}: the main rate follows batch and width", Operator::Scale),
            };
            out.push(Candidate::new(vec![(knob, to)], because));
        }
    }
    if scope != Scope::Narrow {
        out.extend(together(search, Operator::Scale, &TOGETHER[..4]));
    }
    out
}

/// Rounds to two significant digits, for people.
fn round_two(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

/// Lists changes of two knobs that move together, one step either way.
fn together(search: &Search<'_>, operator: Operator, pairs: &[(Knob, Knob, f64)]) -> Vec<Candidate> {
    let mut out = Vec::new();
    for &(first, second, follows) in pairs {
        for steps in [1.0, -1.0] {
            let value = |knob, steps| search.space.axis(knob).step(search.context.incumbent.get(knob), steps);
            if let (Some(a), Some(b)) = (value(first, steps), value(second, steps * follows)) {
                let because = format!("{operator}: the best `{second}` moves with `{first}`");
                out.push(Candidate::new(vec![(first, a), (second, b)], because));
            }
        }
    }
    out
}

fn model(search: &Search<'_>, scope: Scope, rng: &mut ChaCha8Rng) -> Vec<Candidate> {
    let mut out = one_knob(search);
    if scope == Scope::Narrow {
        return out;
    }
    shorten(&mut out, rng);
    out.extend(several(search, rng));
    out.extend(together(search, Operator::Model, &TOGETHER));
    if scope == Scope::Broad {
        out.extend((0..COMBINATIONS).map(|_| {
            let knobs = rng.random_range(4..=8);
            blind(search, knobs, rng)
        }));
    }
    out
}

/// Lists every near move of every open knob, one knob at a time.
fn one_knob(search: &Search<'_>) -> Vec<Candidate> {
    let mut out = Vec::new();
    for axis in search.space.open() {
        let tries = search.context.ledger.tries_of(axis.knob);
        for to in axis.moves(search.context.incumbent.get(axis.knob)) {
            let because = match tries {
                0 => format!("{}: `{}` has not been tried yet", Operator::Model, axis.knob),
                _ => format!(
                    "{}: the most promising step by what {tries} {} of `{}` showed",
                    Operator::Model,
                    if tries == 1 { "trial" } else { "trials" },
                    axis.knob
                ),
            };
            out.push(Candidate::new(vec![(axis.knob, to)], because));
        }
    }
    out
}

/// Lists changes of several knobs: small gains that no run could show alone are seen in their sum.
///
/// Each draw samples the effect of every one-knob change from the model's belief, and tries the best two,
/// three and four of them together. The first draw takes the means; the last is as wide as the belief.
fn several(search: &Search<'_>, rng: &mut ChaCha8Rng) -> Vec<Candidate> {
    let incumbent = search.context.incumbent;
    let singles: Vec<(Knob, Value, Belief)> = search
        .space
        .open()
        .flat_map(|axis| axis.moves(incumbent.get(axis.knob)).into_iter().map(|to| (axis.knob, to)))
        .filter_map(|(knob, to)| {
            let (_, patch) = search.space.child(incumbent, &[(knob, to)])?;
            Some((knob, to, search.model.predict(&search.space, &patch)))
        })
        .collect();
    let mut out = Vec::new();
    for draw in 0..DRAWS {
        let doubt = draw as f64 / (DRAWS - 1) as f64;
        let mut best: BTreeMap<Knob, (f64, Value)> = BTreeMap::new();
        for (knob, to, belief) in &singles {
            let drawn = belief.mean + doubt * belief.sd * normal(rng);
            let entry = best.entry(*knob).or_insert((0.0, *to));
            if drawn < entry.0 {
                *entry = (drawn, *to);
            }
        }
        let mut gains: Vec<(f64, Knob, Value)> = best
            .into_iter()
            .filter(|(_, (gain, _))| *gain < 0.0)
            .map(|(knob, (gain, to))| (gain, knob, to))
            .collect();
        gains.sort_by(|a, b| a.0.total_cmp(&b.0));
        for knobs in TOGETHER_AT_ONCE.into_iter().take_while(|knobs| *knobs <= gains.len()) {
            let changes = gains[..knobs].iter().map(|(_, knob, to)| (*knob, *to)).collect();
            let because = format!("{}: {knobs} promising steps at once", Operator::Model);
            out.push(Candidate::new(changes, because));
        }
    }
    out
}

/// Draws a random change of at most `knobs` knobs. The more interesting a knob, the more often it is drawn.
pub(super) fn blind(search: &Search<'_>, knobs: usize, rng: &mut ChaCha8Rng) -> Candidate {
    let axes: Vec<&Axis> = search.space.open().collect();
    let total: f64 = axes.iter().map(|axis| axis.interest).sum();
    let mut changes: Vec<(Knob, Value)> = Vec::new();
    // Some draws give a knob that is moved already, or no new value.
    for _ in 0..4 * knobs {
        let mut left = rng.random::<f64>() * total;
        let axis = axes.iter().find(|axis| {
            left -= axis.interest;
            left <= 0.0
        });
        let Some(axis) = axis.or(axes.last()) else { break };
        let from = search.context.incumbent.get(axis.knob);
        let to = if axis.is_choice() {
            let names = axis.names();
            (!names.is_empty()).then(|| names[rng.random_range(0..names.len())])
        } else {
            axis.step(from, 1.5 * normal(rng))
        };
        if let Some(to) = to.filter(|to| *to != from)
            && changes.iter().all(|(other, _)| *other != axis.knob)
        {
            changes.push((axis.knob, to));
        }
        if changes.len() == knobs {
            break;
        }
    }
    let because = format!("{}: a jump of {} knobs to somewhere new", Operator::Model, changes.len());
    Candidate::new(changes, because)
}

/// Returns the newest kept trials, newest first.
fn keeps<'a>(search: &'a Search<'_>) -> impl Iterator<Item = &'a Trial> {
    search.context.ledger.trials().rev().filter(|trial| trial.kept).take(RECENT_KEEPS)
}

fn bracket(search: &Search<'_>) -> Vec<Candidate> {
    let incumbent = search.context.incumbent;
    let mut out = Vec::new();
    for trial in keeps(search) {
        for (share, what) in [(1.5, "half as far again"), (0.5, "half-way")] {
            let changes: Vec<(Knob, Value)> = trial
                .patch
                .iter()
                .filter(|(knob, change)| incumbent.get(*knob) == change.to)
                .filter_map(|(knob, change)| {
                    let axis = search.space.axis(knob);
                    let (from, to) = (axis.coordinate(change.from), axis.coordinate(change.to));
                    let reached = axis.at(from + share * (to - from)).filter(|value| *value != change.to);
                    // On a coarse grid the share may end where it began: then take the next value that way.
                    let value = reached.or_else(|| axis.step(change.to, (to - from) * (share - 1.0)))?;
                    (axis.open && !axis.is_choice() && value != change.from).then_some((knob, value))
                })
                .collect();
            if !changes.is_empty() {
                let because = format!("{}: `{}` won; {what}", Operator::Bracket, trial.patch);
                out.push(Candidate::new(changes, because));
            }
        }
    }
    out
}

fn split(search: &Search<'_>) -> Vec<Candidate> {
    let incumbent = search.context.incumbent;
    let mut out = Vec::new();
    for trial in keeps(search).filter(|trial| trial.patch.len() > 1) {
        for (knob, change) in trial.patch.iter().filter(|(knob, change)| incumbent.get(*knob) == change.to) {
            let because = format!("{}: did `{knob}` help in `{}`?", Operator::Split, trial.patch);
            out.push(Candidate::new(vec![(knob, change.from)], because).simpler());
        }
    }
    out
}

fn ablation(search: &Search<'_>) -> Vec<Candidate> {
    let incumbent = search.context.incumbent;
    let mut out = Vec::new();
    if let Some(baseline) = search.context.ledger.baseline() {
        for (knob, change) in Patch::between(baseline, incumbent).iter() {
            let because = format!("{}: is the change of `{knob}` still worth it?", Operator::Ablation);
            out.push(Candidate::new(vec![(knob, change.from)], because).simpler());
        }
    }
    for axis in search.space.open() {
        if let Some(off) = axis.off.filter(|off| incumbent.get(axis.knob) != *off) {
            let because =
                format!("{}: does `{}` earn its place at this budget?", Operator::Ablation, axis.knob);
            out.push(Candidate::new(vec![(axis.knob, off)], because).simpler());
        }
    }
    out
}

fn recombination(search: &Search<'_>) -> Vec<Candidate> {
    let incumbent = search.context.incumbent;
    let mut misses: Vec<&Trial> = search
        .context
        .ledger
        .trials()
        .filter(|trial| !trial.kept && trial.delta.is_some_and(|delta| delta < 0.0))
        .filter(|trial| trial.patch.iter().any(|(knob, change)| incumbent.get(knob) != change.to))
        .collect();
    // The largest gain in standard errors first; of equal ones the newest.
    let promise = |trial: &Trial| trial.delta.unwrap_or(0.0) / trial.standard_error.max(1e-9);
    misses.sort_by(|a, b| promise(a).total_cmp(&promise(b)).then(b.number.cmp(&a.number)));
    misses.truncate(NEAR_MISSES);
    let values = |patch: &Patch| -> Vec<(Knob, Value)> {
        patch.iter().map(|(knob, change)| (knob, change.to)).collect()
    };
    let mut out = Vec::new();
    for (place, first) in misses.iter().enumerate() {
        for second in &misses[place + 1..] {
            let (a, b) = (knobs_of(&first.patch), knobs_of(&second.patch));
            if a.iter().any(|knob| b.contains(knob)) {
                continue;
            }
            let because = format!(
                "{}: experiments {} and {} each came near",
                Operator::Recombination,
                first.number,
                second.number
            );
            out.push(Candidate::new([values(&first.patch), values(&second.patch)].concat(), because));
        }
    }
    out
}
