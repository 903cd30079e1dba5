//! Slots: the shares of a machine that runs are placed on.

use std::fmt;

/// The hardware that a run trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// The processor, one or more of its cores.
    Cpu,
    /// A CUDA device by its index.
    Cuda(u16),
    /// Apple's GPU, `mps`.
    Mps,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Mps => f.write_str("mps"),
        }
    }
}

/// One slot's share of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The device that the slot's runs train on.
    pub device: Device,
    /// Threads of the trainer; 1 where the device is a GPU.
    pub threads: u16,
    /// The cores that the slot is pinned to; empty for all.
    pub cpus: Vec<usize>,
}

/// Returns a slot's name for lists: `cpu:0-1`, `cpu`, `cuda:0`.
pub fn slot_name(placement: &Placement) -> String {
    match (placement.device, placement.cpus.as_slice()) {
        (Device::Cpu, [first, .., last]) => format!("cpu:{first}-{last}"),
        (Device::Cpu, [only]) => format!("cpu:{only}"),
        (device, _) => device.to_string(),
    }
}
