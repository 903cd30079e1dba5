//! What the search believes, for people: how much each knob matters here, its most promising step, and how each kind of move
//! has done. The numbers are the model's own, those that proposals are ranked by.

use autoswarm_protocol::{Knob, KnobGroup, Value};
use serde::{Deserialize, Serialize};

use super::{
    Belief, Context, Operator, Search, normal_tail, operator_weights, record_of, shares_of_scope, space::Axis,
};

/// Everything that `node experiments --importance` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The knobs that may be changed, the one with the largest effect first.
    pub knobs: Vec<KnobBelief>,
    /// The kinds of move, the one that is drawn most first.
    pub operators: Vec<OperatorRecord>,
    /// Experiments that the beliefs rest on.
    pub trials: u32,
    /// Changes that peers reported and that count too.
    pub rumours: u32,
    /// Experiments since the last keep.
    pub since_keep: u32,
    /// Shares of the proposals that may change two to four knobs, and more.
    pub scope: [f64; 2],
    /// Standard deviation of one paired difference on this machine, bits per byte.
    pub pair_sd: f64,
}

/// What is believed of one knob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnobBelief {
    /// Its name.
    pub knob: String,
    /// Its group.
    pub group: String,
    /// The incumbent's value.
    pub now: String,
    /// Experiments that changed it.
    pub trials: u32,
    /// Standard deviation of what one step of it does, bits per byte, as its trials taught: how much it matters.
    pub effect: f64,
    /// The most promising step from the incumbent, where there is one.
    pub step: Option<Step>,
}

/// A step of one knob and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The value.
    pub to: String,
    /// The expected difference, bits per byte, negative is better.
    pub delta: f64,
    /// Its standard deviation.
    pub sd: f64,
    /// The chance that it gains anything.
    pub chance: f64,
}

/// How one kind of move has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// Its name.
    pub operator: String,
    /// Experiments of late that were its idea.
    pub trials: u32,
    /// Those that were kept.
    pub keeps: u32,
    /// What its candidates' promise is multiplied with now, relative to the largest.
    pub weight: f64,
}

impl Importance {
    /// Returns what the search would go by if it proposed now.
    pub(super) fn of(context: &Context<'_>) -> Self {
        let search = Search::new(context);
        let mut knobs: Vec<KnobBelief> = search.space.open().map(|axis| belief(&search, axis)).collect();
        knobs.sort_by(|a, b| b.effect.total_cmp(&a.effect));
        let record = record_of(context.ledger);
        let weights = operator_weights(context);
        let most = weights.values().copied().fold(f64::MIN_POSITIVE, f64::max);
        let of_operator = |operator: Operator| {
            let (keeps, trials) = record.get(&operator).copied().unwrap_or_default();
            let weight = weights.get(&operator).copied().unwrap_or(0.0) / most;
            OperatorRecord { operator: operator.name().to_owned(), trials, keeps, weight }
        };
        let mut operators: Vec<OperatorRecord> = Operator::ALL.into_iter().map(of_operator).collect();
        operators.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let (focused, broad) = shares_of_scope(context);
        Self {
            knobs,
            operators,
            trials: context.ledger.trials().len() as u32,
            rumours: context.hearsay.rumours.len() as u32,
            since_keep: context.ledger.since_keep(),
            scope: [focused, broad],
            pair_sd: context.ledger.pair_sd(KnobGroup::Shape),
        }
    }
}

fn belief(search: &Search<'_>, axis: &Axis) -> KnobBelief {
    let now = search.context.incumbent.get(axis.knob);
    let of = |to: Value| {
        let (child, patch) = search.space.child(search.context.incumbent, &[(axis.knob, to)])?;
        let fits = !search.context.ledger.is_closed(child.hash())
            && search.predictor.misfit(&child, search.context.incumbent).is_none();
        fits.then(|| (to, search.model.predict(&search.space, &patch)))
    };
    let steps = axis.moves(now).into_iter().filter_map(of);
    let best = steps.max_by(|a, b| search.promise(a.1).total_cmp(&search.promise(b.1)));
    KnobBelief {
        knob: axis.knob.name().to_owned(),
        group: axis.knob.group().to_string(),
        now: shown(axis.knob, now),
        trials: search.context.ledger.tries_of(axis.knob),
        effect: search.model.effect(axis),
        step: best.map(|(to, Belief { mean, sd })| Step {
            to: shown(axis.knob, to),
            delta: mean,
            sd,
            chance: normal_tail(mean / sd),
        }),
    }
}

fn shown(knob: Knob, value: Value) -> String {
    value.display(knob).to_string()
}
