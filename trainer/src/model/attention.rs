//! Attention: which earlier tokens a query sees, and the scaled dot product over them.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::shape::Shape;
use crate::shim;

/// Attention over whole sequences or short windows. The masks of short windows are built once.
#[derive(Debug)]
pub struct Attention {
    scale: f64,
    grouped: bool,
    flash: bool,
    /// The mask of each window, `[context, context]`: 0 where a query sees a key and −∞ elsewhere.
    masks: BTreeMap<i64, Tensor>,
}

impl Attention {
    /// Builds the masks of a model's windows. `scale` is a factor on the usual 1/√head dimension. `flash`
    /// asks for the flash kernels where there are any; they need no mask.
    pub fn new(shape: &Shape, scale: f64, flash: bool, kind: Kind, device: Device) -> Self {
        let windows = shape.windows.iter().flatten();
        let masks = windows.map(|&window| (window, mask(shape.context, window, kind, device)));
        Self {
            scale: scale / (shape.head_dim as f64).sqrt(),
            grouped: shape.kv_heads < shape.heads,
            flash,
            masks: masks.collect(),
        }
    }

    /// Returns the factor on the scores.
    pub const fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns the output of the attention, `[B, T, H, head_dim]`, for q of that size, and k and v of
    /// `[B, T, kv heads, head_dim]`.
    pub fn apply(&self, q: &Tensor, k: &Tensor, v: &Tensor, window: Option<i64>) -> Tensor {
        let length = q.size()[1];
        if self.flash && shim::device::has_flash_attention(q) {
            return shim::device::flash_attention(q, k, v, window.unwrap_or(length), self.scale);
        }
        // A window as long as the sequence hides nothing, and the causal kernel is faster than a mask.
        let window = window.filter(|&window| window < length);
        let mask = window.map(|window| self.masks[&window].narrow(0, 0, length).narrow(1, 0, length));
        let heads_first = |x: &Tensor| x.transpose(1, 2); // [B, H, T, head_dim]
        Tensor::scaled_dot_product_attention(
            &heads_first(q),
            &heads_first(k),
            &heads_first(v),
            mask.as_ref(),
            0.0,
            mask.is_none(),
            self.scale,
            self.grouped,
        )
        .transpose(1, 2)
    }
}

/// Returns the mask of a causal window: query `i` sees keys `i - window + 1 ..= i`.
fn mask(context: i64, window: i64, kind: Kind, device: Device) -> Tensor {
    let ones = Tensor::ones([context, context], (Kind::Bool, device));
    let seen = ones.tril(0).logical_and(&ones.triu(1 - window));
    Tensor::zeros([context, context], (kind, device)).masked_fill(&seen.logical_not(), f64::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sees_itself_and_the_tokens_before_it_in_the_window() {
        let mask = mask(4, 2, Kind::Float, Device::Cpu);
        let seen: Vec<bool> = (0..16).map(|i| mask.double_value(&[i / 4, i % 4]) == 0.0).collect();
        let (o, x) = (false, true);
        assert_eq!(seen, [x, o, o, o, x, x, o, o, o, x, x, o, o, o, x, x]);
    }
}
