//! The fused operations on a GPU: whether the kernels of `shim/kernels.cu` are available, and for which
//! sizes.
//!
//! The kernels are compiled for the GPU at hand when a size is first used, by the compiler that CUDA's
//! libtorch brings. Each takes a tenth of a second.

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

/// The text of the kernels, ended by a NUL byte for C.
const SOURCE: &str = concat!(include_str!("../../shim/kernels.cu"), "\0");

/// The count of numbers that a thread reads at once. Rows are whole multiples of it.
const VECTOR: i64 = 8;

/// Returns whether the kernels take the rows of a model of these sizes.
pub fn takes(shape: &Shape) -> bool {
    let rows = [shape.width, shape.kv_width(), shape.hidden, shape.vocabulary];
    let head_dim = shape.head_dim as u64;
    rows.iter().all(|row| row % VECTOR == 0) && head_dim.is_power_of_two() && (8..=256).contains(&head_dim)
}

/// Opens a GPU for the fused operations, once. Fails with the reason if the kernels cannot be compiled for
/// it; every later call then fails with the same reason.
pub fn open(index: usize) -> Result<(), String> {
    static OPENED: Mutex<BTreeMap<usize, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.entry(index).or_insert_with(|| open_now(index as c_int)).clone()
}

/// Lets the CPU of this process pass for a GPU: from now on, fused operations in bf16 run as on a GPU.
///
/// This is for tests. `tests/kernels/gpu.cpp` takes the place of CUDA's libraries, and a thread of the GPU is
/// a fiber.
pub fn open_on_cpu() -> Result<(), String> {
    open_now(-1)
}

fn open_now(index: c_int) -> Result<(), String> {
    // SAFETY: a C string that lives as long as the process, and the index of a device.
    if unsafe { autoswarm_cuda_open(SOURCE.as_ptr().cast(), index) } == 0 {
        return Ok(());
    }
    // SAFETY: after a failed call in this thread, the message is a C string that lives until the next failed
    // call.
    Err(unsafe { CStr::from_ptr(autoswarm_message()) }.to_string_lossy().into_owned())
}
