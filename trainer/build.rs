//! Writes where libtorch lies into this crate's binaries, so that they start with no `LD_LIBRARY_PATH`.
//!
//! torch-sys finds libtorch and links it, but its own linker flags do not reach the packages that depend on it; what it
//! exports is the folder. Dependents that link the library into binaries of their own have to do the same.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let library_dir = env::var("DEP_TCH_LIBTORCH_LIB")
        .expect("torch-sys exports the folder of libtorch on Linux and macOS");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{library_dir}");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // RUNPATH, not RPATH: an LD_LIBRARY_PATH may still name another copy.
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags");
    }
}
