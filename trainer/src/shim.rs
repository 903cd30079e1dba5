//! The fused operations of `shim/`: one pass over memory where libtorch takes one per operator, with their
//! own gradients.
//!
//! A CPU has all of them, in f32 and bf16. A GPU has those of the model, in bf16, once [`cuda::open`] has
//! succeeded.
//!
//! Each computes the same as a few plain operations, up to rounding. The plain ones stay, as the reference
//! and for other devices.
#![allow(unsafe_code)] // with a SAFETY comment each: calls into the C++ that build.rs compiles

pub mod cuda;
pub mod device;
pub mod listen;

use std::{
    ffi::{CStr, c_char, c_double, c_int},
    ptr,
    sync::Once,
};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn autoswarm_message() -> *const c_char;
    fn autoswarm_level() -> c_int;
    fn autoswarm_prepare();
    fn autoswarm_mix_norm(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        delta: *const C_tensor,
        x0: *const C_tensor,
        a: *const C_tensor,
        b: *const C_tensor,
        epsilon: c_double,
    ) -> c_int;
    fn autoswarm_attention(
        out: *mut *mut C_tensor,
        qkv: *const C_tensor,
        value: *const C_tensor,
        gate: *const C_tensor,
        cosine: *const C_tensor,
        sine: *const C_tensor,
        sizes: *const i64,
        scales: *const c_double,
    ) -> c_int;
    fn autoswarm_cross_entropy(
        out: *mut *mut C_tensor,
        logits: *const C_tensor,
        targets: *const C_tensor,
        softcap: c_double,
        weight: c_double,
    ) -> c_int;
    fn autoswarm_relu_squared(out: *mut *mut C_tensor, x: *const C_tensor) -> c_int;
    fn autoswarm_swiglu(out: *mut *mut C_tensor, x: *const C_tensor) -> c_int;
    fn autoswarm_gather(
        out: *mut *mut C_tensor,
        table: *const C_tensor,
        tokens: *const C_tensor,
        brain: c_int,
    ) -> c_int;
    fn autoswarm_adam(
        parameter: *mut C_tensor,
        gradient: *const C_tensor,
        first: *mut C_tensor,
        second: *mut C_tensor,
        numbers: *const c_double,
        cautious: c_int,
        moves: c_int,
    ) -> c_int;
    fn autoswarm_muon_momentum(
        gradient: *const C_tensor,
        momentum: *mut C_tensor,
        direction: *mut C_tensor,
        keep: c_double,
        nesterov: c_int,
    ) -> c_int;
    fn autoswarm_muon_normalise(
        out: *mut *mut C_tensor,
        update: *const C_tensor,
        second: *mut C_tensor,
        beta2: c_double,
    ) -> c_int;
    fn autoswarm_orthogonalise(matrices: *mut C_tensor, quintics: *const c_double, iterations: i64) -> c_int;
    fn autoswarm_muon_apply(
        parameter: *mut C_tensor,
        update: *const C_tensor,
        factor: *const C_tensor,
        rate: c_double,
        decay: c_double,
        cautious: c_int,
    ) -> c_int;
}

/// The longest sequence that [`attention`] takes on a CPU. Its scratch, a block of rows of scores, then stays
/// in the cache of a core.
const LONGEST: i64 = 2048;

/// Returns whether [`attention`] takes sequences of this length on this device.
pub fn takes_length(device: Device, length: i64) -> bool {
    device != Device::Cpu || length <= LONGEST
}

/// Prepares this process for training on the CPU, once. Freed memory is kept in the process, and f32 products
/// take the fastest exact way.
pub fn prepare() {
    static ONCE: Once = Once::new();
    // SAFETY: takes nothing; it sets process-wide options before this crate's first product.
    ONCE.call_once(|| unsafe { autoswarm_prepare() });
}

/// Returns the x86-64 level whose instructions the operations use: 4, 3, or 0 for those that every machine
/// has.
pub fn level() -> i32 {
    // SAFETY: takes nothing and reads what the CPU is.
    unsafe { autoswarm_level() }
}

/// Turns a failed status into a panic with its message. A wrong size here is a bug, as in the operations of
/// tch.
fn check(status: c_int) {
    if status != 0 {
        // SAFETY: after a failed call in this thread, the message is a C string that lives until the next
        // failed call.
        let message = unsafe { CStr::from_ptr(autoswarm_message()) };
        panic!("a fused operation failed: {}", message.to_string_lossy());
    }
}

/// Runs `call`, which writes `N` new tensors, and returns them.
fn made<const N: usize>(call: impl FnOnce(*mut *mut C_tensor) -> c_int) -> [Tensor; N] {
    let mut out = [ptr::null_mut(); N];
    check(call(out.as_mut_ptr()));
    // SAFETY: a call that succeeded has written N tensors, which we own.
    out.map(|tensor| unsafe { Tensor::from_ptr(tensor) })
}

/// Returns the pointer to a tensor; null for none.
fn pointer(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(ptr::null(), Tensor::as_ptr)
}

/// Fails unless all tensors are contiguous, of one kind, and on a CPU or a CUDA GPU.
fn assert_whole(tensors: &[Option<&Tensor>], kind: Kind) {
    for tensor in tensors.iter().flatten() {
        let device = tensor.device();
        assert!(
            (device == Device::Cpu || device.is_cuda()) && tensor.is_contiguous() && tensor.kind() == kind,
            "a fused operation takes contiguous tensors of one kind"
        );
    }
}

/// Fails unless all tensors are on one device.
fn assert_together(tensors: &[Option<&Tensor>]) {
    let mut devices = tensors.iter().flatten().map(|tensor| tensor.device());
    let first = devices.next();
    assert!(devices.all(|device| Some(device) == first), "a fused operation takes tensors of one device");
}

/// The embedding that is mixed into the residual stream: its values, the factor on the stream, and its own
/// factor.
pub type Feedback<'a> = (&'a Tensor, &'a Tensor, &'a Tensor);

/// Adds `delta` to `x` and mixes in the embedding, where they are given; that is the stream. Then divides the
/// stream by its root mean square over the last dimension. Returns (normalised, stream).
pub fn mix_norm(
    x: &Tensor,
    delta: Option<&Tensor>,
    feedback: Option<Feedback<'_>>,
    epsilon: f64,
) -> (Tensor, Tensor) {
    let (x0, a, b) = feedback.map_or((None, None, None), |(x0, a, b)| (Some(x0), Some(a), Some(b)));
    assert_whole(&[Some(x), delta, x0], x.kind());
    assert_whole(&[a, b], Kind::Float);
    assert_together(&[Some(x), delta, x0, a, b]);
    assert!([delta, x0].iter().flatten().all(|other| other.size() == x.size()), "the sizes differ");
    // SAFETY: tensors that live for the call, of the sizes and kinds that were just checked.
    let [normalised, stream] = made(|out| unsafe {
        autoswarm_mix_norm(out, x.as_ptr(), pointer(delta), pointer(x0), pointer(a), pointer(b), epsilon)
    });
    (normalised, stream)
}

/// The sizes and factors of [`attention`].
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// The number of sequences.
    pub batch: i64,
    /// The number of tokens of each sequence.
    pub length: i64,
    /// The number of query heads.
    pub heads: i64,
    /// The number of key heads, which is also that of value heads.
    pub kv_heads: i64,
    /// The width of one head.
    pub head_dim: i64,
    /// The number of tokens that a query sees, itself included.
    pub window: i64,
    /// What is added to the mean square when queries and keys are normalised; none if they are not.
    pub norm: Option<f64>,
    /// The factor on the gates of value embeddings.
    pub gate_scale: f64,
    /// The factor on the scores, before the softmax.
    pub scale: f64,
}

/// Returns causal attention `[N, H · head_dim]` over the joint projection `qkv`, which is
/// `[N, (H + 2 · kv heads) · head_dim]`.
///
/// Queries and keys are rotated by `(cosine, sine)`, each `[positions, head_dim / 2]` in f32. Value
/// embeddings `(value [N, kv heads · head_dim], gate [N, kv heads])` are added to the values.
pub fn attention(
    qkv: &Tensor,
    value: Option<(&Tensor, &Tensor)>,
    (cosine, sine): (&Tensor, &Tensor),
    heads: Heads,
) -> Tensor {
    let (value, gate) = value.unzip();
    let Heads { batch, length, heads: query_heads, kv_heads, head_dim, window, norm, gate_scale, scale } =
        heads;
    let tokens = batch * length;
    assert_whole(&[Some(qkv), value, gate], qkv.kind());
    assert_whole(&[Some(cosine), Some(sine)], Kind::Float);
    assert_together(&[Some(qkv), value, gate, Some(cosine), Some(sine)]);
    assert_eq!(qkv.size(), [tokens, (query_heads + 2 * kv_heads) * head_dim]);
    assert!(value.is_none_or(|value| value.size() == [tokens, kv_heads * head_dim]));
    assert!(gate.is_none_or(|gate| gate.size() == [tokens, kv_heads]));
    assert!(takes_length(qkv.device(), length) && length <= cosine.size()[0] && cosine.size() == sine.size());
    let sizes = [batch, length, query_heads, kv_heads, head_dim, window, i64::from(norm.is_some())];
    let scales = [gate_scale, scale, norm.unwrap_or(0.0)];
    let angles = (cosine.as_ptr(), sine.as_ptr());
    // SAFETY: tensors that live for the call, of the sizes and kinds that were just checked, and as many
    // numbers as the call reads.
    let [attended] = made(|out| unsafe {
        let (value, gate) = (pointer(value), pointer(gate));
        autoswarm_attention(
            out,
            qkv.as_ptr(),
            value,
            gate,
            angles.0,
            angles.1,
            sizes.as_ptr(),
            scales.as_ptr(),
        )
    });
    attended
}

/// Returns the cross-entropy, in nats, of `targets` `[N]` under `logits` `[N, V]`. Each target is below V. A
/// softcap of 0 means none.
///
/// With a weight, which is above 0, the result is their mean times the weight. Without one it is the loss of
/// each token, which has no gradient.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, softcap: f64, weight: Option<f64>) -> Tensor {
    assert!(weight.is_none_or(|weight| weight > 0.0));
    assert_whole(&[Some(logits)], logits.kind());
    assert_whole(&[Some(targets)], Kind::Int64);
    assert_together(&[Some(logits), Some(targets)]);
    assert_eq!(logits.size()[0], targets.numel() as i64);
    // SAFETY: tensors that live for the call, of the sizes and kinds that were just checked. The call checks
    // the targets itself.
    let [loss] = made(|out| unsafe {
        autoswarm_cross_entropy(out, logits.as_ptr(), targets.as_ptr(), softcap, weight.unwrap_or(0.0))
    });
    loss
}

/// Returns max(x, 0)².
pub fn relu_squared(x: &Tensor) -> Tensor {
    assert_whole(&[Some(x)], x.kind());
    // SAFETY: a tensor that lives for the call, of a kind that was just checked.
    let [squared] = made(|out| unsafe { autoswarm_relu_squared(out, x.as_ptr()) });
    squared
}

/// Returns silu(left half) · right half of the columns of `x` `[N, 2 n]`.
pub fn swiglu(x: &Tensor) -> Tensor {
    assert_whole(&[Some(x)], x.kind());
    assert!(x.dim() == 2 && x.size()[1] % 2 == 0);
    // SAFETY: a tensor that lives for the call, of a size that was just checked.
    let [gated] = made(|out| unsafe { autoswarm_swiglu(out, x.as_ptr()) });
    gated
}

/// Returns the rows `tokens` `[N]` of an f32 `table` `[V, C]`, in `kind`. Each token is below V.
pub fn gather(table: &Tensor, tokens: &Tensor, kind: Kind) -> Tensor {
    assert_whole(&[Some(table)], Kind::Float);
    assert_whole(&[Some(tokens)], Kind::Int64);
    assert_together(&[Some(table), Some(tokens)]);
    assert!(table.device() == Device::Cpu || kind == Kind::BFloat16, "a GPU gathers bf16");
    // SAFETY: tensors that live for the call, of kinds that were just checked. The call checks the tokens
    // itself.
    let [rows] = made(|out| unsafe {
        autoswarm_gather(out, table.as_ptr(), tokens.as_ptr(), c_int::from(kind == Kind::BFloat16))
    });
    rows
}

/// The numbers of an AdamW step, as [`crate::optimizer`] computes them.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Decay of the first moment, β1.
    pub beta1: f64,
    /// Decay of the second moment, β2.
    pub beta2: f64,
    /// The share of the parameter that decay takes away.
    pub decay: f64,
    /// Factor on the root of the second moment, with the learning rate and the bias corrections in it.
    pub corrected: f64,
    /// Added to the scaled root, with the same constants in it.
    pub epsilon: f64,
    /// Whether an entry decays only where the update shrinks it.
    pub cautious: bool,
    /// Whether the parameter moves at all; the moments always do.
    pub moves: bool,
}

/// Takes an AdamW step of one tensor: moments, decay and update in one pass.
pub fn adam(parameter: &mut Tensor, gradient: &Tensor, first: &mut Tensor, second: &mut Tensor, step: Adam) {
    assert_whole(&[Some(parameter), Some(gradient), Some(first), Some(second)], Kind::Float);
    assert!([gradient, first, second].iter().all(|other| other.numel() == parameter.numel()));
    let numbers = [step.beta1, step.beta2, step.decay, step.corrected, step.epsilon];
    // SAFETY: tensors of one length, which was just checked, and as many numbers as the call reads.
    check(unsafe {
        autoswarm_adam(
            parameter.as_mut_ptr(),
            gradient.as_ptr(),
            first.as_mut_ptr(),
            second.as_mut_ptr(),
            numbers.as_ptr(),
            c_int::from(step.cautious),
            c_int::from(step.moves),
        )
    });
}

/// Returns whether each matrix of a stack `[n, rows, columns]` is dense in f32, wherever the next one begins.
fn dense_matrices(stack: &Tensor) -> bool {
    let (size, stride) = (stack.size(), stack.stride());
    stack.kind() == Kind::Float && size.len() == 3 && stride[2] == 1 && stride[1] == size[2]
}

/// Moves Muon's `momentum` towards a stack of gradients, and writes the `direction` of the step.
pub fn muon_momentum(
    gradient: &Tensor,
    momentum: &mut Tensor,
    direction: &mut Tensor,
    keep: f64,
    nesterov: bool,
) {
    assert_whole(&[Some(momentum), Some(direction)], Kind::Float);
    assert!(
        dense_matrices(gradient) && gradient.size() == momentum.size() && gradient.size() == direction.size()
    );
    let (gradient, nesterov) = (gradient.as_ptr(), c_int::from(nesterov));
    // SAFETY: stacks of one size, which was just checked.
    check(unsafe {
        autoswarm_muon_momentum(gradient, momentum.as_mut_ptr(), direction.as_mut_ptr(), keep, nesterov)
    });
}

/// The largest short side of matrices for which [`orthogonalise`] was measured to be faster than libtorch's
/// products.
// measured 2026-11: 1.2 to 2.2 times as fast from 32 × 32 to 256 × 1024, AVX2
pub const LARGEST_MATRIX: i64 = 256;

/// Replaces each matrix of a stack `[n, rows, columns]` by the nearest one whose singular values are all
/// about 1. Each iteration applies an odd quintic a·x + b·x³ + c·x⁵.
pub fn orthogonalise(matrices: &mut Tensor, quintics: &[[f64; 3]]) {
    assert_whole(&[Some(matrices)], Kind::Float);
    assert!(matrices.dim() == 3, "matrices are stacked");
    let quintics = quintics.as_flattened();
    // SAFETY: a stack that lives for the call, of a kind and size that were just checked, and as many numbers
    // as the call reads.
    check(unsafe {
        autoswarm_orthogonalise(matrices.as_mut_ptr(), quintics.as_ptr(), quintics.len() as i64 / 3)
    });
}

/// Moves NorMuon's running mean squares `second` towards those of a stack `[n, rows, columns]`. Returns the
/// factors that divide by their roots and restore the norm of each matrix.
///
/// The means are by row (`[n, rows, 1]`), or by column (`[n, 1, columns]`) if the matrices are wider than
/// tall.
pub fn muon_normalise(update: &Tensor, second: &mut Tensor, beta2: f64) -> Tensor {
    assert_whole(&[Some(update), Some(second)], Kind::Float);
    let [n, rows, columns] = update.size()[..] else { panic!("updates are stacked by matrix") };
    assert_eq!(second.size(), if rows >= columns { [n, rows, 1] } else { [n, 1, columns] });
    // SAFETY: tensors that live for the call, of the sizes and kinds that were just checked.
    let [factor] =
        made(|out| unsafe { autoswarm_muon_normalise(out, update.as_ptr(), second.as_mut_ptr(), beta2) });
    factor
}

/// Moves a stack of matrices by `-rate · (u + decay · parameter)`, where u = `update` · `factor`. The factor
/// is `[n, rows, 1]` or `[n, 1, columns]`. A cautious decay applies only where u shrinks the entry.
pub fn muon_apply(
    parameter: &mut Tensor,
    update: &Tensor,
    factor: Option<&Tensor>,
    rate: f64,
    decay: f64,
    cautious: bool,
) {
    assert_whole(&[Some(update), factor], Kind::Float);
    assert!(dense_matrices(parameter) && parameter.size() == update.size());
    let [n, rows, columns] = update.size()[..] else { panic!("updates are stacked by matrix") };
    assert!(factor.is_none_or(|factor| factor.size() == [n, rows, 1] || factor.size() == [n, 1, columns]));
    let cautious = c_int::from(cautious);
    // SAFETY: stacks of one size and factors that fit, which was just checked.
    check(unsafe {
        autoswarm_muon_apply(parameter.as_mut_ptr(), update.as_ptr(), pointer(factor), rate, decay, cautious)
    });
}
