//! The one table of knobs: what an experiment with the built-in trainer may change.
//!
//! Validation, proposers, wire, docs and prompts all read this table. What is deliberately not in it: the
//! harness (data, tokenizer, evaluation), the budget and the seed.
//!
//! A config travels as the sorted list of its values that differ from the defaults here. The default of a new
//! knob is what the trainer did before it, so a new knob changes no old hash. **A default, an id or a
//! choice's place never changes.**

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// The version of this table; it moves when a row is added.
pub const KNOB_TABLE_VERSION: u16 = 1;

/// What a knob is about. Noise is estimated and transfer between machines is learned for each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnobGroup {
    /// The model: its size and its parts.
    Shape,
    /// Batch and sequence sizes, and what changes over the run.
    Schedule,
    /// Optimizers, their rates, momenta and decays.
    Optimizer,
    /// Initial values of the parameters.
    Init,
}

impl KnobGroup {
    /// Every group, in the table's order.
    pub const ALL: [Self; 4] = [Self::Shape, Self::Schedule, Self::Optimizer, Self::Init];

    /// Returns the name used in files and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Schedule => "schedule",
            Self::Optimizer => "optimizer",
            Self::Init => "init",
        }
    }
}

impl fmt::Display for KnobGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which values a knob takes, and how a search steps through them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Domain {
    /// Integers `low, low + step, … ≤ high`.
    Integer {
        /// The smallest value allowed.
        low: i64,
        /// The largest value allowed.
        high: i64,
        /// Distance between neighbours on the grid.
        step: i64,
    },
    /// Powers of two from `low` to `high`, both powers of two.
    PowerOfTwo {
        /// The smallest value allowed.
        low: i64,
        /// The largest value allowed.
        high: i64,
    },
    /// Numbers on the grid `k · step`, searched linearly.
    Linear {
        /// The smallest value allowed.
        low: f64,
        /// The largest value allowed.
        high: f64,
        /// Distance between neighbours on the grid.
        step: f64,
    },
    /// Positive numbers with two significant digits, searched by their logarithm.
    Log {
        /// The smallest value allowed.
        low: f64,
        /// The largest value allowed.
        high: f64,
    },
    /// One of several names.
    Choice(&'static [&'static str]),
}

impl Domain {
    /// Returns the name of the kind of values, as the documentation prints it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Integer { .. } => "integer",
            Self::PowerOfTwo { .. } => "power of two",
            Self::Linear { .. } => "linear",
            Self::Log { .. } => "log",
            Self::Choice(_) => "choice",
        }
    }
}

impl fmt::Display for Domain {
    /// Prints the range: `1…32`, `0.003…3`, `pre | post`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer { low, high, step: 1 } | Self::PowerOfTwo { low, high } => {
                write!(f, "{low}…{high}")
            }
            Self::Integer { low, high, step } => write!(f, "{low}…{high} by {step}"),
            Self::Linear { low, high, step } => write!(f, "{low}…{high} by {step}"),
            Self::Log { low, high } => write!(f, "{low}…{high}"),
            Self::Choice(names) => f.write_str(&names.join(" | ")),
        }
    }
}

/// A default as the table writes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Default {
    /// The default of a knob of integers.
    Integer(i64),
    /// The default of a knob of numbers.
    Number(f64),
    /// The default of a choice, by its name.
    Choice(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct KnobRow {
    /// The knob that the row describes.
    pub knob: Knob,
    /// Its name in files, patches and prompts.
    pub name: &'static str,
    /// What it is about.
    pub group: KnobGroup,
    /// Which values it takes.
    pub domain: Domain,
    /// Its value where a config says nothing.
    pub default: Default,
    /// Whether it changes the seconds or the memory of a step; the others share a price.
    pub affects_speed: bool,
    /// What it means, in one line.
    pub meaning: &'static str,
}

const fn int(low: i64, high: i64, step: i64) -> Domain {
    Domain::Integer { low, high, step }
}
const fn pow2(low: i64, high: i64) -> Domain {
    Domain::PowerOfTwo { low, high }
}
const fn lin(low: f64, high: f64, step: f64) -> Domain {
    Domain::Linear { low, high, step }
}
const fn log(low: f64, high: f64) -> Domain {
    Domain::Log { low, high }
}
const OFF_ON: Domain = Domain::Choice(&["off", "on"]);

macro_rules! knobs {
    ($(
        $id:literal $variant:ident $name:ident $group:ident $speed:ident
        $domain:expr, $default:expr, $meaning:literal;
    )*) => {
        /// A knob, by its wire id.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Knob {
            $(#[doc = $meaning] $variant = $id,)*
        }

        /// Every knob, sorted by id.
        pub const KNOBS: &[KnobRow] = &[
            $(KnobRow {
                knob: Knob::$variant,
                name: stringify!($name),
                group: KnobGroup::$group,
                domain: $domain,
                default: { use self::Default::*; $default },
                affects_speed: knobs!(@speed $speed),
                meaning: $meaning,
            },)*
        ];

        impl Knob {
            const fn row_index(self) -> usize {
                let mut index = 0;
                while index < KNOBS.len() {
                    if KNOBS[index].knob as u16 == self as u16 {
                        return index;
                    }
                    index += 1;
                }
                unreachable!()
            }

            /// Finds a knob by its wire id.
            pub const fn from_id(id: u16) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Finds a knob by its name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
    (@speed fast) => { false };
    (@speed speed) => { true };
}

// Ids: 1… shape, 100… schedule, 200… optimizer, 300… init. `speed`: the knob changes the seconds or the
// memory of a step; `fast`: it changes neither. Defaults without a note follow karpathy/autoresearch's
// train.py, scaled down where its README says how.
knobs! {
    1 Depth depth Shape speed int(1, 32, 1), Integer(4), "Number of transformer blocks";
    2 Width width Shape speed int(16, 4096, 16), Integer(128),
        "Residual width asked for; `width_rounding` makes it a multiple of `head_dim`";
    3 WidthRounding width_rounding Shape speed Domain::Choice(&["up", "nearest", "down"]), Choice("up"),
        "How the width becomes a multiple of the head dimension";
    4 HeadDim head_dim Shape speed pow2(8, 256), Integer(32),
        "Width of one attention head; heads = width / head_dim";
    5 KvGroup kv_group Shape speed pow2(1, 32), Integer(1),
        "Query heads that share one key and value head; rounded down to a divisor of the heads";
    6 WindowPattern window_pattern Shape speed Domain::Choice(&["L", "S", "SL", "SSL", "SSSL", "LS"]), Choice("L"),
        "Attention windows by layer, repeated: L sees the whole context, S a short window; the last layer \
         is always L";
    7 ShortWindow short_window Shape speed log(0.03, 1.0), Number(0.5),
        "Short window as a fraction of the context";
    8 RopeBase rope_base Shape fast log(100.0, 1e6), Number(10_000.0),
        "Base of the rotary position embedding";
    9 QkNorm qk_norm Shape speed OFF_ON, Choice("on"),
        "Normalise queries and keys after the rotary embedding";
    10 AttentionScale attention_scale Shape fast lin(0.5, 2.0, 0.05), Number(1.0),
        "Factor on the usual 1/√head_dim of attention scores";
    11 Norm norm Shape speed Domain::Choice(&["rms", "rms_learned", "layer"]), Choice("rms"),
        "Kind of normalisation: RMS without or with a learned gain, or LayerNorm with gain";
    12 NormPlace norm_place Shape speed Domain::Choice(&["pre", "post", "sandwich"]), Choice("pre"),
        "Normalise before a sublayer, after it, or both";
    13 EmbeddingNorm embedding_norm Shape speed OFF_ON, Choice("on"), "Normalise the embedding's output";
    14 Activation activation Shape speed Domain::Choice(&["relu2", "relu", "gelu", "silu", "swiglu"]), Choice("relu2"),
        "Activation of the MLP; swiglu adds a gate";
    15 MlpRatio mlp_ratio Shape speed lin(0.5, 8.0, 0.5), Number(4.0),
        "Hidden width of the MLP as a multiple of the width";
    16 Block block Shape speed Domain::Choice(&["serial", "parallel"]), Choice("serial"),
        "Attention and MLP one after the other, or side by side on one input";
    17 Softcap softcap Shape speed lin(0.0, 60.0, 2.5), Number(15.0),
        "Logits become cap · tanh(logits / cap); 0 turns it off";
    18 Head head Shape speed Domain::Choice(&["untied", "tied"]), Choice("untied"),
        "Own output matrix, or the embedding's transpose";
    19 ValueEmbeddings value_embeddings Shape speed Domain::Choice(&["none", "alternate", "all", "last"]), Choice("alternate"),
        "Layers that add a token-indexed embedding to their values; alternate counts from the last";
    20 ValueGateWidth value_gate_width Shape speed pow2(4, 256), Integer(32),
        "Channels of the block's input that the value embedding's gate reads";
    21 ValueGateScale value_gate_scale Shape fast lin(0.5, 4.0, 0.5), Number(2.0),
        "The gate is scale · sigmoid(…): 2 starts neutral";
    22 Dropout dropout Shape speed lin(0.0, 0.5, 0.05), Number(0.0), "Dropout on the output of each sublayer";
    23 ResidualScalars residual_scalars Shape speed OFF_ON, Choice("on"),
        "Learned factors per layer on the residual stream and on the embedding fed back into it";

    100 BatchTokens batch_tokens Schedule speed pow2(256, 2_097_152), Integer(8192),
        "Tokens per optimizer step";
    101 MicroBatchTokens micro_batch_tokens Schedule speed pow2(256, 524_288), Integer(524_288),
        "Tokens per forward and backward pass; a step accumulates as many as it needs";
    102 SequenceLength sequence_length Schedule speed pow2(16, 8192), Integer(2048),
        "Training context, at most the evaluation's";
    103 Warmup warmup Schedule fast lin(0.0, 0.5, 0.01), Number(0.0),
        "Share of the run in which the rates rise from 0";
    104 Warmdown warmdown Schedule fast lin(0.0, 1.0, 0.05), Number(0.5),
        "Share of the run, at its end, in which the rates fall";
    105 WarmdownShape warmdown_shape Schedule fast Domain::Choice(&["linear", "cosine", "square_root"]), Choice("linear"),
        "How the rates fall";
    106 FinalRate final_rate Schedule fast lin(0.0, 0.5, 0.01), Number(0.0),
        "Share of the peak rates that is left at the end";
    107 DecaySchedule decay_schedule Schedule fast Domain::Choice(&["linear", "constant", "with_rate"]), Choice("linear"),
        "How weight decay falls over the run: to 0, not at all, or with the rates";

    200 MatrixOptimizer matrix_optimizer Optimizer speed Domain::Choice(&["muon", "adamw"]), Choice("muon"),
        "Optimizer of the block's matrices";
    201 MatrixRate matrix_lr Optimizer fast log(0.0001, 0.5), Number(0.04), "Learning rate of the matrices";
    202 EmbeddingRate embedding_lr Optimizer fast log(0.001, 5.0), Number(0.6),
        "Learning rate of the embedding";
    203 UnembeddingRate unembedding_lr Optimizer fast log(0.0001, 0.5), Number(0.004),
        "Learning rate of the output matrix";
    204 ValueEmbeddingRate value_embedding_lr Optimizer fast log(0.001, 5.0), Number(0.6),
        "Learning rate of the value embeddings";
    205 ScalarRate scalar_lr Optimizer fast log(0.001, 5.0), Number(0.5),
        "Learning rate of the scalars and norm gains";
    206 ResidualRateScale residual_lr_scale Optimizer fast log(0.0001, 1.0), Number(0.01),
        "Factor on scalar_lr for the residual factors";
    207 RateWidthPower lr_width_power Optimizer fast lin(0.0, 1.0, 0.25), Number(0.5),
        "AdamW's rates are multiplied by (width / 768)^-power";
    210 AdamEps adam_eps Optimizer fast log(1e-12, 1e-5), Number(1e-10), "AdamW's epsilon";
    211 MatrixBeta1 matrix_beta1 Optimizer fast lin(0.5, 0.99, 0.01), Number(0.8),
        "First beta of the matrices under AdamW";
    212 MatrixBeta2 matrix_beta2 Optimizer fast lin(0.8, 0.999, 0.001), Number(0.95),
        "Second beta of the matrices under AdamW";
    213 EmbeddingBeta1 embedding_beta1 Optimizer fast lin(0.5, 0.99, 0.01), Number(0.8),
        "First beta of the embedding";
    214 EmbeddingBeta2 embedding_beta2 Optimizer fast lin(0.8, 0.999, 0.001), Number(0.95),
        "Second beta of the embedding";
    215 UnembeddingBeta1 unembedding_beta1 Optimizer fast lin(0.5, 0.99, 0.01), Number(0.8),
        "First beta of the output matrix";
    216 UnembeddingBeta2 unembedding_beta2 Optimizer fast lin(0.8, 0.999, 0.001), Number(0.95),
        "Second beta of the output matrix";
    217 ValueEmbeddingBeta1 value_embedding_beta1 Optimizer fast lin(0.5, 0.99, 0.01), Number(0.8),
        "First beta of the value embeddings";
    218 ValueEmbeddingBeta2 value_embedding_beta2 Optimizer fast lin(0.8, 0.999, 0.001), Number(0.95),
        "Second beta of the value embeddings";
    219 ScalarBeta1 scalar_beta1 Optimizer fast lin(0.5, 0.99, 0.01), Number(0.8),
        "First beta of the scalars and norm gains";
    220 ScalarBeta2 scalar_beta2 Optimizer fast lin(0.8, 0.999, 0.001), Number(0.95),
        "Second beta of the scalars and norm gains";
    221 FeedbackBeta1 feedback_beta1 Optimizer fast lin(0.5, 0.99, 0.01), Number(0.96),
        "First beta of the factors that feed the embedding back";
    222 FeedbackBeta2 feedback_beta2 Optimizer fast lin(0.8, 0.999, 0.001), Number(0.95),
        "Second beta of the factors that feed the embedding back";
    230 MatrixDecay matrix_decay Optimizer fast lin(0.0, 1.0, 0.01), Number(0.2),
        "Weight decay of the matrices";
    231 EmbeddingDecay embedding_decay Optimizer fast lin(0.0, 0.5, 0.005), Number(0.0),
        "Weight decay of the embedding";
    232 UnembeddingDecay unembedding_decay Optimizer fast lin(0.0, 0.5, 0.005), Number(0.0),
        "Weight decay of the output matrix";
    233 ValueEmbeddingDecay value_embedding_decay Optimizer fast lin(0.0, 0.5, 0.005), Number(0.0),
        "Weight decay of the value embeddings";
    234 ScalarDecay scalar_decay Optimizer fast lin(0.0, 0.5, 0.005), Number(0.0),
        "Weight decay of the scalars and norm gains";
    235 CautiousDecay cautious_decay Optimizer fast OFF_ON, Choice("on"),
        "Decay a matrix's entry only where the update shrinks it";
    240 MuonMomentum muon_momentum Optimizer fast lin(0.5, 0.99, 0.01), Number(0.95),
        "Muon's momentum after its warm-up";
    241 MuonMomentumStart muon_momentum_start Optimizer fast lin(0.5, 0.99, 0.01), Number(0.85),
        "Muon's momentum at the first step";
    242 MuonMomentumWarmup muon_momentum_warmup Optimizer fast lin(0.0, 1.0, 0.05), Number(0.3),
        "Share of the run in which Muon's momentum rises";
    243 MuonSteps muon_steps Optimizer speed int(1, 5, 1), Integer(5),
        "Iterations of Muon's orthogonalisation";
    244 MuonNesterov muon_nesterov Optimizer fast OFF_ON, Choice("on"), "Nesterov's form of Muon's momentum";
    245 NormuonBeta2 normuon_beta2 Optimizer fast lin(0.0, 0.999, 0.001), Number(0.95),
        "Decay of NorMuon's per-row second moment; 0 turns the normalisation off";
    250 GradientClip gradient_clip Optimizer speed lin(0.0, 5.0, 0.1), Number(0.0),
        "Largest global gradient norm; 0 turns clipping off";

    300 InitKind init_kind Init fast Domain::Choice(&["uniform", "normal", "orthogonal"]), Choice("uniform"),
        "Distribution of the matrices' initial values, at equal variance";
    301 MatrixInit matrix_init Init fast lin(0.1, 3.0, 0.1), Number(1.0),
        "Standard deviation of the input matrices times √width";
    302 ProjectionInit projection_init Init fast lin(0.0, 2.0, 0.1), Number(0.0),
        "Standard deviation of the matrices that write to the residual stream times √width; 0 starts each \
         block as the identity";
    303 EmbeddingInit embedding_init Init fast log(0.01, 3.0), Number(1.0),
        "Standard deviation of the embedding";
    304 UnembeddingInit unembedding_init Init fast log(0.0001, 1.0), Number(0.001),
        "Standard deviation of the output matrix";
    305 ValueEmbeddingInit value_embedding_init Init fast lin(0.0, 3.0, 0.1), Number(1.0),
        "Standard deviation of the value embeddings times √width";
    306 ValueGateInit value_gate_init Init fast lin(0.0, 2.0, 0.1), Number(0.0),
        "Standard deviation of the value gates' weights times √gate width; 0 starts every gate neutral";
    307 ResidualInit residual_init Init fast lin(0.1, 2.0, 0.05), Number(1.0),
        "Initial factor on the residual stream";
    308 FeedbackInit feedback_init Init fast lin(0.0, 1.0, 0.05), Number(0.1),
        "Initial factor on the embedding fed back";
}

impl Knob {
    /// Returns the knob's row.
    pub const fn row(self) -> &'static KnobRow {
        &KNOBS[self.row_index()]
    }

    /// Returns the knob's name.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the knob's group.
    pub const fn group(self) -> KnobGroup {
        self.row().group
    }

    /// Returns the knob's wire id.
    pub const fn id(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Prints the whole table as Markdown, for `node/docs/knobs.md`.
pub fn knob_table_markdown() -> String {
    let mut out = String::from(
        "| id | knob | group | kind | range | default | meaning |\n|---|---|---|---|---|---|---|\n",
    );
    for row in KNOBS {
        let default = match row.default {
            Default::Integer(value) => value.to_string(),
            Default::Number(value) => value.to_string(),
            Default::Choice(name) => name.to_owned(),
        };
        let range = row.domain.to_string().replace('|', "\\|");
        let _ = writeln!(
            out,
            "| {} | `{}` | {} | {} | {range} | {default} | {} |",
            row.knob.id(),
            row.name,
            row.group,
            row.domain.kind(),
            row.meaning
        ); // writing to a string cannot fail
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train_config::Value;

    #[test]
    fn ids_rise_and_names_are_unique() {
        assert!(KNOBS.windows(2).all(|pair| pair[0].knob < pair[1].knob));
        for row in KNOBS {
            assert_eq!(Knob::from_name(row.name), Some(row.knob));
            assert_eq!(Knob::from_id(row.knob.id()), Some(row.knob));
        }
    }

    #[test]
    fn every_default_lies_on_its_own_grid() {
        for row in KNOBS {
            let value = Value::default_of(row.knob);
            assert_eq!(row.domain.snap(value), Some(value), "{}", row.name);
        }
    }
}
