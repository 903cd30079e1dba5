//! What the command line means: paths, the objective and the slots, resolved once, cross-checked, then fixed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use autoswarm_protocol::{
    Budget, SwarmConfig,
    swarm_config::{CorpusSource, Objective},
};

use crate::{
    cli::{DeviceRequest, ProbeArgs, SoloArgs},
    experiment::{Device, Placement},
    manners,
};

/// The swarm configs that are built in, by name.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("default", include_str!("../../swarm-configs/default.toml")),
    ("plain-baseline", include_str!("../../swarm-configs/plain-baseline.toml")),
];

/// Everything that stays the same while `solo` runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The swarm config's name.
    pub name: String,
    /// What to optimise.
    pub objective: Objective,
    /// The budget asked for; none for the machine's class.
    pub budget: Option<Budget>,
    /// Where runs can be.
    pub slots: Vec<Placement>,
    /// The trainer binary.
    pub trainer: PathBuf,
    /// New experiments of this session.
    pub experiments: Option<u32>,
    /// Hours of this session.
    pub hours: Option<f64>,
    /// Seed of the search.
    pub seed: u64,
    /// The program.md asked for.
    pub program: Option<PathBuf>,
    /// Whether a first launch begins with a tour.
    pub tour: bool,
}

impl Settings {
    /// Resolves what a command without arguments of its own needs: the default objective on this machine.
    pub fn for_machine() -> anyhow::Result<Self> {
        Self::for_devices(&DeviceRequest::All)
    }

    /// Resolves `probe`'s arguments: the default objective's text on the devices asked for.
    pub fn for_probe(args: &ProbeArgs) -> anyhow::Result<Self> {
        Self::for_devices(&args.devices)
    }

    fn for_devices(devices: &DeviceRequest) -> anyhow::Result<Self> {
        let swarm_config = load_swarm_config("default")?;
        Ok(Self {
            name: swarm_config.name,
            budget: None,
            objective: swarm_config.objective,
            slots: slots(devices, manners::cores())?,
            trainer: find_trainer()?,
            experiments: None,
            hours: None,
            seed: 0,
            program: None,
            tour: false,
        })
    }

    /// Resolves `solo`'s arguments.
    pub fn for_solo(args: &SoloArgs) -> anyhow::Result<Self> {
        let mut swarm_config = load_swarm_config(args.swarm_config.as_deref().unwrap_or("default"))?;
        if let Some(data) = &args.data {
            let path = fs::canonicalize(data)
                .with_context(|| format!("cannot find your text at `{}`", data.display()))?;
            swarm_config.objective.corpus = CorpusSource::Path(path.display().to_string());
            swarm_config.objective.corpus_hash = None;
        }
        Ok(Self {
            name: swarm_config.name,
            budget: args.machine.budget.or(swarm_config.objective.budget),
            objective: swarm_config.objective,
            slots: slots(&args.machine.devices, manners::cores())?,
            trainer: find_trainer()?,
            experiments: args.experiments,
            hours: args.hours,
            seed: args.seed.unwrap_or(0),
            program: args.program.clone(),
            tour: !args.no_tour,
        })
    }
}

/// Loads a swarm config by path or by the name of a built-in one.
pub fn load_swarm_config(name: &str) -> anyhow::Result<SwarmConfig> {
    let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
    let text = match built_in {
        Some((_, text)) => (*text).to_owned(),
        None if Path::new(name).exists() => {
            fs::read_to_string(name).with_context(|| format!("cannot read the swarm config `{name}`"))?
        }
        None => {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            bail!("there is no swarm config `{name}`: give a file, or one of {}", names.join(", "));
        }
    };
    SwarmConfig::parse(&text).with_context(|| format!("the swarm config `{name}` is wrong"))
}

/// Finds the trainer: `AUTOSWARM_TRAINER`, else beside this binary.
pub fn find_trainer() -> anyhow::Result<PathBuf> {
    let path = match env::var_os("AUTOSWARM_TRAINER") {
        Some(path) => PathBuf::from(path),
        None => env::current_exe().context("cannot tell where this binary is")?.with_file_name("trainer"),
    };
    if !path.is_file() {
        bail!(
            "there is no trainer at `{}`: build it with `scripts/run.sh`, or point AUTOSWARM_TRAINER at it",
            path.display()
        );
    }
    Ok(path)
}

/// Turns a request for devices into slots on a machine of `cores` cores.
///
/// A CPU is one slot of all cores but one, where there are more than two: a person may be working on it.
pub fn slots(request: &DeviceRequest, cores: usize) -> anyhow::Result<Vec<Placement>> {
    let cpu = |threads: u16, cpus: Vec<usize>| Placement { device: Device::Cpu, threads, cpus };
    let gpu = |device: Device| Placement { device, threads: 1, cpus: Vec::new() };
    match request {
        DeviceRequest::All => {
            let gpus = visible_gpus(Path::new("/proc/driver/nvidia/gpus"));
            if gpus.is_empty() {
                return slots(&DeviceRequest::Cpu, cores);
            }
            Ok(gpus.into_iter().map(|index| gpu(Device::Cuda(index))).collect())
        }
        DeviceRequest::Cpu => Ok(vec![cpu(manners::default_threads(cores) as u16, Vec::new())]),
        DeviceRequest::CpuSlots { threads, slots } => {
            let wanted = usize::from(*threads) * usize::from(*slots);
            if wanted > cores {
                bail!(
                    "`--devices {request}` wants {wanted} cores, but this machine has {cores}: lower the threads or the slots"
                );
            }
            let of_slot =
                |slot: usize| (slot * usize::from(*threads)..(slot + 1) * usize::from(*threads)).collect();
            Ok((0..usize::from(*slots)).map(|slot| cpu(*threads, of_slot(slot))).collect())
        }
        DeviceRequest::Cuda(indices) => Ok(indices.iter().map(|&index| gpu(Device::Cuda(index))).collect()),
        DeviceRequest::Mps => Ok(vec![gpu(Device::Mps)]),
    }
}

/// Lists the GPUs that the NVIDIA driver shows, by index.
fn visible_gpus(folder: &Path) -> Vec<u16> {
    let count = fs::read_dir(folder).map_or(0, |entries| entries.flatten().count());
    (0..count as u16).collect()
}

/// Names a slot for lists: `cpu:0-1`, `cpu`, `cuda:0`.
pub fn slot_name(placement: &Placement) -> String {
    match (placement.device, placement.cpus.as_slice()) {
        (Device::Cpu, [first, .., last]) => format!("cpu:{first}-{last}"),
        (Device::Cpu, [only]) => format!("cpu:{only}"),
        (device, _) => device.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &str, cores: usize, expected: &str) {
        let names = slots(&request.parse().expect("a device request"), cores).map_or_else(
            |error| error.to_string(),
            |slots| {
                let names: Vec<String> =
                    slots.iter().map(|slot| format!("{}/{}", slot_name(slot), slot.threads)).collect();
                names.join(" ")
            },
        );
        assert_eq!(names, expected);
    }

    #[test]
    fn requests_become_slots() {
        check("cpu", 8, "cpu/7");
        check("cpu", 2, "cpu/2");
        check("cpu:2x3", 8, "cpu:0-1/2 cpu:2-3/2 cpu:4-5/2");
        check("cpu:1x2", 2, "cpu:0/1 cpu:1/1");
        check("cuda:0,2", 8, "cuda:0/1 cuda:2/1");
        check(
            "cpu:4x2",
            4,
            "`--devices cpu:4x2` wants 8 cores, but this machine has 4: lower the threads or the slots",
        );
    }

    #[test]
    fn every_built_in_swarm_config_loads() {
        for (name, _) in BUILT_IN {
            let config = load_swarm_config(name).expect("a valid built-in config");
            assert_eq!(config.name, name);
        }
        let error = load_swarm_config("defualt").expect_err("unknown");
        assert!(error.to_string().contains("one of default, plain-baseline"), "{error}");
    }
}
