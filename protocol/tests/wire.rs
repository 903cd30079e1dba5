//! Golden bytes of the codec: a later version must read what an earlier one wrote, and write the same bytes.
//!
//! A failure here means that bytes changed. Another form of a record takes a new major version; a raised knob
//! table or a new field of a report does not. The files are written anew by
//! `UPDATE_GOLDEN=1 cargo test -p autoswarm-protocol --test wire`.

use std::{env, fmt::Debug, fs, path::PathBuf};

use autoswarm_protocol::{
    Arena, Bpb, Budget, Crash, CrashClass, Dtype, Estimate, Experiment, Hypothesis, Outcome, Patch, Proposer,
    Run, RunReport, RunRole, TrainConfig, Verdict,
    codec::{decode, encode},
    id::{ArenaId, ConfigHash, CorpusHash, ObjectiveId, TokenizerHash},
    outcome::CurvePoint,
};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
    let bytes = encode(value).expect("small");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &bytes).expect("a writable checkout");
    }
    let golden = fs::read(&path).expect("a golden file");
    assert_eq!(bytes, golden, "{name} is written in another way");
    assert_eq!(&decode::<T>(&golden).expect("readable"), value, "{name} is read in another way");
}

fn config() -> TrainConfig {
    TrainConfig::from_toml("depth = 2\nmatrix_lr = 0.03\nactivation = \"swiglu\"").expect("valid")
}

fn report() -> RunReport {
    RunReport {
        executed: config().effective(256).hash(),
        seed: 7,
        corpus: CorpusHash::of(b"corpus"),
        tokenizer: TokenizerHash::of(b"tokenizer"),
        semantics: 1,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        threads: 2,
        steps: 10,
        tokens: 81_920,
        flops: 1.5e12,
        parameters: 1_000_000,
        training_seconds: 10.25,
        training_cpu_seconds: 20.5,
        startup_seconds: 0.5,
        evaluation_seconds: 1.25,
        peak_memory_bytes: 1 << 28,
        initial_loss: 5.545,
        curve: vec![CurvePoint { step: 1, tokens: 8192, loss: 5.0 }],
        validation: Bpb::new(2.5).expect("finite"),
        audit: Some(Bpb::new(2.625).expect("finite")),
        locked: None,
    }
}

fn run(outcome: Outcome) -> Run {
    Run {
        role: RunRole::Child,
        requested: config().effective(256).hash(),
        seed: 7,
        tokens: Some(81_920),
        pair: Some(0),
        slot: 0,
        started_at: 1_700_000_000,
        outcome,
    }
}

#[test]
fn configs_and_patches() {
    check("config", &config());
    check("patch", &Patch::between(&TrainConfig::new(), &config()));
}

#[test]
fn arenas() {
    let arena = Arena {
        objective: ObjectiveId::of(b"objective"),
        corpus: CorpusHash::of(b"corpus"),
        tokenizer: TokenizerHash::of(b"tokenizer"),
        context: 256,
        evaluation_tokens: 524_288,
        budget: Budget::Class(4),
        dtype: Dtype::F32,
        semantics: 1,
    };
    check("arena", &arena);
    assert_eq!(arena.id().fmt_short(), "d729891d");
}

#[test]
fn experiments() {
    let crash = Crash { class: CrashClass::OutOfMemory, message: "no memory".to_owned(), seconds: 1.5 };
    let experiment = Experiment {
        number: 3,
        arena: ArenaId::of(b"arena"),
        parent: Some(ConfigHash::of(b"parent")),
        config: config().effective(256),
        attempt: 0,
        hypothesis: Hypothesis {
            proposer: Proposer::Evolve,
            because: "bracketing a win".to_owned(),
            patch: Patch::between(&TrainConfig::new(), &config()),
            simplifies: false,
            inspired_by: vec!["abc".to_owned()],
        },
        group: autoswarm_protocol::KnobGroup::Shape,
        screens: vec![-0.02],
        runs: vec![run(Outcome::Finished(Box::new(report()))), run(Outcome::Crashed(crash))],
        verdict: Verdict::Keep {
            estimate: Estimate { delta: -0.0213, standard_error: 0.0031, pairs: 3 },
            audit: None,
        },
        started_at: 1_700_000_000,
        finished_at: 1_700_000_100,
    };
    check("experiment", &experiment);
}

/// A record's id is the hash of its bytes, so every node has to write and read the same bytes.
#[test]
fn records() {
    use autoswarm_protocol::record::{Body, Claim, sign, verify};

    let swarm_config = "name = \"t\"\ndescription = \"t\"\n[objective]\nmetric = \"val_bpb\"\n\
        corpus = { source = \"path\", path = \"/t\" }\ntokenizer = { kind = \"bytes\" }\n\
        evaluation = { context = 256, tokens = 65536 }\ndtype = \"f32\"\nmin_effect = 0.001\n";
    let objective = autoswarm_protocol::SwarmConfig::parse(swarm_config).expect("valid").objective;
    let keys = libp2p_identity::Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key");
    let body = Body::Claim(Claim { config: ConfigHash::of(b"config"), seconds: 60 });
    let signed = sign(&body, &objective, &keys, 1_795_219_384).expect("valid");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/record.bin");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &signed.bytes).expect("a writable checkout");
    }
    let golden = fs::read(&path).expect("a golden file");
    assert_eq!(signed.bytes, golden);
    assert_eq!(verify(&golden, &objective, 1_795_219_384).expect("readable").value(), &body);
}
