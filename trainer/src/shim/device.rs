//! Operations that tch lacks, for any device: fewer and larger ones where each costs a launch, and attention
//! by flash kernels.
//!
//! They compute the same as the plain operations, up to rounding. They also run on a CPU, where tests compare
//! the two. Only the flash kernels need CUDA.

use std::ffi::{c_double, c_int};

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use super::{check, made};

unsafe extern "C" {
    fn autoswarm_chunked_cross_entropy(
        out: *mut *mut C_tensor,
        logits: *const C_tensor,
        targets: *const C_tensor,
        softcap: c_double,
        rows: i64,
    ) -> c_int;
    fn autoswarm_adam_each(
        parameters: *const *mut C_tensor,
        gradients: *const *mut C_tensor,
        firsts: *const *mut C_tensor,
        seconds: *const *mut C_tensor,
        numbers: *const c_double,
        count: i64,
    ) -> c_int;
    fn autoswarm_send(out: *mut *mut C_tensor, tensor: *const C_tensor, device: c_int) -> c_int;
    fn autoswarm_peak_bytes(bytes: *mut i64, device: c_int) -> c_int;
    fn autoswarm_flash_attention(
        out: *mut *mut C_tensor,
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        window: i64,
        scale: c_double,
    ) -> c_int;
}

/// Returns the mean cross-entropy, in nats, of `targets` `[N]` under `logits` `[N, V]`. A softcap of 0 means
/// none. It is computed `rows` rows at a time, so that f32 numbers exist only for that many rows.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, softcap: f64, rows: i64) -> Tensor {
    assert!(rows > 0 && logits.dim() == 2 && targets.size() == [logits.size()[0]]);
    // SAFETY: tensors that live for the call. The operations of libtorch check the rest.
    let [loss] = made(|out| unsafe {
        autoswarm_chunked_cross_entropy(out, logits.as_ptr(), targets.as_ptr(), softcap, rows)
    });
    loss
}

/// Returns a copy of a tensor on a GPU without waiting for it. The copy is made from pinned memory, which
/// libtorch keeps until it was read.
pub fn send(tensor: &Tensor, index: usize) -> Tensor {
    // SAFETY: a tensor that lives for the call. libtorch checks the device.
    let [sent] = made(|out| unsafe { autoswarm_send(out, tensor.as_ptr(), index as c_int) });
    sent
}

/// Returns the peak memory, in bytes, that tensors of this process held on an opened GPU.
pub fn peak_bytes(index: usize) -> u64 {
    let mut bytes = 0;
    // SAFETY: a place for the number. libtorch checks the device.
    check(unsafe { autoswarm_peak_bytes(&raw mut bytes, index as c_int) });
    u64::try_from(bytes).unwrap_or(0)
}

/// The share of one tensor in an AdamW step, with the numbers that [`crate::optimizer`] computes.
#[derive(Debug)]
pub struct AdamShare<'a> {
    /// The parameter, which the step moves.
    pub parameter: &'a Tensor,
    /// The gradient of the parameter.
    pub gradient: &'a Tensor,
    /// The running mean of the gradients.
    pub first: &'a Tensor,
    /// The running mean of their squares.
    pub second: &'a Tensor,
    /// Decay of the first moment, β1.
    pub beta1: f64,
    /// Decay of the second moment, β2.
    pub beta2: f64,
    /// The share of the parameter that decay leaves.
    pub kept: f64,
    /// Factor on the root of the second moment, with the learning rate and the bias corrections in it.
    pub corrected: f64,
    /// Added to the scaled root, with the same constants in it.
    pub epsilon: f64,
}

/// Takes an AdamW step of many f32 tensors with a few operations for all of them.
pub fn adam_each(steps: &[AdamShare<'_>]) {
    let each = |of: fn(&AdamShare<'_>) -> *mut C_tensor| steps.iter().map(of).collect::<Vec<_>>();
    let parameters = each(|step| step.parameter.as_ptr().cast_mut());
    let gradients = each(|step| step.gradient.as_ptr().cast_mut());
    let firsts = each(|step| step.first.as_ptr().cast_mut());
    let seconds = each(|step| step.second.as_ptr().cast_mut());
    let numbers: Vec<f64> = steps
        .iter()
        .flat_map(|step| [step.beta1, step.beta2, step.kept, step.corrected, step.epsilon])
        .collect();
    // SAFETY: each list has as many tensors, which live for the call, and there are five numbers for each.
    // libtorch checks the sizes.
    check(unsafe {
        autoswarm_adam_each(
            parameters.as_ptr(),
            gradients.as_ptr(),
            firsts.as_ptr(),
            seconds.as_ptr(),
            numbers.as_ptr(),
            steps.len() as i64,
        )
    });
}

/// Returns whether [`flash_attention`] takes queries like these: what the kernels of libtorch take.
pub fn has_flash_attention(q: &Tensor) -> bool {
    let head_dim = q.size().last().copied().unwrap_or(0);
    let kind = matches!(q.kind(), Kind::BFloat16 | Kind::Half);
    q.device().is_cuda() && kind && head_dim % 8 == 0 && head_dim <= 256
}

/// Returns causal attention `[B, T, H, head_dim]` of `q` over the last `window` tokens of `k` and `v`, each
/// `[B, T, kv heads, head_dim]`. Fails on a CPU, which has no such kernel.
pub fn flash_attention(q: &Tensor, k: &Tensor, v: &Tensor, window: i64, scale: f64) -> Tensor {
    // SAFETY: tensors that live for the call. libtorch checks their sizes and devices.
    let [attended] = made(|out| unsafe {
        autoswarm_flash_attention(out, q.as_ptr(), k.as_ptr(), v.as_ptr(), window, scale)
    });
    attended
}
