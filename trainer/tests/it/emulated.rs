//! Runs the tests of `cuda.rs` where there is no GPU: a CPU passes for one, with the threads of the kernels
//! as fibers.
//!
//! So all of `shim/cuda.cpp` runs, except for CUDA's own compiler, its driver and flash attention.
#![cfg(target_os = "linux")] // the fibers come from the C library

use std::{path::Path, process::Command};

use crate::{
    cuda::EMULATED,
    support::{compiler, output_of},
};

/// The libraries that `shim/cuda.cpp` opens, by the names that it tries first.
const LIBRARIES: [&str; 2] = ["libcaffe2_nvrtc.so", "libcuda.so.1"];

/// Compiles `tests/kernels/gpu.cpp` into `folder`, under every name in [`LIBRARIES`].
fn compile(folder: &Path) {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    let torch = Path::new(env!("LIBTORCH_LIB"));
    let include = torch.parent().expect("libtorch's lib is in a folder").join("include");
    let library = folder.join(LIBRARIES[0]);
    let define = |name: &str, path: &Path| format!("-D{name}=\"{}\"", path.display());
    let mut compile = compiler();
    compile.args(["-O1", "-shared", "-fPIC", "-D_GLIBCXX_USE_CXX11_ABI=1"]);
    compile.args([define("FOLDER", &kernels), define("OUTPUT", folder)]);
    compile.arg("-I").arg(&include).arg(kernels.join("gpu.cpp")).arg("-o").arg(&library);
    compile.arg("-L").arg(torch).args(["-ltorch_cpu", "-lc10"]);
    output_of(&mut compile);
    for name in &LIBRARIES[1..] {
        let link = folder.join(name);
        let _ = std::fs::remove_file(&link); // left by an earlier run
        std::os::unix::fs::symlink(&library, link).expect("a link");
    }
}

#[test]
fn what_runs_on_a_gpu_is_right_where_a_cpu_passes_for_one() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpu-on-cpu");
    std::fs::create_dir_all(&folder).expect("a folder");
    compile(&folder);
    let mut paths = vec![folder];
    paths.extend(std::env::split_paths(&std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()));
    let mut tests = Command::new(std::env::current_exe().expect("this program"));
    tests.args(["cuda::", "--nocapture"]).env(EMULATED, "1").env_remove("AUTOSWARM_OPERATIONS");
    tests.env("LD_LIBRARY_PATH", std::env::join_paths(paths).expect("no colons"));
    let said = output_of(&mut tests);
    assert!(said.contains("4 passed") && !said.contains("NOT RUN"), "{said}");
}
