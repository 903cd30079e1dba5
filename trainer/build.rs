//! Compiles the fused operations in `shim/`, and writes the path of libtorch into this crate's binaries.
//!
//! So the binaries start without `LD_LIBRARY_PATH`.
//!
//! torch-sys finds libtorch and links it, but its linker flags do not reach the packages that depend on it.
//! What it exports is the folder. A dependent that links the library into binaries of its own has to repeat
//! what this script does.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim");
    let library_dir = env::var("DEP_TCH_LIBTORCH_LIB")
        .expect("torch-sys exports the folder of libtorch on Linux and macOS");
    compile_shim(Path::new(&library_dir));
    println!("cargo::rustc-env=LIBTORCH_LIB={library_dir}"); // for tests that compile against it
    println!("cargo::rustc-link-arg=-Wl,-rpath,{library_dir}");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // RUNPATH and not RPATH, so that LD_LIBRARY_PATH may still name another copy.
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags");
    }
}

/// Compiles the kernels once per instruction set, then the code that chooses among them at run time. The
/// latter needs libtorch's headers.
fn compile_shim(library_dir: &Path) {
    let on_x86 = env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    // (C++ namespace, f32 numbers in a register, compiler flags)
    let levels: &[(&str, &str, &[&str])] = if on_x86 {
        &[
            ("base", "4", &[]),
            ("v3", "8", &["-march=x86-64-v3"]),
            ("v4", "16", &["-march=x86-64-v4", "-mprefer-vector-width=512"]),
        ]
    } else {
        &[("base", "4", &[])]
    };
    for (level, lanes, flags) in levels {
        let mut build = compiler();
        build
            .file("shim/kernels.cpp")
            .file("shim/orthogonalise.cpp")
            .define("LEVEL", *level)
            .define("LANES", *lanes);
        // These flags allow sums in any order, so that the loops use all lanes. NaN and infinity keep their
        // meaning.
        for flag in ["-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"] {
            build.flag(flag);
        }
        for flag in *flags {
            build.flag(flag);
        }
        build.compile(&format!("autoswarm_kernels_{level}"));
    }
    let include = library_dir.parent().expect("libtorch's lib is in a folder").join("include");
    let mut build = compiler();
    build
        .file("shim/shim.cpp")
        .file("shim/cuda.cpp")
        .file("shim/listen.cpp")
        .file("shim/device.cpp")
        .include(&include)
        .include(include.join("torch/csrc/api/include"));
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        build.flag("-fopenmp").define("_GLIBCXX_USE_CXX11_ABI", "1");
    }
    build.compile("autoswarm_shim");
}

/// Returns a C++ compiler that optimises in every profile, because tests run these loops too.
fn compiler() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).debug(false).flag_if_supported("-Wno-unused-parameter");
    build
}
