//! Prior art: what the reference, nanochat and their users on small machines already found.
//!
//! It is listed so that nobody discovers it again. Each finding is a move from wherever the incumbent stands,
//! and is judged like any other.
//!
//! Sources: the reference's published log of 126 experiments (branch exp/H100/mar8), nanochat's development
//! log, the small-machine advice of the reference's README, and its users' reports on consumer GPUs and Macs.

use autoswarm_protocol::Knob;

/// Where a prior moves a knob.
#[derive(Debug, Clone, Copy)]
pub(super) enum PriorTarget {
    /// So many steps along the knob's axis.
    Steps(f64),
    /// To this value, as text.
    Set(&'static str),
}

/// A finding of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    /// The knobs that it changes, with where each moves.
    pub(super) changes: &'static [(Knob, PriorTarget)],
    /// Who found it, in words for the hypothesis.
    pub(super) because: &'static str,
}

const fn prior(changes: &'static [(Knob, PriorTarget)], because: &'static str) -> Prior {
    Prior { changes, because }
}

use PriorTarget::{Set, Steps};

/// Every shipped prior.
pub(super) const PRIORS: &[Prior] = &[
    prior(
        &[(Knob::BatchTokens, Steps(-1.0))],
        "halving the batch was the reference's first large gain, and the largest on small GPUs",
    ),
    prior(&[(Knob::BatchTokens, Steps(-2.0))], "small machines win by more steps: a quarter of the batch"),
    prior(
        &[(Knob::Depth, Steps(1.0)), (Knob::Width, Steps(-0.5))],
        "the reference gained from a deeper, relatively narrower model",
    ),
    prior(&[(Knob::Depth, Steps(-1.0))], "consumer GPUs gained from fewer layers and more steps"),
    prior(
        &[(Knob::SequenceLength, Steps(-1.0))],
        "the reference's advice for small machines: shorter sequences",
    ),
    prior(&[(Knob::Warmdown, Steps(1.0))], "the reference and nanochat both lengthened the warm-down"),
    prior(&[(Knob::FinalRate, Set("0.05"))], "the reference kept a small final rate"),
    prior(&[(Knob::EmbeddingRate, Steps(1.0))], "the reference raised the embedding's rate"),
    prior(&[(Knob::UnembeddingRate, Steps(1.0))], "the reference raised the output matrix's rate"),
    prior(&[(Knob::MatrixRate, Steps(-1.0))], "Mac users gained from a lower matrix rate"),
    prior(&[(Knob::ScalarRate, Set("0.3"))], "users of small GPUs lowered the scalars' rate"),
    prior(&[(Knob::MatrixInit, Set("0.7"))], "the reference gained from smaller initial matrices"),
    prior(&[(Knob::RopeBase, Set("200000"))], "the reference gained from a larger rotary base"),
    prior(
        &[(Knob::WindowPattern, Set("SSSL")), (Knob::ShortWindow, Set("0.13"))],
        "the reference gained from much shorter windows",
    ),
    prior(&[(Knob::WindowPattern, Set("SSSL"))], "the reference mixes three short windows with one full"),
    prior(&[(Knob::AttentionScale, Set("1.2"))], "nanochat and a Mac user found sharper attention better"),
    prior(
        &[(Knob::EmbeddingDecay, Set("0.005"))],
        "the reference gained from a little decay of the embeddings",
    ),
    prior(
        &[(Knob::ValueEmbeddingDecay, Set("0.005"))],
        "the reference gained from a little decay of the value embeddings",
    ),
    prior(
        &[(Knob::UnembeddingDecay, Set("0.01"))],
        "the reference gained from a little decay of the output matrix",
    ),
    prior(&[(Knob::MatrixDecay, Steps(-1.0))], "short runs need less decay: nanochat scales it with the run"),
    prior(&[(Knob::Softcap, Set("20"))], "nanochat loosened the soft cap"),
    prior(&[(Knob::ValueEmbeddings, Set("all"))], "value embeddings were among nanochat's largest gains"),
    prior(
        &[(Knob::ValueEmbeddings, Set("none"))],
        "on a small machine value embeddings may cost more time than they bring",
    ),
    prior(&[(Knob::MlpRatio, Set("3"))], "Mac users gained from a smaller MLP"),
    prior(
        &[(Knob::Activation, Set("swiglu")), (Knob::MlpRatio, Set("2.5"))],
        "gated MLPs win in most published models at equal size",
    ),
    prior(&[(Knob::MuonSteps, Set("3"))], "fewer iterations of the orthogonalisation buy steps"),
    prior(
        &[(Knob::MatrixOptimizer, Set("adamw")), (Knob::MatrixRate, Set("0.003"))],
        "on one Mac plain AdamW beat Muon",
    ),
    prior(
        &[(Knob::MuonMomentumWarmup, Set("0.15"))],
        "the reference's momentum warms up over 300 of 953 steps or fewer",
    ),
];
