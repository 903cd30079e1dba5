//! What the command line means: the paths, the objective and the slots. They are resolved once,
//! cross-checked, then fixed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use autoswarm_protocol::{
    Budget, SwarmConfig,
    swarm_config::{CorpusSource, Objective},
};
use serde::{Deserialize, Serialize};

use crate::{
    base::files,
    cli::args::{DeviceRequest, ProbeArgs, SessionArgs, SoloArgs},
    machine::{
        guest,
        slots::{Device, Placement},
    },
};

/// The swarm configs that are built in: name and text.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("default", include_str!("../../../swarm-configs/default.toml")),
    ("plain-baseline", include_str!("../../../swarm-configs/plain-baseline.toml")),
];

/// The file of a home that remembers what its last session worked on.
const LAST: &str = "last-session.json";

/// What a session works on, as it was asked for: enough to go on with it later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// The swarm config: a file or the name of a built-in one; none for the default.
    pub swarm_config: Option<String>,
    /// A folder or file of the user's own text, or the place of a pinned text; none for the config's corpus.
    pub data: Option<PathBuf>,
    /// The budget of one run, as asked for on the command line.
    pub budget: Option<Budget>,
}

impl SessionSpec {
    /// Returns this choice; where it leaves everything open, returns that of the home's last session.
    #[must_use]
    pub fn or_last(self, home: &Path) -> Self {
        if self != Self::default() {
            return self;
        }
        // Without a readable file the defaults apply; the home's arena then confirms them or not.
        fs::read(home.join(LAST)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Keeps the choice in a home, for [`SessionSpec::or_last`].
    pub fn remember(&self, home: &Path) -> anyhow::Result<()> {
        let file = home.join(LAST);
        files::replace(&file, &serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// Makes paths absolute, so that the choice holds whatever the current folder is.
    fn absolute(mut self) -> anyhow::Result<Self> {
        if let Some(data) = &self.data {
            let path = fs::canonicalize(data);
            let path = path.with_context(|| format!("cannot find your text at `{}`", data.display()))?;
            self.data = Some(path);
        }
        if let Some(config) = self.swarm_config.as_mut().filter(|config| Path::new(config).is_file())
            && let Ok(path) = fs::canonicalize(&*config)
        {
            *config = path.display().to_string();
        }
        Ok(self)
    }
}

/// Everything that stays the same while a session runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the session works on, as asked for.
    pub text: SessionSpec,
    /// The swarm config's name.
    pub name: String,
    /// What to optimise.
    pub objective: Objective,
    /// The budget of a run, from the command line or the swarm config; none for that of the machine's class.
    pub budget: Option<Budget>,
    /// The ways to divide the machine into slots; the probe chooses the fastest. Never empty.
    pub layouts: Vec<Vec<Placement>>,
    /// Path of the trainer binary.
    pub trainer: PathBuf,
    /// Most new experiments of this session; none for no limit.
    pub experiments: Option<u32>,
    /// Most hours of this session; none for no limit.
    pub hours: Option<f64>,
    /// Seed of the search, not of a run.
    pub seed: u64,
    /// The program.md asked for on the command line.
    pub program: Option<PathBuf>,
    /// Whether a first launch begins with a tour.
    pub tour: bool,
}

impl Settings {
    /// Resolves the arguments of `probe`: the default objective's text on the devices asked for.
    pub fn for_probe(args: &ProbeArgs) -> anyhow::Result<Self> {
        Self::for_text(SessionSpec::default(), &args.devices)
    }

    /// Resolves what a command needs that trains without searching: an objective, its text, and devices.
    pub fn for_text(text: SessionSpec, devices: &DeviceRequest) -> anyhow::Result<Self> {
        let mut swarm_config = load_swarm_config(text.swarm_config.as_deref().unwrap_or("default"))?;
        let text = text.absolute()?;
        if let Some(data) = &text.data {
            let objective = &mut swarm_config.objective;
            // The pin of the crates is about their bytes and not about this text. A pinned text of one's own
            // keeps its pin: `data` only says where it lies here.
            if objective.corpus == CorpusSource::Crates {
                objective.corpus_hash = None;
            }
            objective.corpus = CorpusSource::Path(data.display().to_string());
        }
        Ok(Self {
            name: swarm_config.name,
            budget: text.budget.or(swarm_config.objective.budget),
            text,
            objective: swarm_config.objective,
            layouts: on_cores(layouts(devices, guest::cores())?, &guest::core_numbers()),
            trainer: find_trainer()?,
            experiments: None,
            hours: None,
            seed: 0,
            program: None,
            tour: false,
        })
    }

    /// Resolves what `try` needs on a home where no node runs: the choice of the last session, and no
    /// experiments of the search's own.
    pub fn for_try(home: &Path) -> anyhow::Result<Self> {
        let text = SessionSpec::default().or_last(home);
        Ok(Self { experiments: Some(0), ..Self::for_text(text, &DeviceRequest::All)? })
    }

    /// Resolves the arguments of `solo`.
    pub fn for_solo(args: &SoloArgs) -> anyhow::Result<Self> {
        Self::for_session(args.swarm_config.clone(), &args.session)
    }

    /// Resolves the flags that `solo`, `join` and `seed` share.
    pub fn for_session(swarm_config: Option<String>, args: &SessionArgs) -> anyhow::Result<Self> {
        let text = SessionSpec { swarm_config, data: args.data.clone(), budget: args.machine.budget };
        Ok(Self {
            experiments: args.experiments,
            hours: args.hours,
            seed: args.seed.unwrap_or(0),
            program: args.program.clone(),
            tour: !args.no_tour,
            ..Self::for_text(text, &args.machine.devices)?
        })
    }
}

/// Loads a swarm config by path or by the name of a built-in one.
pub fn load_swarm_config(name: &str) -> anyhow::Result<SwarmConfig> {
    let text = swarm_config_text(name)?;
    SwarmConfig::parse(&text).with_context(|| format!("the swarm config `{name}` is wrong"))
}

/// Loads the text of a swarm config by path or by the name of a built-in one.
pub fn swarm_config_text(name: &str) -> anyhow::Result<String> {
    let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
    match built_in {
        Some((_, text)) => Ok((*text).to_owned()),
        None if Path::new(name).exists() => {
            fs::read_to_string(name).with_context(|| format!("cannot read the swarm config `{name}`"))
        }
        None => {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            bail!("there is no swarm config `{name}`: give a file, or one of {}", names.join(", "));
        }
    }
}

/// Finds the trainer: the path in `AUTOSWARM_TRAINER`, else `trainer` beside this binary.
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

/// Returns the layouts, each a list of slots, that a request for devices leaves open on a machine of `cores`
/// cores.
///
/// A CPU with more than two cores keeps one free: a person may be working on it. A small model gains little
/// from more threads. So the layouts go from one slot of all threads, by halves, to slots of one thread.
pub fn layouts(request: &DeviceRequest, cores: usize) -> anyhow::Result<Vec<Vec<Placement>>> {
    let gpu = |device: Device| Placement { device, threads: 1, cpus: Vec::new() };
    match request {
        DeviceRequest::All => {
            let gpus = visible_gpus(Path::new("/proc/driver/nvidia/gpus"));
            if gpus.is_empty() {
                return layouts(&DeviceRequest::Cpu, cores);
            }
            Ok(vec![gpus.into_iter().map(|index| gpu(Device::Cuda(index))).collect()])
        }
        DeviceRequest::Cpu => {
            let all = guest::default_threads(cores);
            // The powers of two below `all`, from the largest down.
            let halves =
                std::iter::successors(Some(all.next_power_of_two() / 2), |threads| Some(threads / 2));
            let halves = halves.take_while(|&threads| threads > 0).filter(|&threads| threads < all);
            let whole = Placement { device: Device::Cpu, threads: all as u16, cpus: Vec::new() };
            let mut layouts = vec![vec![whole]];
            layouts.extend(halves.map(|threads| cpu_slots(threads, all / threads)));
            Ok(layouts)
        }
        DeviceRequest::CpuSlots { threads, slots } => {
            let wanted = usize::from(*threads) * usize::from(*slots);
            if wanted > cores {
                bail!(
                    "`--devices {request}` wants {wanted} cores, but this machine has {cores}: lower the \
                     threads or the slots"
                );
            }
            Ok(vec![cpu_slots(usize::from(*threads), usize::from(*slots))])
        }
        DeviceRequest::Cuda(indices) => {
            Ok(vec![indices.iter().map(|&index| gpu(Device::Cuda(index))).collect()])
        }
        DeviceRequest::Mps => Ok(vec![vec![gpu(Device::Mps)]]),
    }
}

/// Moves slots to the cores that this process may use, whichever those are: with `taskset` each of several
/// nodes has cores of its own.
fn on_cores(mut layouts: Vec<Vec<Placement>>, allowed: &[usize]) -> Vec<Vec<Placement>> {
    for core in layouts.iter_mut().flatten().flat_map(|placement| &mut placement.cpus) {
        *core = allowed.get(*core).copied().unwrap_or(*core);
    }
    layouts
}

/// Makes slots of neighbouring cores; no two slots share a core.
fn cpu_slots(threads: usize, slots: usize) -> Vec<Placement> {
    let of_slot = |slot: usize| (slot * threads..(slot + 1) * threads).collect();
    (0..slots)
        .map(|slot| Placement { device: Device::Cpu, threads: threads as u16, cpus: of_slot(slot) })
        .collect()
}

/// Returns the indices of the GPUs that the NVIDIA driver shows.
fn visible_gpus(folder: &Path) -> Vec<u16> {
    let count = fs::read_dir(folder).map_or(0, |entries| entries.flatten().count());
    (0..count as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::slots::slot_name;

    #[test]
    fn slots_lie_on_the_cores_that_there_are() {
        let two = layouts(&"cpu:1x2".parse().expect("a device request"), 2).expect("they fit");
        let names: Vec<String> = on_cores(two, &[3, 5]).concat().iter().map(slot_name).collect();
        assert_eq!(names, ["cpu:3", "cpu:5"]);
    }

    #[track_caller]
    fn check(request: &str, cores: usize, expected: &str) {
        let slots = |slots: Vec<Placement>| {
            let names: Vec<String> =
                slots.iter().map(|slot| format!("{}/{}", slot_name(slot), slot.threads)).collect();
            names.join(" ")
        };
        let names = layouts(&request.parse().expect("a device request"), cores).map_or_else(
            |error| error.to_string(),
            |layouts| layouts.into_iter().map(slots).collect::<Vec<_>>().join(" or "),
        );
        assert_eq!(names, expected);
    }

    #[test]
    fn requests_become_layouts() {
        check("cpu", 1, "cpu/1");
        check("cpu", 2, "cpu/2 or cpu:0/1 cpu:1/1");
        check("cpu", 4, "cpu/3 or cpu:0-1/2 or cpu:0/1 cpu:1/1 cpu:2/1");
        check("cpu", 5, "cpu/4 or cpu:0-1/2 cpu:2-3/2 or cpu:0/1 cpu:1/1 cpu:2/1 cpu:3/1");
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
