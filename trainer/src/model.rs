//! The model: a GPT whose parts an experiment may change, after karpathy/autoresearch's.
//!
//! ```text
//! tokens ─embedding─norm─▶ x0
//!        ─▶ [ x = residual · x + feedback · x0 ; x += attention(norm x) ; x += MLP(norm x) ] × depth
//!        ─norm─head─softcap─▶ logits
//! ```
//!
//! Shapes: B sequences, T tokens each, N = B · T, C the width, H heads. The residual stream is `[N, C]`. In
//! bf16 the products and the stream are bf16; weights, softmax, loss and the statistics of norms stay f32.
//!
//! The parts that most configs share have faster forms. On a CPU these are the fused operations of
//! [`crate::shim`]. On a GPU some are fused, and others are the grouped operations of [`shim::device`]. The
//! plain form ([`Operations::Plain`]) stays the reference, and serves every other device and part.
//!
//! Not here: which weights there are and how they begin ([`parameters`]), how values are drawn ([`init`]),
//! what the sizes cost ([`shape`]) and how the model learns ([`crate::optimizer`]).

pub mod attention;
pub mod init;
pub mod norm;
pub mod parameters;
pub mod rotary;
pub mod shape;

use autoswarm_protocol::{EffectiveConfig, Knob};
use tch::{Device, Kind, Reduction, Tensor};

use self::{
    attention::Attention,
    norm::{Gains, Norm, Place},
    rotary::Rotary,
};
pub use self::{
    parameters::{Parameters, Role},
    shape::Shape,
};
use crate::{
    events,
    failure::Failure,
    harness::budget::Deadline,
    shim::{
        self,
        listen::{self, Part},
    },
};

/// The activation of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activation {
    Relu2,
    Relu,
    Gelu,
    Silu,
    Swiglu,
}

/// The form of those operations that have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operations {
    /// The fused form of [`crate::shim`]: on a CPU, and in bf16 on a GPU.
    Fused,
    /// The grouped form of [`shim::device`]: on a GPU, where the fused form does not apply. There each
    /// operation costs a launch and f32 logits cost memory.
    Grouped,
    /// The plain form: operations of libtorch, one after the other.
    Plain,
}

impl Operations {
    /// Returns the fastest form for this model, unless another one is asked for.
    fn new(shape: &Shape, kind: Kind, device: Device) -> Self {
        if let Some(asked) = Self::asked() {
            return asked;
        }
        match device {
            Device::Cpu if matches!(kind, Kind::Float | Kind::BFloat16) => Self::Fused,
            Device::Cuda(index) if kind == Kind::BFloat16 && shim::cuda::takes(shape) => {
                match shim::cuda::open(index) {
                    Ok(()) => Self::Fused,
                    Err(reason) => {
                        events::warn(&format!("fused operations are off, and training is slower: {reason}"));
                        Self::Grouped
                    }
                }
            }
            Device::Cuda(_) => Self::Grouped,
            _ => Self::Plain,
        }
    }

    /// Returns the form that `AUTOSWARM_OPERATIONS` asks for, which is for comparisons; none if it asks for
    /// the fastest.
    fn asked() -> Option<Self> {
        let name = std::env::var("AUTOSWARM_OPERATIONS").ok()?;
        match name.as_str() {
            "grouped" => Some(Self::Grouped),
            "plain" => Some(Self::Plain),
            "" | "fused" => None,
            _ => {
                events::warn(
                    "AUTOSWARM_OPERATIONS is neither fused, grouped nor plain, and counts for nothing",
                );
                None
            }
        }
    }
}

/// Rows of logits that the grouped cross-entropy takes at once. At a vocabulary of 8192 they are 256 MiB of
/// f32 numbers. // Wild guess.
const CHUNK_ROWS: i64 = 8192;

/// The source of dropout's masks: a micro-batch of a run.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The seed of the run.
    pub seed: u64,
    /// The index of the first row of the micro-batch.
    pub row: u64,
}

/// A model: its parameters, and the fixed parts that its config decides.
#[derive(Debug)]
pub struct Model {
    /// The sizes of the model.
    pub shape: Shape,
    /// The trainable tensors.
    pub parameters: Parameters,
    kind: Kind,
    device: Device,
    rotary: Rotary,
    attention: Attention,
    norm: Norm,
    place: Place,
    gains: Gains,
    activation: Activation,
    parallel: bool,
    qk_norm: bool,
    embedding_norm: bool,
    softcap: f64,
    value_gate_scale: f64,
    dropout: f64,
    operations: Operations,
}

/// The weights of one layer, in the number format of the products.
struct Layer {
    index: i64,
    residual: Option<Tensor>,
    feedback: Option<Tensor>,
    attention_in: Tensor,
    attention_out: Tensor,
    mlp_in: Tensor,
    mlp_out: Tensor,
    /// The value embedding of these tokens, `[N, kv width]`, and the weights of its gate.
    value: Option<(Tensor, Tensor)>,
}

/// The residual stream `[N, C]`, whose last sublayer output is not added yet. A fused norm adds it in the
/// same pass.
struct Stream {
    x: Tensor,
    delta: Option<Tensor>,
}

impl Model {
    /// Builds a model with initial values from `seed`.
    pub fn new(
        config: &EffectiveConfig,
        vocabulary: usize,
        context: usize,
        seed: u64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let shape = Shape::new(config, vocabulary, context);
        let norms = gains(config).count(shape.depth);
        let parameters = Parameters::new(config, &shape, norms, seed, device);
        Self::with_parameters(config, shape, parameters, kind, device)
    }

    /// Builds a model from existing parameters.
    pub fn with_parameters(
        config: &EffectiveConfig,
        shape: Shape,
        parameters: Parameters,
        kind: Kind,
        device: Device,
    ) -> Self {
        let operations = Operations::new(&shape, kind, device);
        let flash = operations == Operations::Grouped;
        let rotary = Rotary::new(shape.context, shape.head_dim, config.number(Knob::RopeBase), kind, device);
        Self {
            rotary,
            attention: Attention::new(&shape, config.number(Knob::AttentionScale), flash, kind, device),
            norm: Norm::new(config),
            place: place(config),
            gains: gains(config),
            activation: match config.choice(Knob::Activation) {
                "relu" => Activation::Relu,
                "gelu" => Activation::Gelu,
                "silu" => Activation::Silu,
                "swiglu" => Activation::Swiglu,
                _ => Activation::Relu2,
            },
            parallel: config.choice(Knob::Block) == "parallel",
            qk_norm: config.is_on(Knob::QkNorm),
            embedding_norm: config.is_on(Knob::EmbeddingNorm),
            softcap: config.number(Knob::Softcap),
            value_gate_scale: config.number(Knob::ValueGateScale),
            dropout: config.number(Knob::Dropout),
            operations,
            shape,
            parameters,
            kind,
            device,
        }
    }

    /// Returns the same model with another form of operations, for comparisons.
    #[must_use]
    pub fn with_operations(self, operations: Operations) -> Self {
        Self { operations, ..self }
    }

    /// Returns the form of those operations that have several.
    pub const fn operations(&self) -> Operations {
        self.operations
    }

    /// Returns whether the model runs fused operations where it has them.
    pub const fn is_fused(&self) -> bool {
        matches!(self.operations, Operations::Fused)
    }

    /// Returns the number of parameters of a model of these sizes, without building it.
    pub fn parameter_count(config: &EffectiveConfig, shape: &Shape) -> u64 {
        Parameters::count_of(config, shape, gains(config).count(shape.depth))
    }

    /// Builds a model from saved parameters. Fails with the role whose tensor is missing or has another size.
    pub fn load(
        config: &EffectiveConfig,
        shape: Shape,
        kind: Kind,
        device: Device,
        mut saved: impl FnMut(Role) -> Option<Tensor>,
    ) -> Result<Self, Role> {
        let norms = gains(config).count(shape.depth);
        let parameters = Parameters::from_saved(config, &shape, norms, |role| {
            saved(role).map(|tensor| tensor.to_device(device))
        })?;
        Ok(Self::with_parameters(config, shape, parameters, kind, device))
    }

    /// Returns the device that the parameters are on.
    pub const fn device(&self) -> Device {
        self.device
    }

    /// Returns the mean loss, in nats, of predicting each token of `rows` `[B, T + 1]` from the tokens before
    /// it.
    pub fn loss(
        &self,
        rows: &Tensor,
        dropout: Option<Dropout>,
        deadline: &Deadline,
    ) -> Result<Tensor, Failure> {
        self.share_of_loss(1.0, rows, dropout, deadline)
    }

    /// Returns the mean loss of `rows`, as [`loss`](Self::loss) does, times `share`: the share, above 0, that
    /// the rows are of a step.
    pub fn share_of_loss(
        &self,
        share: f64,
        rows: &Tensor,
        dropout: Option<Dropout>,
        deadline: &Deadline,
    ) -> Result<Tensor, Failure> {
        let (logits, targets) = self.predict(rows, dropout, deadline)?;
        // The fused form puts the share into the gradient: multiplying the gradient of all logits would be
        // one more pass over the largest tensor.
        let loss = match self.operations {
            Operations::Fused => {
                return Ok(shim::cross_entropy(&logits, &targets, self.softcap, Some(share)));
            }
            Operations::Grouped => shim::device::cross_entropy(&logits, &targets, self.softcap, CHUNK_ROWS),
            Operations::Plain => self.plain_losses(&logits, &targets, Reduction::Mean),
        };
        Ok(if share < 1.0 { loss * share } else { loss })
    }

    /// Returns the loss of each token, `[N]`, in nats.
    pub fn token_losses(&self, rows: &Tensor, deadline: &Deadline) -> Result<Tensor, Failure> {
        let (logits, targets) = self.predict(rows, None, deadline)?;
        // The fused losses by token have no gradient.
        if self.is_fused() && !logits.requires_grad() {
            return Ok(shim::cross_entropy(&logits, &targets, self.softcap, None));
        }
        Ok(self.plain_losses(&logits, &targets, Reduction::None))
    }

    /// Returns the logits `[N, V]` before the softcap, and the targets `[N]`, of `rows` `[B, T + 1]`.
    fn predict(
        &self,
        rows: &Tensor,
        dropout: Option<Dropout>,
        deadline: &Deadline,
    ) -> Result<(Tensor, Tensor), Failure> {
        let length = rows.size()[1] - 1;
        let logits = self.raw_logits(&rows.narrow(1, 0, length), dropout, deadline)?;
        Ok((logits, rows.narrow(1, 1, length).reshape([-1])))
    }

    /// Returns the cross-entropy of the capped logits by operations of libtorch.
    fn plain_losses(&self, logits: &Tensor, targets: &Tensor, reduction: Reduction) -> Tensor {
        self.cap(logits).cross_entropy_loss(targets, None::<Tensor>, reduction, -100, 0.0)
    }

    /// Returns the logits `[N, V]`, in f32, that follow each of `tokens` `[B, T]`.
    pub fn logits(
        &self,
        tokens: &Tensor,
        dropout: Option<Dropout>,
        deadline: &Deadline,
    ) -> Result<Tensor, Failure> {
        Ok(self.cap(&self.raw_logits(tokens, dropout, deadline)?))
    }

    /// Returns logits in f32, bounded by the softcap.
    fn cap(&self, logits: &Tensor) -> Tensor {
        let logits = logits.to_kind(Kind::Float);
        if self.softcap == 0.0 {
            return logits;
        }
        (logits * (1.0 / self.softcap)).tanh() * self.softcap
    }

    /// Returns the logits before the softcap, in the number format of the products.
    fn raw_logits(
        &self,
        tokens: &Tensor,
        dropout: Option<Dropout>,
        deadline: &Deadline,
    ) -> Result<Tensor, Failure> {
        let (batch, length) = tokens.size2().expect("tokens are [B, T]");
        let tokens = tokens.reshape([-1]); // [N]
        let x0 = self.look_up(self.parameters.expect(Role::Embedding), &tokens); // [N, C]
        let x0 = if self.embedding_norm { self.normalise(&x0, self.gains.embedding()) } else { x0 };
        let mut stream = Stream { x: x0.shallow_clone(), delta: None };
        for layer in self.layers(&tokens) {
            deadline.check()?;
            stream = self.block(&layer, stream, &x0, (batch, length), dropout);
        }
        deadline.check()?;
        let (x, _) = self.join(stream, None, Some(self.gains.last()));
        listen::part(Part::Head);
        let head = if self.shape.tied_head { Role::Embedding } else { Role::Unembedding };
        Ok(x.mm(&self.weight(head).tr()))
    }

    /// Returns the rows `tokens` `[N]` of a table `[V, C]`, in the number format of the products.
    fn look_up(&self, table: &Tensor, tokens: &Tensor) -> Tensor {
        listen::part(Part::Embedding);
        if self.is_fused() {
            shim::gather(table, tokens, self.kind)
        } else {
            table.to_kind(self.kind).index_select(0, tokens)
        }
    }

    /// Returns a role's tensor in the number format of the products.
    fn weight(&self, role: Role) -> Tensor {
        self.parameters.expect(role).to_kind(self.kind)
    }

    /// Cuts the stacked weights into layers, and looks up the value embeddings of `tokens` `[N]`.
    fn layers(&self, tokens: &Tensor) -> impl Iterator<Item = Layer> {
        let stack = |role| self.weight(role).unbind(0).into_iter();
        let scalars = |role| self.parameters.get(role).map(|factors| factors.unbind(0)).unwrap_or_default();
        let mut values = match self.parameters.get(Role::ValueGate) {
            Some(_) => {
                let tables = self.parameters.expect(Role::ValueEmbedding).unbind(0);
                let found = tables.iter().map(|table| self.look_up(table, tokens)).collect::<Vec<_>>();
                found.into_iter().zip(stack(Role::ValueGate)).map(Some).collect()
            }
            None => Vec::new(),
        };
        listen::part(Part::Weights);
        let mut residual = scalars(Role::ResidualFactor).into_iter();
        let mut feedback = scalars(Role::FeedbackFactor).into_iter();
        let mut attention_in = stack(Role::AttentionIn);
        let mut attention_out = stack(Role::AttentionOut);
        let mut mlp_in = stack(Role::MlpIn);
        let mut mlp_out = stack(Role::MlpOut);
        let next = |stack: &mut std::vec::IntoIter<Tensor>| stack.next().expect("one tensor per layer");
        let mut layers = Vec::new();
        for (index, value) in self.shape.value_embeddings.iter().enumerate() {
            layers.push(Layer {
                index: index as i64,
                residual: residual.next(),
                feedback: feedback.next(),
                attention_in: next(&mut attention_in),
                attention_out: next(&mut attention_out),
                mlp_in: next(&mut mlp_in),
                mlp_out: next(&mut mlp_out),
                value: value.and_then(|value| values[value as usize].take()),
            });
        }
        layers.into_iter()
    }

    /// Returns the residual stream `[N, C]` after one block.
    fn block(
        &self,
        layer: &Layer,
        stream: Stream,
        x0: &Tensor,
        (batch, length): (i64, i64),
        dropout: Option<Dropout>,
    ) -> Stream {
        let finish = |y: Tensor, sublayer| {
            let y = if self.place.after() {
                self.normalise(&y, self.gains.after(layer.index, sublayer))
            } else {
                y
            };
            self.drop(y, layer.index, sublayer, dropout)
        };
        let gain = |sublayer| self.place.before().then(|| self.gains.before(layer.index, sublayer));
        let feedback = layer.residual.as_ref().zip(layer.feedback.as_ref()).map(|(a, b)| (x0, a, b));
        let (input, x) = self.join(stream, feedback, gain(0));
        let attended = finish(self.attend(layer, &input, batch, length), 0);
        // In a parallel block the MLP reads the same input as the attention; else it reads the stream after
        // it.
        let (input, stream) = if self.parallel {
            (input, Stream { x: x + attended, delta: None })
        } else {
            let (input, x) = self.join(Stream { x, delta: Some(attended) }, None, gain(1));
            (input, Stream { x, delta: None })
        };
        Stream { delta: Some(finish(self.mlp(layer, &input), 1)), ..stream }
    }

    /// Adds the pending sublayer output to the stream and mixes in the embedding. Then normalises, if a row
    /// of the gains is given. Returns (normalised, stream).
    fn join(
        &self,
        stream: Stream,
        feedback: Option<shim::Feedback<'_>>,
        gain: Option<i64>,
    ) -> (Tensor, Tensor) {
        listen::part(Part::Norm);
        let Stream { x, delta } = stream;
        if let (true, Some(row)) = (self.fuses_norms(), gain) {
            let (normalised, x) = shim::mix_norm(&x, delta.as_ref(), feedback, norm::EPSILON);
            return (self.gained(normalised, row), x);
        }
        let x = match delta {
            Some(delta) => x + delta,
            None => x,
        };
        let x = match feedback {
            Some((x0, residual, feedback)) => x * residual + x0 * feedback,
            None => x,
        };
        let normalised = gain.map_or_else(|| x.shallow_clone(), |row| self.normalise(&x, row));
        (normalised, x)
    }

    /// Returns the output of the attention for its input `x`, both `[N, C]`.
    fn attend(&self, layer: &Layer, x: &Tensor, batch: i64, length: i64) -> Tensor {
        let Shape { heads, kv_heads, head_dim, .. } = self.shape;
        listen::part(Part::Projection);
        let qkv = x.mm(&layer.attention_in.tr());
        listen::part(Part::Attention);
        let window = self.shape.windows[layer.index as usize];
        if self.is_fused() && shim::takes_length(self.device, length) {
            let value = layer.value.as_ref().map(|(value, gate)| (value, self.gate(x, gate)));
            let heads = shim::Heads {
                batch,
                length,
                heads,
                kv_heads,
                head_dim,
                window: window.unwrap_or(length),
                norm: self.qk_norm.then_some(norm::EPSILON),
                gate_scale: self.value_gate_scale,
                scale: self.attention.scale(),
            };
            let value = value.as_ref().map(|(value, gate)| (*value, gate));
            let attended = shim::attention(&qkv, value, self.rotary.angles(), heads);
            listen::part(Part::Projection);
            return attended.mm(&layer.attention_out.tr());
        }
        let qkv = qkv.view([batch, length, heads + 2 * kv_heads, head_dim]);
        // Queries and keys get the same rotation and norm, so they are computed together.
        let qk = self.rotary.apply(&qkv.narrow(2, 0, heads + kv_heads));
        let qk = if self.qk_norm { norm::rms(&qk) } else { qk };
        let mut v = qkv.narrow(2, heads + kv_heads, kv_heads); // [B, T, kv heads, head_dim]
        if let Some((value, gate)) = &layer.value {
            let gate = self.gate(x, gate).sigmoid() * self.value_gate_scale;
            let gate = gate.view([batch, length, kv_heads, 1]);
            v = v.addcmul(&value.view([batch, length, kv_heads, head_dim]), &gate);
        }
        let (q, k) = (qk.narrow(2, 0, heads), qk.narrow(2, heads, kv_heads));
        let y = self.attention.apply(&q, &k, &v, window); // [B, T, H, head_dim]
        listen::part(Part::Projection);
        y.reshape([-1, self.shape.width]).mm(&layer.attention_out.tr())
    }

    /// Returns the gates of a layer's value embeddings, `[N, kv heads]`, before their sigmoid.
    fn gate(&self, x: &Tensor, gate: &Tensor) -> Tensor {
        x.narrow(1, 0, self.shape.gate_width).mm(&gate.tr())
    }

    /// Returns the output of the MLP for its input `x`, both `[N, C]`.
    fn mlp(&self, layer: &Layer, x: &Tensor) -> Tensor {
        listen::part(Part::Mlp);
        let hidden = x.mm(&layer.mlp_in.tr()); // [N, hidden], or [N, 2 · hidden] with a gate
        let hidden = match self.activation {
            Activation::Relu2 if self.is_fused() => shim::relu_squared(&hidden),
            Activation::Swiglu if self.is_fused() => shim::swiglu(&hidden),
            Activation::Relu2 => hidden.relu().square(),
            Activation::Relu => hidden.relu(),
            Activation::Gelu => hidden.gelu("none"),
            Activation::Silu => hidden.silu(),
            Activation::Swiglu => {
                let halves = hidden.chunk(2, 1);
                halves[0].silu() * &halves[1]
            }
        };
        hidden.mm(&layer.mlp_out.tr())
    }

    /// Returns `x` normalised, with the gain of a row.
    fn normalise(&self, x: &Tensor, row: i64) -> Tensor {
        listen::part(Part::Norm);
        if self.fuses_norms() {
            return self.gained(shim::mix_norm(x, None, None, norm::EPSILON).0, row);
        }
        self.norm.apply(x, self.gain(row).as_ref())
    }

    /// Returns whether a fused operation computes the norm.
    const fn fuses_norms(&self) -> bool {
        self.is_fused() && matches!(self.norm, Norm::Rms | Norm::RmsLearned)
    }

    /// Multiplies the result of a fused norm by the gain of a row, if the config has gains.
    fn gained(&self, normalised: Tensor, row: i64) -> Tensor {
        match self.gain(row) {
            Some(gain) => normalised * gain.to_kind(self.kind),
            None => normalised,
        }
    }

    /// Returns the gain of a row, if the config has gains.
    fn gain(&self, row: i64) -> Option<Tensor> {
        self.parameters.get(Role::NormGain).map(|gains| gains.select(0, row))
    }

    /// Applies dropout to the output of a sublayer, with a mask that the seed of the run and the rows decide.
    fn drop(&self, y: Tensor, layer: i64, sublayer: i64, dropout: Option<Dropout>) -> Tensor {
        let Some(Dropout { seed, row }) = dropout.filter(|_| self.dropout > 0.0) else { return y };
        let keep = 1.0 - self.dropout;
        let name = format!("dropout {row} {layer} {sublayer}");
        let drawn = init::seeded(seed, &name, || Tensor::rand(y.size(), (Kind::Float, self.device)));
        y * (drawn.lt(keep).to_kind(self.kind) * (1.0 / keep))
    }
}

fn place(config: &EffectiveConfig) -> Place {
    match config.choice(Knob::NormPlace) {
        "post" => Place::Post,
        "sandwich" => Place::Sandwich,
        _ => Place::Pre,
    }
}

fn gains(config: &EffectiveConfig) -> Gains {
    Gains::new(config.is_on(Knob::EmbeddingNorm), place(config), config.choice(Knob::Block) == "parallel")
}
