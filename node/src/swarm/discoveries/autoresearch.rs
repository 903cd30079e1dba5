//! A discovery for karpathy/autoresearch: a unified diff of the constants in its `train.py`, with comments on
//! what no constant there says.
//!
//! Names, values and line numbers are those of [`REVISION`]; nothing else of that file is here. `git apply`
//! and `patch` both apply the diff and pass over the comments. It sets the whole config and not only the
//! change, since a change is worth something beside the config that it was found with.

use std::fmt::Write;

use autoswarm_protocol::{
    Knob, TrainConfig,
    knobs::KNOBS,
    train_config::{Value, parse_value},
};

use super::inspect::Details;
use crate::base::words;

/// The revision whose constants are known here: master since March 2026.
const REVISION: &str = "228791f";

/// Tokens in one row of a batch: `MAX_SEQ_LEN` of its `prepare.py`, which belongs to the harness.
const ROW_TOKENS: usize = 2048;
/// Rows in one pass: its `DEVICE_BATCH_SIZE`. It divides a step into passes and changes no result; a larger
/// one would only not fit.
const DEVICE_ROWS: usize = 128;
/// The width at which its learning rates hold as they are written, and the power of the width by which it
/// scales them.
const RATE_WIDTH: f64 = 768.0;
const RATE_POWER: f64 = 0.5;

/// A constant's line: its name, its value, and the comment behind it.
type ConstantLine = (&'static str, &'static str, &'static str);

/// The blocks of constants, each with the number of its first line; an empty line follows each.
const BLOCKS: [(usize, &[ConstantLine]); 3] = [
    (
        433,
        &[
            ("ASPECT_RATIO", "64", "       # model_dim = depth * ASPECT_RATIO"),
            ("HEAD_DIM", "128", "          # target head dimension for attention"),
            ("WINDOW_PATTERN", "\"SSSL\"", " # sliding window pattern: L=full, S=half context"),
        ],
    ),
    (
        438,
        &[
            ("TOTAL_BATCH_SIZE", "2**19", " # ~524K tokens per optimizer step"),
            ("EMBEDDING_LR", "0.6", "      # learning rate for token embeddings (Adam)"),
            ("UNEMBEDDING_LR", "0.004", "  # learning rate for lm_head (Adam)"),
            ("MATRIX_LR", "0.04", "        # learning rate for matrix parameters (Muon)"),
            ("SCALAR_LR", "0.5", "         # learning rate for per-layer scalars (Adam)"),
            ("WEIGHT_DECAY", "0.2", "      # cautious weight decay for Muon"),
            ("ADAM_BETAS", "(0.8, 0.95)", " # Adam beta1, beta2"),
            ("WARMUP_RATIO", "0.0", "      # fraction of time budget for LR warmup"),
            ("WARMDOWN_RATIO", "0.5", "    # fraction of time budget for LR warmdown"),
            ("FINAL_LR_FRAC", "0.0", "     # final LR as fraction of initial"),
        ],
    ),
    (
        450,
        &[
            ("DEPTH", "8", "               # number of transformer layers"),
            ("DEVICE_BATCH_SIZE", "128", "  # per-device batch size (reduce if OOM)"),
        ],
    ),
];

/// Returns the diff with its comments, as text.
pub fn autoresearch(details: &Details) -> String {
    let discovery = &details.discovery;
    let translation = Translation::of(&discovery.config);
    let mut out = format!(
        "# {} by {}\n# {}: {} ({}), measured on {} with {}\n",
        details.id,
        details.author,
        words::clean(&discovery.patch.to_string()),
        discovery.estimate,
        details.status.name(),
        words::clean(&discovery.hardware.device),
        words::budget(discovery.budget, discovery.seconds),
    );
    out.push_str("# The whole config as constants of karpathy/autoresearch's train.py, revision ");
    out.push_str(REVISION);
    out.push_str(".\n# Data, tokenizer and budget are others there: a place to start from, not a promise.\n");
    if !translation.by_hand.is_empty() {
        out.push_str("# No constant says the following; `*` marks what this discovery changed:\n");
    }
    for (knob, text) in &translation.by_hand {
        let changed = discovery.patch.iter().any(|(changed, _)| changed == *knob);
        let mark = if changed { '*' } else { ' ' };
        let _ = writeln!(out, "# {mark} {text}"); // writing to a string cannot fail
    }
    out.push_str(&diff(&translation.constants));
    out
}

/// A config translated into the reference's constants.
#[derive(Debug, Default)]
struct Translation {
    /// Constants, each with its new value.
    constants: Vec<(&'static str, String)>,
    /// Knobs that no constant stands for, each with a line about it.
    by_hand: Vec<(Knob, String)>,
}

impl Translation {
    fn of(config: &TrainConfig) -> Self {
        let mut it = Self::default();
        it.shape(config);
        it.batch(config);
        it.rates(config);
        it.betas(config);
        let plain = [
            (Knob::Warmup, "WARMUP_RATIO"),
            (Knob::Warmdown, "WARMDOWN_RATIO"),
            (Knob::FinalRate, "FINAL_LR_FRAC"),
            (Knob::ScalarRate, "SCALAR_LR"),
        ];
        for (knob, name) in plain {
            it.set(name, python(config.number(knob)));
        }
        let reference = reference();
        for knob in KNOBS.iter().map(|row| row.knob).filter(|knob| !has_constant(*knob)) {
            if config.get(knob) != reference.get(knob) {
                let value = config.get(knob);
                let theirs = reference.get(knob).display(knob).to_string();
                it.name(knob, &format!("{}, there {theirs}: {}", value.display(knob), place(knob)));
            }
        }
        it.by_hand.sort_by_key(|(knob, _)| *knob);
        it
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.constants.push((name, value));
    }

    fn name(&mut self, knob: Knob, text: &str) {
        self.by_hand.push((knob, format!("{knob} {text}")));
    }

    fn shape(&mut self, config: &TrainConfig) {
        let (depth, width) = (config.integer(Knob::Depth), config.integer(Knob::Width));
        let head = config.integer(Knob::HeadDim);
        self.set("DEPTH", depth.to_string());
        self.set("HEAD_DIM", head.to_string());
        self.set("WINDOW_PATTERN", format!("\"{}\"", config.choice(Knob::WindowPattern)));
        // The width there is depth · ratio, rounded up to whole heads. Its own ratio, 64, stays where it
        // leads to this width.
        let leads = |ratio: &usize| (depth * ratio).next_multiple_of(head) == width && *ratio > 0;
        if let Some(ratio) = [64, width / depth, width.div_ceil(depth)].into_iter().find(leads) {
            self.set("ASPECT_RATIO", ratio.to_string());
        } else {
            self.name(Knob::Width, &format!("{width}: no whole ASPECT_RATIO gives it at depth {depth}"));
        }
    }

    fn batch(&mut self, config: &TrainConfig) {
        let batch = config.integer(Knob::BatchTokens);
        if batch < ROW_TOKENS {
            let text = format!("{batch}: less than one row of MAX_SEQ_LEN = {ROW_TOKENS} in prepare.py");
            return self.name(Knob::BatchTokens, &text);
        }
        let rows = batch.min(config.integer(Knob::MicroBatchTokens)) / ROW_TOKENS;
        self.set("TOTAL_BATCH_SIZE", format!("2**{}", batch.ilog2()));
        self.set("DEVICE_BATCH_SIZE", rows.clamp(1, DEVICE_ROWS).to_string());
    }

    fn rates(&mut self, config: &TrainConfig) {
        // The reference always scales by its own power of the width. Where this config has another power, the
        // rates make up for it.
        let width = config.integer(Knob::Width) as f64;
        let factor = (width / RATE_WIDTH).powf(RATE_POWER - config.number(Knob::RateWidthPower));
        let embedding = config.number(Knob::EmbeddingRate);
        self.set("EMBEDDING_LR", python(embedding * factor));
        self.set("UNEMBEDDING_LR", python(config.number(Knob::UnembeddingRate) * factor));
        if has_value_embeddings(config)
            && config.get(Knob::ValueEmbeddingRate) != config.get(Knob::EmbeddingRate)
        {
            let rate = python(config.number(Knob::ValueEmbeddingRate) * factor);
            self.name(Knob::ValueEmbeddingRate, &format!("{rate}, there EMBEDDING_LR: GPT.setup_optimizer"));
        }
        if config.choice(Knob::MatrixOptimizer) == "muon" {
            self.set("MATRIX_LR", python(config.number(Knob::MatrixRate)));
            self.set("WEIGHT_DECAY", python(config.number(Knob::MatrixDecay)));
        } else {
            let rate = python(
                config.number(Knob::MatrixRate)
                    * (width / RATE_WIDTH).powf(-config.number(Knob::RateWidthPower)),
            );
            self.name(Knob::MatrixRate, &format!("{rate} of AdamW, where MATRIX_LR is Muon's"));
            let decay = python(config.number(Knob::MatrixDecay));
            self.name(Knob::MatrixDecay, &format!("{decay} of AdamW, where WEIGHT_DECAY is Muon's"));
        }
    }

    /// Sets the one pair of betas that the reference has for all groups of AdamW: here the embedding's. Betas
    /// of other groups that differ from it are named.
    fn betas(&mut self, config: &TrainConfig) {
        use Knob as K;
        let pair = |first: Knob, second: Knob| (config.number(first), config.number(second));
        let common = pair(K::EmbeddingBeta1, K::EmbeddingBeta2);
        self.set("ADAM_BETAS", format!("({}, {})", python(common.0), python(common.1)));
        let has_scalars = config.is_on(K::ResidualScalars) || config.choice(K::Norm) != "rms";
        let others = [
            (config.choice(K::Head) == "untied", K::UnembeddingBeta1, K::UnembeddingBeta2),
            (has_value_embeddings(config), K::ValueEmbeddingBeta1, K::ValueEmbeddingBeta2),
            (has_scalars, K::ScalarBeta1, K::ScalarBeta2),
        ];
        for (is_there, first, second) in others {
            for (knob, common) in [(first, common.0), (second, common.1)] {
                let value = config.number(knob);
                if is_there && value.total_cmp(&common).is_ne() {
                    self.name(knob, &format!("{}, there ADAM_BETAS: GPT.setup_optimizer", python(value)));
                }
            }
        }
    }
}

fn has_value_embeddings(config: &TrainConfig) -> bool {
    config.choice(Knob::ValueEmbeddings) != "none"
}

/// Returns the reference's own config: the defaults of the knob table except for its size.
fn reference() -> TrainConfig {
    let theirs = [
        (Knob::Depth, "8"),
        (Knob::Width, "512"),
        (Knob::HeadDim, "128"),
        (Knob::WindowPattern, "SSSL"),
        (Knob::BatchTokens, "524288"),
    ];
    theirs.into_iter().fold(TrainConfig::new(), |config, (knob, text)| {
        let value: Value = parse_value(knob, text).expect("the table has this value");
        config.with(knob, value).expect("the value was just checked")
    })
}

/// Returns whether a constant, or a line that [`Translation`] writes for it, says what the knob says.
const fn has_constant(knob: Knob) -> bool {
    use Knob as K;
    matches!(
        knob,
        K::Depth
            | K::Width
            | K::WidthRounding
            | K::HeadDim
            | K::WindowPattern
            | K::BatchTokens
            | K::MicroBatchTokens
            | K::Warmup
            | K::Warmdown
            | K::FinalRate
            | K::MatrixRate
            | K::EmbeddingRate
            | K::UnembeddingRate
            | K::ValueEmbeddingRate
            | K::ScalarRate
            | K::RateWidthPower
            | K::MatrixDecay
            | K::EmbeddingBeta1
            | K::EmbeddingBeta2
            | K::UnembeddingBeta1
            | K::UnembeddingBeta2
            | K::ValueEmbeddingBeta1
            | K::ValueEmbeddingBeta2
            | K::ScalarBeta1
            | K::ScalarBeta2
    )
}

/// Returns where in the reference's files a knob without a constant is decided.
const fn place(knob: Knob) -> &'static str {
    use Knob as K;
    match knob {
        K::KvGroup => "build_model_config",
        K::ShortWindow => "GPT._compute_window_sizes",
        K::RopeBase => "GPT._precompute_rotary_embeddings",
        K::QkNorm | K::AttentionScale | K::ValueGateWidth | K::ValueGateScale => "CausalSelfAttention",
        K::Norm => "norm",
        K::NormPlace | K::Block | K::Dropout => "Block.forward",
        K::Activation | K::MlpRatio => "MLP",
        K::ValueEmbeddings => "has_ve",
        K::SequenceLength => "MAX_SEQ_LEN in prepare.py",
        K::WarmdownShape => "get_lr_multiplier",
        K::DecaySchedule => "get_weight_decay",
        K::MuonMomentum | K::MuonMomentumStart | K::MuonMomentumWarmup => "get_muon_momentum",
        K::CautiousDecay | K::MuonNesterov => "muon_step_fused",
        K::GradientClip => "the training loop",
        K::InitKind
        | K::MatrixInit
        | K::ProjectionInit
        | K::EmbeddingInit
        | K::UnembeddingInit
        | K::ValueEmbeddingInit
        | K::ValueGateInit
        | K::ResidualInit
        | K::FeedbackInit => "GPT.init_weights",
        K::EmbeddingNorm | K::Softcap | K::Head | K::ResidualScalars => "GPT.forward",
        _ => "GPT.setup_optimizer",
    }
}

/// Returns a number as Python reads it, with six significant digits.
fn python(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    format!("{rounded:?}")
}

/// Returns the blocks in which a constant changes, as hunks of one diff; empty where none does.
fn diff(constants: &[(&'static str, String)]) -> String {
    let mut out = String::new();
    for (first, lines) in BLOCKS {
        let mut hunk = String::new();
        let mut is_changed = false;
        for (name, old, comment) in lines {
            let new =
                constants.iter().find(|(constant, _)| constant == name).map(|(_, value)| value.as_str());
            match new.filter(|new| new != old) {
                Some(new) => {
                    is_changed = true;
                    // The comment behind this one repeats its old value.
                    let kept = if *name == "TOTAL_BATCH_SIZE" { "" } else { comment };
                    let new = format!("{name} = {new:<width$}{kept}", width = old.len());
                    let _ = write!(hunk, "-{name} = {old}{comment}\n+{}\n", new.trim_end());
                }
                None => {
                    let _ = writeln!(hunk, " {name} = {old}{comment}");
                }
            }
        }
        if is_changed {
            let count = lines.len() + 1;
            if out.is_empty() {
                out.push_str("diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n");
            }
            let _ = write!(out, "@@ -{first},{count} +{first},{count} @@\n{hunk} \n");
        }
    }
    out
}

#[cfg(test)]
#[path = "autoresearch_tests.rs"]
mod tests;
