//! The two calls into the C library that have no safe form: loading a library, and ending the process at
//! once.
#![allow(unsafe_code)] // with a SAFETY comment each; and so in shim.rs; nowhere else in this crate

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
    fn dlerror() -> *const c_char;
    fn _exit(code: c_int) -> !;
}

/// Loads a shared library for the rest of the process and makes its symbols visible to all. libtorch's CUDA
/// half is loaded this way at run time, so that one binary serves machines with and without it.
pub fn load_library(name: &CStr) -> Result<(), String> {
    const RTLD_NOW: c_int = 2; // the same on Linux and macOS
    const RTLD_GLOBAL: c_int = if cfg!(target_os = "macos") { 0x8 } else { 0x100 };

    // SAFETY: the name is a C string that lives for the call. A library of libtorch registers its kernels
    // when it is loaded, as it is meant to, and is never unloaded.
    let handle = unsafe { dlopen(name.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen in this thread, dlerror returns a C string that lives until the next
    // call.
    let reason = unsafe { CStr::from_ptr(dlerror()) };
    Err(reason.to_string_lossy().into_owned())
}

/// Ends the process at once, whatever its other threads do. `std::process::exit` would run the destructors of
/// libtorch under a running backward pass, which crashes.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any code, runs nothing of this process, and does not return.
    unsafe { _exit(code) }
}
