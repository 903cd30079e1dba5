//! Tests that libtorch is found at run time through what build.rs writes into the binaries, and that it
//! computes.

use std::process::Command;

#[test]
fn a_tensor_computes() {
    // [2, 3] times [3, 2]: a matrix product needs the BLAS of libtorch and not only its headers.
    let a = tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]);
    let product = a.matmul(&a.transpose(0, 1));
    let expected = tch::Tensor::from_slice(&[14.0_f32, 32.0, 32.0, 77.0]).view([2, 2]);
    assert_eq!(product, expected);
}

#[test]
fn the_binary_starts_without_a_library_path() {
    let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .arg("--help")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("DYLD_LIBRARY_PATH")
        .output()
        .expect("cargo builds the binary before its tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
