//! Tests of train configs: text forms, grids, effective forms and hashes.

use proptest::prelude::*;

use super::*;

const CONTEXT: usize = 256;

fn config(toml: &str) -> TrainConfig {
    TrainConfig::from_toml(toml).expect("a valid config")
}

#[track_caller]
fn check_error(toml: &str, expected: &str) {
    assert_eq!(TrainConfig::from_toml(toml).expect_err("an invalid config").to_string(), expected);
}

#[track_caller]
fn check_same_model(a: &str, b: &str) {
    assert_eq!(config(a).effective(CONTEXT).hash(), config(b).effective(CONTEXT).hash(), "{a} | {b}");
}

#[test]
fn errors_name_the_thing_and_the_range() {
    check_error("depht = 4", "unknown knob `depht`; did you mean `depth`?");
    check_error("zzz = 4", "unknown knob `zzz`");
    check_error("depth = 99", "`depth` cannot be `99`: it takes 1…32 (integer)");
    check_error("depth = 2.5", "`depth` cannot be `2.5`: it takes 1…32 (integer)");
    check_error("matrix_lr = nan", "`matrix_lr` cannot be `nan`: it takes 0.0001…0.5 (log)");
    check_error("norm = \"batch\"", "`norm` cannot be `batch`: it takes rms | rms_learned | layer (choice)");
}

#[test]
fn toml_round_trips_and_prints_every_knob() {
    let config =
        config("depth = 2\nmatrix_lr = 0.031\nactivation = \"swiglu\"\nqk_norm = false\nadam_eps = 1e-9");
    let text = config.to_toml();
    assert_eq!(TrainConfig::from_toml(&text), Ok(config));
    assert!(KNOBS.iter().all(|row| text.contains(&format!("{} = ", row.name))));
}

#[test]
fn values_snap_to_their_grids() {
    assert_eq!(config("matrix_lr = 0.03141").get(Knob::MatrixRate), Value::Number(0.031));
    assert_eq!(config("width = 130").integer(Knob::Width), 128);
    assert_eq!(config("batch_tokens = 5000").integer(Knob::BatchTokens), 4096);
    assert_eq!(config("warmup = 0.3000001").get(Knob::Warmup), Value::Number(0.3));
}

#[test]
fn what_has_no_effect_changes_no_hash() {
    check_same_model("width = 112", "width = 128");
    check_same_model("matrix_optimizer = \"muon\"\nmatrix_beta1 = 0.6", "");
    check_same_model("head = \"tied\"\nunembedding_lr = 0.1", "head = \"tied\"");
    check_same_model("depth = 1\nwindow_pattern = \"SSSL\"\nshort_window = 0.1", "depth = 1");
    check_same_model("sequence_length = 4096", "sequence_length = 256");
    // A short window of 64 tokens has no effect on sequences of 64.
    let windows = "sequence_length = 64\nwindow_pattern = \"SSSL\"";
    check_same_model(&format!("{windows}\nshort_window = 0.25"), "sequence_length = 64");
    let shorter = config(&format!("{windows}\nshort_window = 0.2")).effective(CONTEXT);
    assert_ne!(shorter.hash(), config("sequence_length = 64").effective(CONTEXT).hash());
    assert_eq!(shorter.short_window(CONTEXT), 51);
    check_same_model("width = 96\nkv_group = 2", "width = 96\nkv_group = 1");
    check_same_model("depth = 2\nvalue_embeddings = \"last\"", "depth = 2");
    check_same_model("micro_batch_tokens = 8192", "micro_batch_tokens = 16384");
}

#[test]
fn speed_is_shared_by_what_only_changes_numbers() {
    let base = config("").effective(CONTEXT);
    assert_eq!(config("matrix_lr = 0.1").effective(CONTEXT).speed_hash(), base.speed_hash());
    assert_ne!(config("depth = 5").effective(CONTEXT).speed_hash(), base.speed_hash());
}

#[test]
fn canonical_bytes_and_hashes_are_golden() {
    assert!(config("").canonical_bytes().is_empty());
    assert_eq!(config("").effective(256).hash().fmt_short(), "4b16b08c");
    let bytes = config("depth = 2\nmatrix_lr = 0.03").canonical_bytes();
    // depth: id 1, an integer, 2; matrix_lr: id 201, a number, 0.03.
    let expected: [u8; 22] = [
        0x01, 0x00, 0x00, 2, 0, 0, 0, 0, 0, 0, 0, //
        0xc9, 0x00, 0x01, 0xb8, 0x1e, 0x85, 0xeb, 0x51, 0xb8, 0x9e, 0x3f,
    ];
    assert_eq!(bytes, expected);
    assert_eq!(ConfigHash::of(&expected).fmt_short(), "0803c2cc");
}

#[test]
fn canonical_bytes_refuse_what_no_encoder_writes() {
    let bytes = config("depth = 2\nmatrix_lr = 0.03").canonical_bytes();
    assert!(TrainConfig::from_canonical_bytes(&bytes[..21]).is_err(), "truncated");
    let swapped = [&bytes[11..], &bytes[..11]].concat();
    assert!(TrainConfig::from_canonical_bytes(&swapped).is_err(), "unsorted");
    let mut default = bytes[..11].to_vec();
    default[3] = 4;
    assert!(TrainConfig::from_canonical_bytes(&default).is_err(), "a default value");
}

#[test]
fn layers_with_windows_and_value_embeddings() {
    let effective = config("depth = 5\nwindow_pattern = \"SSL\"").effective(CONTEXT);
    assert_eq!(effective.short_layers(), [true, true, false, true, false]);
    assert_eq!(effective.value_embedding_layers(), [true, false, true, false, true]);
}

/// Any value inside a knob's range, off the grid too.
pub(crate) fn any_value(knob: Knob) -> BoxedStrategy<Value> {
    match knob.row().domain {
        Domain::Integer { low, high, .. } | Domain::PowerOfTwo { low, high } => {
            (low..=high).prop_map(Value::Integer).boxed()
        }
        Domain::Linear { low, high, .. } | Domain::Log { low, high } => {
            (low..=high).prop_map(Value::Number).boxed()
        }
        Domain::Choice(names) => (0..names.len() as u8).prop_map(Value::Choice).boxed(),
    }
}

/// Any config, with each knob at its default or at any value of its range.
pub(crate) fn any_config() -> BoxedStrategy<TrainConfig> {
    let values: Vec<_> = KNOBS.iter().map(|row| proptest::option::of(any_value(row.knob))).collect();
    values
        .prop_map(|values| {
            KNOBS
                .iter()
                .zip(values)
                .filter_map(|(row, value)| Some((row.knob, value?)))
                .fold(TrainConfig::new(), |config, (knob, value)| {
                    config.with(knob, value).expect("a value in range")
                })
        })
        .boxed()
}

proptest! {
    #[test]
    fn snapping_is_idempotent(config in any_config()) {
        for row in KNOBS {
            let value = config.get(row.knob);
            prop_assert_eq!(row.domain.snap(value), Some(value), "{}", row.name);
        }
    }

    #[test]
    fn every_form_round_trips(config in any_config()) {
        prop_assert_eq!(TrainConfig::from_toml(&config.to_toml()), Ok(config.clone()));
        prop_assert_eq!(TrainConfig::from_canonical_bytes(&config.canonical_bytes()), Ok(config.clone()));
        let json = serde_json::to_string(&config).expect("serializable");
        prop_assert_eq!(serde_json::from_str::<TrainConfig>(&json).expect("readable"), config);
    }

    #[test]
    fn effective_is_idempotent_and_buildable(config in any_config(), power in 5u32..12) {
        let context = 1 << power;
        let effective = config.effective(context);
        prop_assert_eq!(&effective.0.effective(context), &effective);
        prop_assert_eq!(effective.integer(Knob::Width) % effective.integer(Knob::HeadDim), 0);
        prop_assert_eq!(effective.heads() % effective.kv_heads(), 0);
        prop_assert!(effective.integer(Knob::SequenceLength) <= context);
        prop_assert!(effective.sequences_per_step() >= 1);
        prop_assert_eq!(effective.integer(Knob::BatchTokens) % effective.pass_tokens(), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(config) = TrainConfig::from_canonical_bytes(&bytes) {
            prop_assert_eq!(config.canonical_bytes(), bytes);
        }
    }
}
