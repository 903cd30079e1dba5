//! Tests of the GPU kernels where there is no GPU: `tests/kernels` runs them on a CPU and checks what they
//! compute.
#![cfg(target_os = "linux")] // the fibers that stand for GPU threads come from the C library

use std::{path::Path, process::Command};

use crate::support::{compiler, output_of};

/// Compiles and runs the kernels for one part and one size; fails with their output if they are wrong.
#[track_caller]
fn check(defines: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernels{}", defines.concat()));
    let mut compile = compiler();
    compile.args(["-O1", "-x", "c++"]).args(defines);
    compile.arg(root.join("tests/kernels/main.cpp")).arg("-o").arg(&program);
    output_of(&mut compile);
    output_of(&mut Command::new(program));
}

#[test]
fn norms_compute_what_they_should() {
    // Rows of less than a warp, of a number of vectors that is not a whole number of warps, and of several
    // vectors per lane.
    for columns in ["-DCOLUMNS=32", "-DCOLUMNS=72", "-DCOLUMNS=320"] {
        check(&[columns]);
    }
}

#[test]
fn heads_compute_what_they_should() {
    for head_dim in ["-DHEAD_DIM=8", "-DHEAD_DIM=64", "-DHEAD_DIM=256"] {
        check(&[head_dim]);
    }
}

#[test]
fn losses_compute_what_they_should() {
    check(&["-DVOCABULARY=40", "-DTHREADS=32"]);
    check(&["-DVOCABULARY=1032", "-DTHREADS=96"]);
}

#[test]
fn elementwise_kernels_compute_what_they_should() {
    check(&["-DELEMENTWISE"]);
}
