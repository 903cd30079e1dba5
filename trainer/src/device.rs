//! The device that a run computes on, its number format and its threads.

use std::{fmt, str::FromStr};

use tch::{Device, Kind, Tensor};

use crate::{failure::Failure, report, shim, system};

/// A device as it is named on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU of this machine.
    Cpu,
    /// The CUDA GPU with this index.
    Cuda(usize),
    /// Apple's GPU, through Metal.
    Mps,
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Mps => f.write_str("mps"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "mps" => Ok(Self::Mps),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{text}` is not a device; use cpu, cuda:0 or mps")),
        }
    }
}

impl DeviceName {
    /// Loads what the device needs and returns it. Fails with a clear message where this machine has no such
    /// device.
    pub fn open(self) -> Result<Device, Failure> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Mps if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Mps => Err(Failure::own("device mps is not there: this libtorch has no Metal")),
            Self::Cuda(index) => open_cuda(index),
        }
    }
}

/// Opens a CUDA GPU. libtorch's CUDA half is loaded only here, because one binary serves machines with and
/// without it.
fn open_cuda(index: usize) -> Result<Device, Failure> {
    system::load_library(c"libtorch_cuda.so").map_err(|reason| {
        Failure::own(format!(
            "device cuda:{index} needs libtorch_cuda.so, which cannot be loaded ({reason}); \
             run AUTOSWARM_LIBTORCH=cuda scripts/libtorch.sh"
        ))
    })?;
    let count = tch::Cuda::device_count();
    if index < count as usize {
        return Ok(Device::Cuda(index));
    }
    Err(Failure::own(format!(
        "device cuda:{index} is not there: this machine shows {count} CUDA devices; \
         check nvidia-smi and CUDA_VISIBLE_DEVICES"
    )))
}

/// The number format of matrix products and of the residual stream. Weights are f32 in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit brain floating point.
    Bf16,
    /// bf16 on CUDA, f32 elsewhere.
    Auto,
}

impl Dtype {
    /// Returns libtorch's number format on a device.
    pub fn resolve(self, device: Device) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::Auto if device.is_cuda() => Kind::BFloat16,
            Self::F32 | Self::Auto => Kind::Float,
        }
    }
}

/// Returns a batch on a device. A copy to a GPU is not waited for, so that the next batch is read while the
/// GPU computes.
pub fn send(batch: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cuda(index) => shim::device::send(batch, index),
        _ => batch.to_device(device),
    }
}

/// Returns the peak memory of this process on a device so far, in bytes; 0 where it is not known. On a GPU
/// only tensors count, on a CPU everything does.
pub fn peak_bytes(device: Device) -> u64 {
    match device {
        Device::Cpu => report::peak_resident_bytes(),
        Device::Cuda(index) => shim::device::peak_bytes(index),
        _ => 0,
    }
}

/// Returns the name of a number format in reports.
pub fn kind_name(kind: Kind) -> &'static str {
    if kind == Kind::BFloat16 { "bf16" } else { "f32" }
}

/// Sets and returns the number of threads of libtorch's operations. The default is one per core that this
/// process may use.
pub fn set_threads(threads: Option<u16>) -> u16 {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as u16);
    let threads = threads.filter(|&threads| threads > 0).unwrap_or_else(cores);
    tch::set_num_threads(i32::from(threads));
    shim::prepare();
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["cpu", "cuda:0", "cuda:7", "mps"] {
            assert_eq!(name.parse::<DeviceName>().map(|device| device.to_string()), Ok(name.to_owned()));
        }
        for name in ["gpu", "cuda:", "cuda:x", "cpu:1", ""] {
            assert!(name.parse::<DeviceName>().is_err(), "{name}");
        }
    }
}
