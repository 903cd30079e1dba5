//! The sizes of a model, resolved once from an effective config, and what they cost.

use autoswarm_protocol::{EffectiveConfig, Knob};

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The number of token ids.
    pub vocabulary: i64,
    /// The length of the longest sequence: the context of the evaluation.
    pub context: i64,
    /// The number of transformer blocks.
    pub depth: i64,
    /// The width C of the residual stream, heads × head dimension.
    pub width: i64,
    /// The number of query heads H.
    pub heads: i64,
    /// The number of key heads, which is also that of value heads.
    pub kv_heads: i64,
    /// The width of one head.
    pub head_dim: i64,
    /// The hidden width of the MLP.
    pub hidden: i64,
    /// Whether the MLP has a gate beside its input matrix.
    pub gated_mlp: bool,
    /// The number of channels that the gate of a value embedding reads.
    pub gate_width: i64,
    /// Whether the output matrix is the embedding table itself.
    pub tied_head: bool,
    /// The number of tokens that each layer looks back on, itself included; none means all. It is never more
    /// than the model was trained on: at distances that it has not seen, a model is worse than without them,
    /// and how much worse is luck.
    pub windows: Vec<Option<i64>>,
    /// For each layer, the index of the value embedding that it adds, if any.
    pub value_embeddings: Vec<Option<i64>>,
}

impl Shape {
    /// Resolves the sizes for a vocabulary and an evaluation context.
    pub fn new(config: &EffectiveConfig, vocabulary: usize, context: usize) -> Self {
        let sequence = config.integer(Knob::SequenceLength) as i64;
        let long = (sequence < context as i64).then_some(sequence);
        let short = Some(config.short_window(context) as i64);
        let window = |is_short: bool| if is_short { short } else { long };
        let mut value_embeddings = 0..;
        Self {
            vocabulary: vocabulary as i64,
            context: context as i64,
            depth: config.integer(Knob::Depth) as i64,
            width: config.integer(Knob::Width) as i64,
            heads: config.heads() as i64,
            kv_heads: config.kv_heads() as i64,
            head_dim: config.integer(Knob::HeadDim) as i64,
            hidden: config.hidden() as i64,
            gated_mlp: config.choice(Knob::Activation) == "swiglu",
            gate_width: config.integer(Knob::ValueGateWidth) as i64,
            tied_head: config.choice(Knob::Head) == "tied",
            windows: config.short_layers().into_iter().map(window).collect(),
            value_embeddings: config
                .value_embedding_layers()
                .into_iter()
                .map(|has| if has { value_embeddings.next() } else { None })
                .collect(),
        }
    }

    /// Returns the number of value embeddings.
    pub fn value_embedding_count(&self) -> i64 {
        self.value_embeddings.iter().flatten().count() as i64
    }

    /// Returns the width of all key heads together, which equals that of the value heads.
    pub fn kv_width(&self) -> i64 {
        self.kv_heads * self.head_dim
    }

    /// Returns the output width of the attention's input matrix: queries, keys and values.
    pub fn qkv_width(&self) -> i64 {
        self.width + 2 * self.kv_width()
    }

    /// Returns the output width of the MLP's input matrix.
    pub fn mlp_in_width(&self) -> i64 {
        if self.gated_mlp { 2 * self.hidden } else { self.hidden }
    }

    /// Returns the number of parameters that take part in a matrix product for every token: all but look-up
    /// tables and scalars.
    fn product_parameters(&self) -> i64 {
        let attention = self.width * (self.qkv_width() + self.width);
        let mlp = self.width * (self.mlp_in_width() + self.hidden);
        let gates = self.value_embedding_count() * self.kv_heads * self.gate_width;
        self.depth * (attention + mlp) + gates + self.width * self.vocabulary
    }

    /// Returns the training FLOPs of one token, in sequences of `sequence` tokens.
    ///
    /// Each parameter in a product costs 6: a multiplication and an addition, forward once and backward
    /// twice. Attention costs 12 · heads · head dimension · window per layer. The window counts whole,
    /// although the mask hides half of it. This is the convention of `PaLM` (Chowdhery et al. 2022, appendix
    /// B), which nanochat and autoresearch share.
    pub fn flops_per_token(&self, sequence: usize) -> f64 {
        let sequence = sequence as i64;
        let seen: i64 = self.windows.iter().map(|window| window.unwrap_or(sequence).min(sequence)).sum();
        (6 * self.product_parameters() + 12 * self.width * seen) as f64
    }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::TrainConfig;

    use super::*;

    fn shape(toml: &str) -> Shape {
        Shape::new(&TrainConfig::from_toml(toml).expect("a valid config").effective(128), 256, 128)
    }

    fn flops(shape: &Shape, sequence: usize) -> i64 {
        shape.flops_per_token(sequence) as i64
    }

    #[test]
    fn flops_of_a_model_small_enough_to_count_by_hand() {
        let small = shape("depth = 1\nwidth = 32\nhead_dim = 32\nvalue_embeddings = \"none\"");
        // Attention 4·32², MLP 8·32², head 32·256; attention scores and sums over 128 tokens.
        assert_eq!(flops(&small, 128), 6 * (12 * 1024 + 8192) + 12 * 32 * 128);
    }

    #[test]
    fn short_windows_cost_less_but_never_less_than_the_sequence() {
        let short = shape("window_pattern = \"S\"\nshort_window = 0.25");
        assert_eq!(short.windows, [Some(32), Some(32), Some(32), None]);
        let full = shape("");
        assert_eq!(flops(&full, 128) - flops(&short, 128), 12 * 128 * 3 * 96);
        assert_eq!(flops(&full, 16), flops(&short, 16));
    }

    #[test]
    fn no_layer_looks_back_further_than_it_was_trained_to() {
        assert_eq!(shape("sequence_length = 64").windows, [Some(64); 4]);
        let short =
            |share| shape(&format!("sequence_length = 64\nwindow_pattern = \"SL\"\nshort_window = {share}"));
        assert_eq!(short(0.25).windows, [Some(32), Some(64), Some(32), Some(64)]);
        assert_eq!(short(0.75).windows, [Some(64); 4]);
        assert_eq!(shape("sequence_length = 128").windows, [None; 4]);
    }

    #[test]
    fn value_embeddings_count_from_the_last_layer() {
        assert_eq!(shape("depth = 3").value_embeddings, [Some(0), None, Some(1)]);
        assert_eq!(shape("depth = 4").value_embeddings, [None, Some(0), None, Some(1)]);
    }
}
