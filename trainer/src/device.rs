//! Where a run computes: the device, its number format and its threads.

use std::{fmt, str::FromStr};

use tch::{Device, Kind, Tensor};

use crate::{failure::Failure, report, shim, system};

/// A device as it is named on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// A CUDA GPU by its index.
    Cuda(usize),
    /// Apple's Metal.
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
    /// Returns libtorch's device, after loading what it needs; fails clearly where this machine has no such device.
    pub fn open(self) -> Result<Device, Failure> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Mps if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Mps => Err(Failure::own("device mps is not there: this libtorch has no Metal")),
            Self::Cuda(index) => open_cuda(index),
        }
    }
}

fn open_cuda(index: usize) -> Result<Device, Failure> {
    system::load_library(c"libtorch_cuda.so").map_err(|reason| {
        Failure::own(format!(
            "device cuda:{index} needs libtorch_cuda.so, which cannot be loaded ({reason}); run AUTOSWARM_LIBTORCH=cuda scripts/libtorch.sh"
        ))
    })?;
    let count = tch::Cuda::device_count();
    if index < count as usize {
        return Ok(Device::Cuda(index));
    }
    Err(Failure::own(format!(
        "device cuda:{index} is not there: this machine shows {count} CUDA devices; check nvidia-smi and CUDA_VISIBLE_DEVICES"
    )))
}

/// The number format of products and of the residual stream; weights are f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// Brain float, 16 bits.
    Bf16,
    /// bf16 on CUDA, f32 elsewhere.
    Auto,
}

impl Dtype {
    /// Returns libtorch's number format for a device.
    pub fn resolve(self, device: Device) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::Auto if device.is_cuda() => Kind::BFloat16,
            Self::F32 | Self::Auto => Kind::Float,
        }
    }
}

/// Returns a batch on a device. Nobody waits until it has come to a GPU, so that the next one is read while the GPU computes.
pub fn send(batch: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cuda(index) => shim::device::send(batch, index),
        _ => batch.to_device(device),
    }
}

/// Returns the largest memory that this process had on a device so far, bytes: a GPU's for tensors, a CPU's for everything; 0 where it is not
/// known.
pub fn peak_bytes(device: Device) -> u64 {
    match device {
        Device::Cpu => report::peak_resident_bytes(),
        Device::Cuda(index) => shim::device::peak_bytes(index),
        _ => 0,
    }
}

/// Returns the number format's name in reports.
pub fn kind_name(kind: Kind) -> &'static str {
    if kind == Kind::BFloat16 { "bf16" } else { "f32" }
}

/// Sets and returns the threads of libtorch's operations, by default one per core that this process may use.
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
