//! Shared by the tests: a made-up corpus that is prepared once, and runs on it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use autoswarm_protocol::{CrashClass, RunReport, Split, TrainConfig, TrainerEvent};
use autoswarm_trainer::{
    device::{DeviceName, Dtype},
    failure::{self, Failure},
    harness::{
        budget::{Budget, STARVED_SHARE, Watch},
        corpus::{Corpus, Document},
        dataset,
        evaluate::Rule,
        tokenizer::Tokenizer,
    },
    train::{self, Ended, TrainSettings},
};

/// The evaluation rule of the tests.
pub(crate) const RULE: Rule = Rule { context: 32, tokens: 512 };

/// A model that takes a step in milliseconds.
pub(crate) const TINY: &str =
    "depth = 2\nwidth = 32\nhead_dim = 8\nsequence_length = 32\nbatch_tokens = 512\nvalue_gate_width = 8\n";

/// Initial scales with which every parameter has a gradient, as in `examples/parity.rs`.
pub(crate) const SCALES: &str = "projection_init = 0.5\nunembedding_init = 0.3\nvalue_gate_init = 0.5\n\
     residual_init = 0.9\nfeedback_init = 0.2\n";

/// Configs that together reach every fused operation and every path around one.
pub(crate) const CONFIGS: [&str; 8] = [
    "",
    "head_dim = 16\nkv_group = 2\nwindow_pattern = \"S\"\nshort_window = 0.3",
    "activation = \"swiglu\"\nblock = \"parallel\"\nhead = \"tied\"\nsoftcap = 0.0",
    "norm = \"rms_learned\"\nnorm_place = \"sandwich\"\nactivation = \"gelu\"",
    "norm = \"layer\"\nqk_norm = false",
    "norm_place = \"post\"\nresidual_scalars = false\nvalue_embeddings = \"none\"",
    "matrix_optimizer = \"adamw\"\nmatrix_lr = 0.01\nembedding_norm = false\nqk_norm = false",
    "cautious_decay = false\nnormuon_beta2 = 0.0\nmuon_nesterov = false\nmatrix_decay = 0.1",
];

/// Returns the C++ compiler, which building this crate needs too.
#[cfg(target_os = "linux")]
pub(crate) fn compiler() -> std::process::Command {
    let mut compiler = std::process::Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler.arg("-std=c++17");
    compiler
}

/// Runs a command and returns its output; fails with the output if the command fails.
#[cfg(target_os = "linux")]
#[track_caller]
pub(crate) fn output_of(command: &mut std::process::Command) -> String {
    let output = command.output().expect("the program starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// Returns `bytes` of made-up text: words of a small vocabulary in an order drawn from `seed`, so that there
/// is something to learn. Some lines have letters of two bytes.
fn text(seed: u8, bytes: usize) -> String {
    const WORDS: [&str; 12] =
        ["let", "x", "=", "fn", "(", ")", "{", "}", "return", "straße", "loop", "value"];
    let mut drawn = vec![0; bytes];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut drawn);
    let mut text = String::new();
    for byte in drawn {
        text.push_str(WORDS[usize::from(byte) % WORDS.len()]);
        text.push(if byte < 32 { '\n' } else { ' ' });
        if text.len() >= bytes {
            break;
        }
    }
    text
}

/// Returns the folder of the prepared corpus. It lies in the target folder and is reused by later runs of the
/// tests.
pub(crate) fn data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dataset");
        let document = |split: Split, seed: u8, bytes| Document {
            path: format!("{split}/{seed}"),
            split,
            text: text(seed, bytes),
        };
        let mut documents: Vec<Document> = (0..8).map(|seed| document(Split::Train, seed, 16_384)).collect();
        documents.push(document(Split::Validation, 100, 3000));
        documents.push(document(Split::Validation, 101, 3000));
        documents.push(document(Split::Audit, 110, 3000));
        documents.push(document(Split::Locked, 120, 3000));
        let corpus = Corpus::new(documents, Vec::new());
        dataset::write(&folder, &corpus, &Tokenizer::bytes(), &mut |_, _, _| {})
            .expect("the folder is writable");
        folder
    })
}

/// Parses a config that is known to be good.
#[track_caller]
pub(crate) fn config(toml: &str) -> TrainConfig {
    TrainConfig::from_toml(toml).expect("a valid config")
}

/// Returns the tiny config, changed by lines of TOML, which may repeat its keys.
pub(crate) fn tiny(more: &str) -> TrainConfig {
    let mut table: toml::Table = TINY.parse().expect("valid TOML");
    table.extend(more.parse::<toml::Table>().expect("valid TOML"));
    TrainConfig::from_table(&table).expect("a valid config")
}

/// Returns the settings of a run of `tokens` tokens.
pub(crate) fn settings(config: TrainConfig, tokens: u64, seed: u64) -> TrainSettings {
    TrainSettings {
        config,
        data: data().to_owned(),
        budget: Budget::Tokens(tokens),
        seed,
        device: DeviceName::Cpu,
        threads: Some(1), // libtorch's threads belong to the process, and tests run side by side
        dtype: Dtype::F32,
        cap_seconds: None,
        splits: Vec::new(),
        rule: RULE,
        min_steps: 1,
        save: None,
        prune: None,
    }
}

/// Runs an experiment. Returns how it ended, and the events before that.
pub(crate) fn observe(settings: &TrainSettings) -> (Result<RunReport, Failure>, Vec<TrainerEvent>) {
    let mut events = Vec::new();
    let watch = Watch::default();
    let result = failure::catch(|| train::run(settings, &watch, &mut |event| events.push(event)));
    let report = |ended| match ended {
        Ended::Finished(report) => *report,
        Ended::Pruned(pruned) => panic!("nothing was pruned: {pruned:?}"),
    };
    (result.map(report), events)
}

/// Runs an experiment that must succeed, and returns its report.
#[track_caller]
pub(crate) fn report(settings: &TrainSettings) -> RunReport {
    observe(settings).0.unwrap_or_else(|failure| panic!("{:?}: {failure}", failure.class))
}

/// Returns the loss curve and the metric as bits: equal for two runs if and only if they computed the same.
pub(crate) fn trajectory(report: &RunReport) -> (Vec<u64>, u64) {
    let losses = report.curve.iter().map(|point| point.loss.to_bits()).collect();
    (losses, report.validation.get().to_bits())
}

/// Checks the class of a failure. Where other work really took the processor, for example a build, the run is
/// right to say so. Then the share that it names must be one that excuses it.
#[track_caller]
pub(crate) fn check_class(failure: &Failure, expected: CrashClass) {
    if failure.class == CrashClass::Starved {
        let share = failure.message.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        assert!(share.is_some_and(|share| share <= 100.0 * STARVED_SHARE), "{failure:?}");
    } else {
        assert_eq!(failure.class, expected, "{failure:?}");
    }
}
