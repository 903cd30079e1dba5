//! The fused operations on a GPU: whether its kernels, `shim/kernels.cu`, are there, and for which sizes.
//!
//! They are compiled when a size is first met, for the GPU at hand, by the compiler that CUDA's libtorch brings: a tenth of a second each.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int},
    sync::{Mutex, PoisonError},
};

use super::autoswarm_message;
use crate::model::shape::Shape;

unsafe extern "C" {
    fn autoswarm_cuda_open(source: *const c_char, device: c_int) -> c_int;
}

const SOURCE: &str = concat!(include_str!("../../shim/kernels.cu"), "\0");

/// Numbers that a thread reads at once; rows are whole multiples of it.
const VECTOR: i64 = 8;

/// Returns whether every row of a model is one that the kernels take.
pub fn takes(shape: &Shape) -> bool {
    let rows = [shape.width, shape.kv_width(), shape.hidden, shape.vocabulary];
    let head_dim = shape.head_dim as u64;
    rows.iter().all(|row| row % VECTOR == 0) && head_dim.is_power_of_two() && (8..=256).contains(&head_dim)
}

/// Opens a GPU for the fused operations, once; fails with the reason where they cannot be compiled for it, and then does each time.
pub fn open(index: usize) -> Result<(), String> {
    static OPENED: Mutex<BTreeMap<usize, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.entry(index).or_insert_with(|| open_now(index as c_int)).clone()
}

/// Lets this process's CPU pass for a GPU: from now on the fused operations in bf16 are those of a GPU. For tests: it takes
/// `tests/kernels/gpu.cpp` in place of CUDA's libraries, and a thread of the GPU is a fiber.
pub fn open_on_cpu() -> Result<(), String> {
    open_now(-1)
}

fn open_now(index: c_int) -> Result<(), String> {
    // SAFETY: a C string that lives as long as the process, and the index of a device.
    if unsafe { autoswarm_cuda_open(SOURCE.as_ptr().cast(), index) } == 0 {
        return Ok(());
    }
    // SAFETY: after a failed call in this thread, the message is a C string that lives until the next one.
    Err(unsafe { CStr::from_ptr(autoswarm_message()) }.to_string_lossy().into_owned())
}
