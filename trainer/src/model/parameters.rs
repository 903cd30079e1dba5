//! The trainable tensors: one per role, with the tensors of all layers stacked along the first dimension.
//!
//! Because of the stacking, an optimizer step is a few large operations. With a tensor per layer it would be
//! hundreds of small ones.

use std::collections::BTreeMap;

use autoswarm_protocol::{EffectiveConfig, Knob};
use tch::{Device, Kind, Tensor};

use super::{
    init::{self, Distribution},
    shape::Shape,
};

/// The role of a parameter. Files and lists have the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Token embedding, `[V, C]`.
    Embedding,
    /// Output matrix of an untied head, `[V, C]`.
    Unembedding,
    /// Token-indexed additions to the values, `[embeddings, V, kv width]`.
    ValueEmbedding,
    /// Gates of the value embeddings, `[embeddings, kv heads, gate width]`.
    ValueGate,
    /// Queries, keys and values in one matrix, `[depth, C + 2 · kv width, C]`.
    AttentionIn,
    /// The output matrix from the heads back to the residual stream, `[depth, C, C]`.
    AttentionOut,
    /// Input matrix of the MLP, `[depth, hidden, C]`. A gated MLP has twice the rows, the gate's above the
    /// value's.
    MlpIn,
    /// Output matrix of the MLP, `[depth, C, hidden]`.
    MlpOut,
    /// Factors on the residual stream before each block, `[depth]`.
    ResidualFactor,
    /// Factors on the embedding fed back before each block, `[depth]`.
    FeedbackFactor,
    /// Gains of all normalisations, `[norms, C]`.
    NormGain,
}

impl Role {
    /// All roles, in the order of files and lists.
    pub const ALL: [Self; 11] = [
        Self::Embedding,
        Self::Unembedding,
        Self::ValueEmbedding,
        Self::ValueGate,
        Self::AttentionIn,
        Self::AttentionOut,
        Self::MlpIn,
        Self::MlpOut,
        Self::ResidualFactor,
        Self::FeedbackFactor,
        Self::NormGain,
    ];

    /// Returns the name used in files and as the seed of initial values.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Unembedding => "unembedding",
            Self::ValueEmbedding => "value_embedding",
            Self::ValueGate => "value_gate",
            Self::AttentionIn => "attention_in",
            Self::AttentionOut => "attention_out",
            Self::MlpIn => "mlp_in",
            Self::MlpOut => "mlp_out",
            Self::ResidualFactor => "residual_factor",
            Self::FeedbackFactor => "feedback_factor",
            Self::NormGain => "norm_gain",
        }
    }

    /// Returns whether the role is one of the matrices of the blocks, which Muon may train.
    pub const fn is_matrix(self) -> bool {
        matches!(self, Self::ValueGate | Self::AttentionIn | Self::AttentionOut | Self::MlpIn | Self::MlpOut)
    }

    /// Returns the row counts of the matrices that one layer's tensor stacks, for roles that hold matrices.
    pub fn parts(self, shape: &Shape) -> Vec<i64> {
        match self {
            Self::AttentionIn => vec![shape.width, shape.kv_width(), shape.kv_width()],
            Self::MlpIn if shape.gated_mlp => vec![shape.hidden; 2],
            Self::MlpIn => vec![shape.hidden],
            Self::ValueGate => vec![shape.kv_heads],
            _ => vec![shape.width],
        }
    }

    /// Returns the size of the tensor, or nothing if the config has no such parameter.
    fn size(self, config: &EffectiveConfig, shape: &Shape, norms: i64) -> Option<Vec<i64>> {
        let embeddings = shape.value_embedding_count();
        let scalars = config.is_on(Knob::ResidualScalars).then(|| vec![shape.depth]);
        match self {
            Self::Embedding => Some(vec![shape.vocabulary, shape.width]),
            Self::Unembedding => (!shape.tied_head).then(|| vec![shape.vocabulary, shape.width]),
            Self::ValueEmbedding => {
                (embeddings > 0).then(|| vec![embeddings, shape.vocabulary, shape.kv_width()])
            }
            Self::ValueGate => (embeddings > 0).then(|| vec![embeddings, shape.kv_heads, shape.gate_width]),
            Self::AttentionIn => Some(vec![shape.depth, shape.qkv_width(), shape.width]),
            Self::AttentionOut => Some(vec![shape.depth, shape.width, shape.width]),
            Self::MlpIn => Some(vec![shape.depth, shape.mlp_in_width(), shape.width]),
            Self::MlpOut => Some(vec![shape.depth, shape.width, shape.hidden]),
            Self::ResidualFactor | Self::FeedbackFactor => scalars,
            Self::NormGain => (config.choice(Knob::Norm) != "rms").then(|| vec![norms, shape.width]),
        }
    }
}

/// The trainable tensors of a model, in f32.
#[derive(Debug)]
pub struct Parameters(BTreeMap<Role, Tensor>);

impl Parameters {
    /// Draws the initial values of a model with `norms` normalisations, then moves them to `device`.
    pub fn new(config: &EffectiveConfig, shape: &Shape, norms: i64, seed: u64, device: Device) -> Self {
        let tensors = Role::ALL.into_iter().filter_map(|role| {
            let size = role.size(config, shape, norms)?;
            let tensor = initial(role, &size, config, shape, seed).to_device(device);
            Some((role, tensor.set_requires_grad(true)))
        });
        Self(tensors.collect())
    }

    /// Wraps saved tensors. Fails with the role whose tensor is missing or has another size.
    pub fn from_saved(
        config: &EffectiveConfig,
        shape: &Shape,
        norms: i64,
        mut saved: impl FnMut(Role) -> Option<Tensor>,
    ) -> Result<Self, Role> {
        let mut tensors = BTreeMap::new();
        for role in Role::ALL {
            if let Some(size) = role.size(config, shape, norms) {
                let tensor = saved(role).filter(|tensor| tensor.size() == size).ok_or(role)?;
                tensors.insert(role, tensor.set_requires_grad(true));
            }
        }
        Ok(Self(tensors))
    }

    /// Returns the number of parameters of a model, without building it.
    pub fn count_of(config: &EffectiveConfig, shape: &Shape, norms: i64) -> u64 {
        let sizes = Role::ALL.into_iter().filter_map(|role| role.size(config, shape, norms));
        sizes.map(|size| size.iter().product::<i64>() as u64).sum()
    }

    /// Returns the tensor of a role, if the config has it.
    pub fn get(&self, role: Role) -> Option<&Tensor> {
        self.0.get(&role)
    }

    /// Returns the tensor of a role that this config has; panics if it does not.
    pub fn expect(&self, role: Role) -> &Tensor {
        self.0.get(&role).expect("every config has this parameter")
    }

    /// Returns the roles with their tensors, in the order of the roles.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Tensor)> {
        self.0.iter().map(|(&role, tensor)| (role, tensor))
    }

    /// Returns the number of parameters.
    pub fn count(&self) -> u64 {
        self.0.values().map(|tensor| tensor.numel() as u64).sum()
    }
}

/// Returns a role's initial values.
fn initial(role: Role, size: &[i64], config: &EffectiveConfig, shape: &Shape, seed: u64) -> Tensor {
    let by_width = |knob| config.number(knob) / (shape.width as f64).sqrt();
    let kind = match config.choice(Knob::InitKind) {
        "normal" => Distribution::Normal,
        "orthogonal" => Distribution::Orthogonal,
        _ => Distribution::Uniform,
    };
    let normal = Distribution::Normal;
    let stacked = |distribution, deviation| stack(role, size, distribution, deviation, shape, seed);
    let filled = |value| Tensor::full(size, value, (Kind::Float, Device::Cpu));
    match role {
        Role::Embedding => stacked(normal, config.number(Knob::EmbeddingInit)),
        Role::Unembedding => stacked(normal, config.number(Knob::UnembeddingInit)),
        Role::ValueEmbedding => stacked(Distribution::Uniform, by_width(Knob::ValueEmbeddingInit)),
        Role::ValueGate => {
            stacked(kind, config.number(Knob::ValueGateInit) / (shape.gate_width as f64).sqrt())
        }
        Role::AttentionIn | Role::MlpIn => stacked(kind, by_width(Knob::MatrixInit)),
        Role::AttentionOut | Role::MlpOut => stacked(kind, by_width(Knob::ProjectionInit)),
        Role::ResidualFactor => filled(config.number(Knob::ResidualInit)),
        Role::FeedbackFactor => filled(config.number(Knob::FeedbackInit)),
        Role::NormGain => filled(1.0),
    }
}

/// Draws every matrix that a role's tensor stacks, each under its own name.
fn stack(
    role: Role,
    size: &[i64],
    distribution: Distribution,
    deviation: f64,
    shape: &Shape,
    seed: u64,
) -> Tensor {
    if deviation == 0.0 {
        return Tensor::zeros(size, (Kind::Float, Device::Cpu));
    }
    let (layers, rows, columns) = match *size {
        [rows, columns] => (1, rows, columns),
        [layers, rows, columns] => (layers, rows, columns),
        _ => unreachable!("only matrices and stacks of matrices are drawn"),
    };
    let parts = if role.is_matrix() { role.parts(shape) } else { vec![rows] };
    // Value embeddings are numbered from the last layer, so that a deeper model keeps those it had.
    let counted = |layer| if role == Role::ValueEmbedding { layers - 1 - layer } else { layer };
    let mut drawn = Vec::new();
    for layer in 0..layers {
        for (part, &rows) in parts.iter().enumerate() {
            let name = format!("{} {} {part}", role.name(), counted(layer));
            drawn.push(init::draw(distribution, rows, columns, seed, &name));
        }
    }
    (Tensor::cat(&drawn, 0) * deviation).reshape(size)
}
