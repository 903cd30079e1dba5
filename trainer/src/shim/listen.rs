//! The clock of a benchmark: a step names the part that its next operations belong to, and `trainer bench`
//! adds up the time.
//!
//! Where nobody listens, naming a part costs the reading of one flag.

use std::{
    ffi::c_int,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::Serialize;

unsafe extern "C" {
    fn autoswarm_listen(forward: *mut f64, backward: *mut f64, rest: c_int);
    fn autoswarm_part(part: c_int);
    fn autoswarm_backward();
    fn autoswarm_hush();
}

/// The parts of a model and an optimizer that a benchmark tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Reading a batch and bringing it to the device.
    Data,
    /// Cutting the stacked weights into layers, and converting them to the number format of the products.
    Weights,
    /// Looking up the token and value embeddings.
    Embedding,
    /// Normalisation, with the sums of the residual stream.
    Norm,
    /// The projections: from the stream to queries, keys and values, and from the heads back to the stream.
    Projection,
    /// Rotation, QK norm, value gates and the attention itself.
    Attention,
    /// Both products of the MLP and its activation.
    Mlp,
    /// The output matrix and the cross-entropy.
    Head,
    /// The joint norm of the gradients.
    Clip,
    /// AdamW of the embedding, the value embeddings and the output matrix.
    Tables,
    /// AdamW of the residual and feedback factors and of the gains.
    Scalars,
    /// Muon without its products, or AdamW, of the matrices of the blocks.
    Matrices,
    /// The matrix products of Muon.
    Orthogonalise,
    /// The rest: what libtorch spends on its graph of gradients, and what follows a step.
    Rest,
}

impl Part {
    /// Every part, in the order of a step.
    pub const ALL: [Self; 14] = [
        Self::Data,
        Self::Weights,
        Self::Embedding,
        Self::Norm,
        Self::Projection,
        Self::Attention,
        Self::Mlp,
        Self::Head,
        Self::Clip,
        Self::Tables,
        Self::Scalars,
        Self::Matrices,
        Self::Orthogonalise,
        Self::Rest,
    ];

    /// Returns the name of the part in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Weights => "weights",
            Self::Embedding => "embedding",
            Self::Norm => "norm",
            Self::Projection => "projection",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Head => "head",
            Self::Clip => "clip",
            Self::Tables => "tables",
            Self::Scalars => "scalars",
            Self::Matrices => "matrices",
            Self::Orthogonalise => "orthogonalise",
            Self::Rest => "rest",
        }
    }
}

/// The number of threads that listen.
static LISTENING: AtomicUsize = AtomicUsize::new(0);

/// Declares that operations from now on belong to `part`.
#[inline]
pub fn part(part: Part) {
    if LISTENING.load(Ordering::Relaxed) > 0 {
        // SAFETY: takes a number below `Part::ALL.len()`, and does nothing in a thread that does not listen.
        unsafe { autoswarm_part(part as c_int) }
    }
}

/// Declares that gradients are computed until the next part is named.
#[inline]
pub fn backward() {
    if LISTENING.load(Ordering::Relaxed) > 0 {
        // SAFETY: takes nothing, and does nothing in a thread that does not listen.
        unsafe { autoswarm_backward() }
    }
}

/// The CPU seconds of the listening thread, by part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Heard {
    /// Seconds of computing values, and of the optimizer.
    pub forward: [f64; Part::ALL.len()],
    /// Seconds of computing gradients.
    pub backward: [f64; Part::ALL.len()],
}

/// Runs `work` on this thread. Returns its result, and the seconds that it spent on each part.
///
/// The seconds have a meaning on a CPU alone: elsewhere operations may still be queued when a part is left.
pub fn listen<T>(work: impl FnOnce() -> T) -> (T, Heard) {
    /// Stops listening when it is dropped, however `work` ends, so that nothing writes to sums that are gone.
    struct Hush;
    impl Drop for Hush {
        fn drop(&mut self) {
            LISTENING.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: takes nothing, and does nothing in a thread that does not listen.
            unsafe { autoswarm_hush() }
        }
    }
    let mut heard = Box::new(Heard::default());
    // SAFETY: both arrays have one number per part. They live until `autoswarm_hush`, which `Hush` calls
    // before they are dropped.
    unsafe {
        autoswarm_listen(heard.forward.as_mut_ptr(), heard.backward.as_mut_ptr(), Part::Rest as c_int);
    }
    LISTENING.fetch_add(1, Ordering::Relaxed);
    let hush = Hush;
    let done = work();
    drop(hush);
    (done, *heard)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    /// Returns the smaller seconds of each part.
    fn least(a: Heard, b: Heard) -> Heard {
        let smaller =
            |a: [f64; Part::ALL.len()], b: [f64; Part::ALL.len()]| std::array::from_fn(|k| a[k].min(b[k]));
        Heard { forward: smaller(a.forward, b.forward), backward: smaller(a.backward, b.backward) }
    }

    #[test]
    fn gradients_are_booked_on_the_part_that_made_their_values() {
        let large = Tensor::randn([600, 600], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        // The first product and the first sum also pay for the library's start.
        let _ = large.mm(&large).sum(Kind::Float);
        let once = || {
            let ((), heard) = listen(|| {
                part(Part::Mlp);
                let product = large.mm(&large).mm(&large);
                part(Part::Head);
                let loss = product.sum(Kind::Float);
                backward();
                let _ = Tensor::run_backward(&[&loss], &[&large], false, false);
                part(Part::Tables);
            });
            heard
        };
        // The best of a few tries, because another program may take the processor in the middle of any of
        // them.
        let heard = [once(), once(), once(), once()].into_iter().reduce(least).expect("four");
        let at = |part: Part| (heard.forward[part as usize], heard.backward[part as usize]);
        let (mlp, head) = (at(Part::Mlp), at(Part::Head));
        // Two products of 600³ against one sum of 600²; twice as many products backward.
        assert!(mlp.0 > 3.0 * head.0 && mlp.1 > 3.0 * head.1, "{heard:?}");
        assert!(mlp.1 > mlp.0, "{heard:?}");
        assert_eq!(at(Part::Norm), (0.0, 0.0));
        let ((), silent) = listen(|| {});
        assert!(silent.backward.iter().all(|&seconds| seconds == 0.0), "{silent:?}");
    }
}
