//! What the search believes of knobs and of kinds of move, as a page. Pure.

use std::fmt::Write;

use crate::{
    base::words,
    research::beliefs::{Importance, KnobBelief, OperatorRecord},
};

/// Returns the `limit` knobs that matter most and all kinds of move, for a terminal of `width` columns.
pub fn page(importance: &Importance, limit: usize, width: usize) -> String {
    let mut out = String::new();
    let Importance { trials, peer_results, pair_sd, since_keep, scope: [focused, broad], .. } = importance;
    let heard = if *peer_results == 0 {
        String::new()
    } else {
        format!(" and {} that peers reported", words::plural(*peer_results, "change"))
    };
    let tried = words::plural(*trials, "experiment");
    let _ = writeln!(
        out,
        "what the search believes after {tried}{heard}; one pair's noise is ±{pair_sd:.4} bpb\n"
    );
    let header = ["knob", "now", "tried", "a step does", "best step", "expected Δ ± sd, bpb", "gains"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(importance.knobs.iter().take(limit).map(row));
    out.push_str(&words::columns(&rows, 4, width));
    let left = importance.knobs.len().saturating_sub(limit) as u32;
    if left > 0 {
        let (knobs, matter) = (words::plural(left, "knob"), if left == 1 { "matters" } else { "matter" });
        let _ = writeln!(out, "and {knobs} that {matter} less: `--limit {}`", importance.knobs.len());
    }
    let mut rows = vec![["kind of move", "kept", "tried", "weight"].map(str::to_owned)];
    rows.extend(importance.operators.iter().map(operator_row));
    out.push('\n');
    out.push_str(&words::columns(&rows, 0, width));
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let _ = writeln!(
        out,
        "\n{} without a keep: {} of the proposals may change two to four knobs, {} more",
        words::plural(*since_keep, "experiment"),
        percent(*focused),
        percent(*broad)
    );
    out
}

/// Returns a knob's row: its value, its trials, its effect and its best step.
fn row(belief: &KnobBelief) -> [String; 7] {
    let KnobBelief { knob, now, trials, effect, step, .. } = belief;
    let (to, expected, chance) = step.as_ref().map_or_else(
        || ("nothing new".to_owned(), String::new(), String::new()),
        |step| {
            let expected = format!("{} ± {:.4}", words::signed(step.delta), step.sd);
            (step.to.clone(), expected, format!("{:.0} %", 100.0 * step.chance))
        },
    );
    [knob.clone(), now.clone(), trials.to_string(), format!("±{effect:.4}"), to, expected, chance]
}

fn operator_row(record: &OperatorRecord) -> [String; 4] {
    let OperatorRecord { operator, trials, keeps, weight } = record;
    [operator.clone(), keeps.to_string(), trials.to_string(), format!("{weight:.2}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::beliefs::BeliefStep;

    #[test]
    fn a_page_says_what_matters_and_why_it_is_tried() {
        let knob = |name: &str, step: Option<BeliefStep>| KnobBelief {
            knob: name.to_owned(),
            group: "optimizer".to_owned(),
            now: "0.04".to_owned(),
            trials: 12,
            effect: 0.0312,
            step,
        };
        let step = BeliefStep { to: "0.06".to_owned(), delta: -0.0213, sd: 0.0201, chance: 0.86 };
        let importance = Importance {
            knobs: vec![knob("matrix_lr", Some(step)), knob("depth", None), knob("dropout", None)],
            operators: vec![OperatorRecord {
                operator: "model".to_owned(),
                trials: 24,
                keeps: 3,
                weight: 1.0,
            }],
            trials: 40,
            peer_results: 1,
            since_keep: 9,
            scope: [0.45, 0.0],
            pair_sd: 0.03,
        };
        let page = page(&importance, 2, 100);
        assert_eq!(
            page,
            "what the search believes after 40 experiments and 1 change that peers reported; one pair's noise is ±0.0300 bpb

knob       now   tried  a step does  best step    expected Δ ± sd, bpb  gains
matrix_lr  0.04  12     ±0.0312      0.06         −0.0213 ± 0.0201      86 %
depth      0.04  12     ±0.0312      nothing new
and 1 knob that matters less: `--limit 3`

kind of move  kept  tried  weight
model         3     24     1.00

9 experiments without a keep: 45 % of the proposals may change two to four knobs, 0 % more
"
        );
    }
}
