//! The search's beliefs in the form that people see, made from the model, the ledger and the space.

use autoswarm_protocol::{Knob, KnobGroup, Value};

use super::{
    model::Belief,
    normal::normal_tail,
    operator::Operator,
    propose::{operator_weights, record_of, shares_of_scope},
    search::{Context, Search},
    space::Axis,
};
use crate::research::beliefs::{BeliefStep, Importance, KnobBelief, OperatorRecord};

/// Returns the beliefs by which the search would propose now.
pub(super) fn importance(context: &Context<'_>) -> Importance {
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
    Importance {
        knobs,
        operators,
        trials: context.ledger.trials().len() as u32,
        peer_results: context.peer_results.results.len() as u32,
        since_keep: context.ledger.since_keep(),
        scope: [focused, broad],
        pair_sd: context.ledger.pair_sd(KnobGroup::Shape),
    }
}

/// Returns what is believed of one knob. Its step is the most promising one that could be proposed.
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
        step: best.map(|(to, Belief { mean, sd })| BeliefStep {
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
