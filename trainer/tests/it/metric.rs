//! Tests of the metric, against a computation by hand.

use std::f64::consts::LN_2;

use autoswarm_protocol::{Bpb, Split};
use autoswarm_trainer::{
    harness::{
        budget::Deadline,
        dataset::Dataset,
        evaluate::{self, Rule},
    },
    model::Model,
};
use tch::{Device, Kind, Tensor};

use crate::support::{RULE, data, tiny};

fn model(toml: &str) -> Model {
    Model::new(&tiny(toml).effective(32), 256, 32, 1, Kind::Float, Device::Cpu)
}

fn bpb(model: &Model, rule: Rule, batch: usize) -> Bpb {
    let dataset = Dataset::open(data()).expect("prepared");
    evaluate::evaluate(model, &dataset, Split::Validation, rule, batch, &Deadline::never(), &mut |_, _| {})
        .expect("a number")
}

#[test]
fn a_model_that_knows_nothing_needs_eight_bits_a_byte() {
    let bpb = bpb(&model("unembedding_init = 0.0001"), RULE, 4).get();
    assert!((bpb - 8.0).abs() < 0.001, "{bpb}");
}

#[test]
fn bits_per_byte_by_hand() {
    let _no_gradients = tch::no_grad_guard();
    let model = model("unembedding_init = 0.5");
    let dataset = Dataset::open(data()).expect("prepared");
    // The whole validation split except its end. It has both documents, so that a special token is a target.
    let rule = Rule { context: 32, tokens: dataset.token_count(Split::Validation) - 33 };
    let windows = rule.tokens / 32;
    let (mut nats, mut bytes, mut special) = (0.0, 0, 0);
    for window in 0..windows {
        let mut row = vec![0; 33];
        dataset.read(Split::Validation, window * 32, &mut row).expect("in the split");
        let input = Tensor::from_slice(&row[..32]).unsqueeze(0);
        let logits = model.logits(&input, None, &Deadline::never()).expect("no deadline");
        let log_probabilities = logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
        for (position, &target) in row[1..].iter().enumerate() {
            let length = dataset.token_bytes()[target as usize];
            if length == 0 {
                special += 1;
            } else {
                nats -= log_probabilities.double_value(&[position as i64, target]);
                bytes += u64::from(length);
            }
        }
    }
    assert_eq!(special, 1, "the second document's start is a target");
    let by_hand = nats / (LN_2 * bytes as f64);
    let measured = bpb(&model, rule, 7).get();
    assert!((measured - by_hand).abs() < 1e-5 * by_hand, "{measured} and {by_hand}");
}

#[test]
fn the_batch_size_of_an_evaluation_changes_nothing() {
    let model = model("unembedding_init = 0.5\nprojection_init = 1.0\nwindow_pattern = \"S\"");
    let one = bpb(&model, RULE, 1).get();
    for batch in [2, 3, 16, 100] {
        let other = bpb(&model, RULE, batch).get();
        assert!((one - other).abs() < 1e-6 * one, "{batch}: {one} and {other}");
    }
}

#[test]
fn a_prediction_looks_back_and_never_ahead() {
    let _no_gradients = tch::no_grad_guard();
    for toml in ["", "window_pattern = \"S\"\nshort_window = 0.1", "kv_group = 4\nblock = \"parallel\""] {
        let model = model(&format!("unembedding_init = 0.5\nprojection_init = 1.0\n{toml}"));
        let tokens: Vec<i64> = (0..32).map(|i| i * 7 % 256).collect();
        let logits = |tokens: &[i64]| {
            model
                .logits(&Tensor::from_slice(tokens).unsqueeze(0), None, &Deadline::never())
                .expect("no deadline")
        };
        let before = logits(&tokens);
        let mut changed = tokens.clone();
        changed[20] += 1;
        let difference = (logits(&changed) - before).abs().amax([1i64].as_slice(), false);
        assert!(difference.narrow(0, 0, 20).max().double_value(&[]) < f64::MIN_POSITIVE, "{toml}");
        assert!(difference.double_value(&[20]) > 0.0 && difference.double_value(&[31]) > 0.0, "{toml}");
    }
}
