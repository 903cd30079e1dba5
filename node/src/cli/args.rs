//! The command line as typed: flags, their types and the help text.
//!
//! Not here: what the flags mean together, which [`settings`](super::settings) decides.

mod discoveries;

use std::{collections::BTreeSet, fmt, path::PathBuf, str::FromStr};

use autoswarm_protocol::Budget;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use discoveries::{
    Against, DiffArgs, DiscoveriesAction, DiscoveriesArgs, DiscoveryArgs, DiscoveryListArgs, ExportArgs,
    ExportForm,
};

/// Largest S of `--devices cpu:TxS`: more slots than any machine has cores to share today.
pub const MAX_CPU_SLOTS: u16 = 256;
/// Largest T of `--devices cpu:TxS`, the threads of one slot.
pub const MAX_THREADS: u16 = 1024;

/// Research on this machine, day and night: propose, train for a fixed budget, keep only what is real.
#[derive(Debug, Parser)]
#[command(name = "node", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Folder with everything that this node remembers [default: the platform's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "AUTOSWARM_HOME")]
    pub home: Option<PathBuf>,

    /// Say more about what goes on; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Research alone on this machine until told to stop
    Solo(Box<SoloArgs>),
    /// Research together with others: by a ticket, or on a swarm config of your own
    Join(Box<JoinArgs>),
    /// Share an objective: check its swarm config, print the ticket, and serve it to whoever joins
    Seed(Box<SeedArgs>),
    /// Look at what this node has received from the swarm
    Discoveries(DiscoveriesArgs),
    /// Exchange the swarm's records through a git repository or a bundle, without a connection to anybody
    Sync(SyncArgs),
    /// Measure this machine and say which class of budget it gets
    Probe(ProbeArgs),
    /// Look at what this node has done
    Experiments(ExperimentsArgs),
    /// Say what the running node is doing
    Status(StatusArgs),
    /// Read a swarm config or a program.md and say what it means
    Check(CheckArgs),
    /// Put one change of yours through the same verdict as every experiment
    Try(TryArgs),
    /// Look for what is wrong with this machine, and how to fix it
    Doctor(JsonFlag),
    /// Write a page and a chart of what was found, and read the locked split, once
    Report(ReportArgs),
    /// Let the running node stop training until `resume`
    Pause,
    /// Let a paused node go on
    Resume,
    /// Let the running node end cleanly
    Stop,
}

/// Flags of `solo`.
#[derive(Debug, Clone, Args)]
pub struct SoloArgs {
    /// Swarm config: a file, or the name of one that is built in
    #[arg(value_name = "SWARM_CONFIG")]
    pub swarm_config: Option<String>,

    /// How to work.
    #[command(flatten)]
    pub session: SessionArgs,
}

/// Flags of everything that researches.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// End after N experiments; the baseline does not count, nor a second try of what won too late
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub experiments: Option<u32>,

    /// End after H hours
    #[arg(long, value_name = "H", value_parser = parse_hours)]
    pub hours: Option<f64>,

    /// Budget and devices.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// Seed of the search, to repeat a session's proposals
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Your direction to the search [default: ./program.md, then the home's, then the built-in one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    /// A folder or file of your own text instead of the config's corpus; or where a pinned text of the
    /// config's lies here
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Skip the short tour that a first launch begins with
    #[arg(long)]
    pub no_tour: bool,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags of `join`.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// A ticket from `node seed` or `node status`, or a swarm config: a file, or the name of one that is
    /// built in
    #[arg(value_name = "TICKET|SWARM_CONFIG")]
    pub target: String,

    /// How to take part.
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Train nothing: be a meeting point, a relay and an archive for others
    #[arg(long)]
    pub observe: bool,

    /// How to work.
    #[command(flatten)]
    pub session: SessionArgs,
}

/// Flags of `seed`.
#[derive(Debug, Clone, Args)]
pub struct SeedArgs {
    /// Swarm config: a file, or the name of one that is built in
    #[arg(value_name = "SWARM_CONFIG")]
    pub swarm_config: String,

    /// How to take part.
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Serve only, train nothing
    #[arg(long)]
    pub serve_only: bool,

    /// How to work.
    #[command(flatten)]
    pub session: SessionArgs,
}

/// Flags that say how to take part in a swarm.
#[derive(Debug, Clone, Args)]
pub struct NetworkArgs {
    /// Address to listen on; may be given several times [default: every interface, tcp and quic, a free port]
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<libp2p::Multiaddr>,

    /// Address at which others reach this machine, where it cannot know (a rented one, a forwarded port); may
    /// be given several times
    #[arg(long, value_name = "MULTIADDR", value_parser = crate::swarm::network::parse_external)]
    pub external: Vec<libp2p::Multiaddr>,

    /// Somebody to ask first, as `/ip4/…/tcp/…/p2p/…`; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub peer: Vec<libp2p::Multiaddr>,

    /// Do not look for peers in the local network
    #[arg(long)]
    pub no_mdns: bool,

    /// Ask the router to let peers in (UPnP)
    #[arg(long)]
    pub upnp: bool,

    /// Key of a private swarm, the same on every node: 64 hexadecimal digits or a passphrase; tcp only
    #[arg(long, value_name = "KEY", env = "AUTOSWARM_PRIVATE", hide_env_values = true)]
    pub private: Option<crate::swarm::network::PrivateKey>,

    /// Print every record that leaves this machine
    #[arg(long)]
    pub show_sent: bool,
}

/// Flags of `sync`.
#[derive(Debug, Clone, Args)]
pub struct SyncArgs {
    /// A git repository that both can reach, as a path or URL, or a bundle file to carry
    #[arg(long, value_name = "REMOTE|BUNDLE")]
    pub git: String,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags that say what to train on.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Training time of one run, such as `20s` or `5m` [default: what the probe finds for this machine]
    #[arg(long, value_name = "DUR", value_parser = Budget::parse_duration)]
    pub budget: Option<Budget>,

    /// What to train on: `all`, `cpu`, `cpu:TxS` (S slots of T threads), `cuda:0,1` or `mps`
    #[arg(long, value_name = "DEVICES", default_value = "all")]
    pub devices: DeviceRequest,
}

/// Flags of `probe`.
#[derive(Debug, Clone, Args)]
pub struct ProbeArgs {
    /// What to measure: `all`, `cpu`, `cpu:TxS` (S slots of T threads), `cuda:0,1` or `mps`
    #[arg(long, value_name = "DEVICES", default_value = "all")]
    pub devices: DeviceRequest,

    /// Measure again even if this machine is known
    #[arg(long)]
    pub again: bool,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags of `experiments`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ExperimentsArgs {
    /// What to do with them [default: list]
    #[command(subcommand)]
    pub action: Option<ExperimentsAction>,

    /// Show what the search believes of each knob, and why it proposes what it proposes
    #[arg(long, conflicts_with = "verdict")]
    pub importance: bool,

    /// Filters of the list.
    #[command(flatten)]
    pub list: ListArgs,
}

/// What `experiments` does.
#[derive(Debug, Clone, Subcommand)]
pub enum ExperimentsAction {
    /// List them, newest last
    List(ListArgs),
    /// Show one with every run
    Show(ShowArgs),
    /// Run one again at its own seed and token count, and compare
    Replay(ReplayArgs),
}

/// Filters of a list.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ListArgs {
    /// Only those with this verdict
    #[arg(long, value_enum, value_name = "VERDICT")]
    pub verdict: Option<VerdictFilter>,

    /// At most the N newest
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// A verdict to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerdictFilter {
    /// The configs that all is measured against.
    Baseline,
    /// Confirmed gains.
    Keep,
    /// Changes that were dropped.
    Discard,
    /// Runs without a number.
    Crash,
    /// Peers' discoveries run again for their authors.
    #[value(name = "re-run")]
    Rerun,
}

impl VerdictFilter {
    /// Returns the verdict's name, as `Verdict::name` gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Keep => "keep",
            Self::Discard => "discard",
            Self::Crash => "crash",
            Self::Rerun => "re-run",
        }
    }
}

/// One experiment.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Its number, or the first digits of its id or commit
    #[arg(value_name = "ID")]
    pub id: String,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags of `experiments replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Which, and how to print.
    #[command(flatten)]
    pub show: ShowArgs,

    /// Swarm config that the experiment belongs to [default: that of the last `solo`]
    #[arg(long, value_name = "SWARM_CONFIG")]
    pub config: Option<String>,

    /// The folder or file of your own text that it was trained on
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
}

/// Flags of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Print again every second until interrupted
    #[arg(long)]
    pub watch: bool,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// A swarm config (a file, or the name of one that is built in) or a program.md
    #[arg(value_name = "SWARM_CONFIG|PROGRAM.md")]
    pub file: String,
}

/// Flags of `try`.
#[derive(Debug, Clone, Args)]
pub struct TryArgs {
    /// The change to the incumbent, such as `matrix_lr 0.03, depth 3`; `-` reads it from standard input
    #[arg(value_name = "PATCH")]
    pub patch: String,

    /// Why it should help, in one line
    #[arg(long, value_name = "TEXT")]
    pub because: String,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// Flags of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Swarm config that the experiments belong to [default: that of the last `solo`]
    #[arg(value_name = "SWARM_CONFIG")]
    pub swarm_config: Option<String>,

    /// The folder or file of your own text that they were trained on
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Write no more than what is known: train nothing, leave the locked split alone
    #[arg(long)]
    pub no_locked: bool,

    /// Read the locked split although it was read for an earlier choice; the page says how often
    #[arg(long, conflicts_with = "no_locked")]
    pub again: bool,

    /// What to train on: `all`, `cpu`, `cpu:TxS` (S slots of T threads), `cuda:0,1` or `mps`
    #[arg(long, value_name = "DEVICES", default_value = "all")]
    pub devices: DeviceRequest,

    /// How to print.
    #[command(flatten)]
    pub output: JsonFlag,
}

/// The switch between text for people and JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct JsonFlag {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The devices that a person asked for, read from `--devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRequest {
    /// Every visible GPU; without one the CPU, split as the probe finds fastest.
    All,
    /// The CPU, split as the probe finds fastest.
    Cpu,
    /// The CPU, divided into equal slots.
    CpuSlots {
        /// Threads of each slot, at least one.
        threads: u16,
        /// Slots, at least one.
        slots: u16,
    },
    /// These GPUs, one slot each; never empty.
    Cuda(BTreeSet<u16>),
    /// Apple's GPU, `mps`.
    Mps,
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "`{text}` names no device: write all, cpu, cpu:4x2 (2 slots of 4 threads), cuda:0,1 or mps"
            )
        };
        match text.split_once(':') {
            None => match text {
                "all" => Ok(Self::All),
                "cpu" => Ok(Self::Cpu),
                "mps" => Ok(Self::Mps),
                "cuda" => Err("name the GPUs, such as cuda:0,1; `all` takes every visible one".to_owned()),
                _ => Err(unknown()),
            },
            Some(("cpu", share)) => {
                let (threads, slots) = share.split_once('x').ok_or_else(unknown)?;
                let threads = count(threads, MAX_THREADS, "threads of a slot")?;
                let slots = count(slots, MAX_CPU_SLOTS, "slots")?;
                Ok(Self::CpuSlots { threads, slots })
            }
            Some(("cuda", _)) => {
                // Split before the prefix goes, so that `cuda:0,cuda:3` means the same as `cuda:0,3`.
                let mut gpus = BTreeSet::new();
                for part in text.split(',').map(str::trim) {
                    let digits = part.strip_prefix("cuda:").unwrap_or(part);
                    let gpu: u16 = digits.parse().map_err(|_| unknown())?;
                    if !gpus.insert(gpu) {
                        return Err(format!("`{text}` names GPU {gpu} twice"));
                    }
                }
                Ok(Self::Cuda(gpus))
            }
            Some(_) => Err(unknown()),
        }
    }
}

fn count(text: &str, most: u16, what: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=most).contains(n))
        .ok_or_else(|| format!("`{text}` is not a number of {what}: it takes 1 to {most}"))
}

impl fmt::Display for DeviceRequest {
    /// Prints what [`DeviceRequest::from_str`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Cpu => f.write_str("cpu"),
            Self::CpuSlots { threads, slots } => write!(f, "cpu:{threads}x{slots}"),
            Self::Cuda(gpus) => {
                let gpus: Vec<String> = gpus.iter().map(u16::to_string).collect();
                write!(f, "cuda:{}", gpus.join(","))
            }
            Self::Mps => f.write_str("mps"),
        }
    }
}

/// Longest session that `--hours` takes, hours: a year.
const MAX_HOURS: f64 = 8784.0;

fn parse_hours(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|hours| *hours > 0.0 && *hours <= MAX_HOURS).ok_or_else(|| {
        format!("`{text}` is not a number of hours: write one above 0, such as 8 or 0.5, up to {MAX_HOURS}")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn devices(text: &str, expected: &str) {
        let printed = text.parse::<DeviceRequest>().map_or_else(|e| e, |request| request.to_string());
        assert_eq!(printed, expected);
    }

    #[test]
    fn devices_are_read() {
        devices("all", "all");
        devices("cpu", "cpu");
        devices("cpu:4x2", "cpu:4x2");
        devices("cuda:3,0", "cuda:0,3");
        devices("cuda:0,cuda:3", "cuda:0,3");
        devices("mps", "mps");
    }

    #[test]
    fn bad_devices_are_named_with_what_would_be_right() {
        let help = "names no device: write all, cpu, cpu:4x2 (2 slots of 4 threads), cuda:0,1 or mps";
        devices("tpu", &format!("`tpu` {help}"));
        devices("cpu:4", &format!("`cpu:4` {help}"));
        devices("cuda:", &format!("`cuda:` {help}"));
        devices("cuda:-1", &format!("`cuda:-1` {help}"));
        devices("cpu:0x2", "`0` is not a number of threads of a slot: it takes 1 to 1024");
        devices("cpu:2x0", "`0` is not a number of slots: it takes 1 to 256");
        devices("cuda:1,1", "`cuda:1,1` names GPU 1 twice");
        devices("cuda", "name the GPUs, such as cuda:0,1; `all` takes every visible one");
    }

    #[track_caller]
    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
    }

    #[test]
    fn solo_takes_its_flags_and_has_defaults() {
        let line = "node solo tiny --experiments 4 --hours 0.5 --budget 20s --seed 7 --devices cpu:2x1 \
                    --program p.md --data texts --no-tour --json --home h";
        let cli = parse(line).expect("valid");
        assert_eq!(cli.home, Some(PathBuf::from("h")));
        let Command::Solo(solo) = cli.command else { panic!("solo") };
        assert_eq!(
            (solo.session.experiments, solo.session.hours, solo.session.seed),
            (Some(4), Some(0.5), Some(7))
        );
        assert_eq!(solo.session.machine.budget, Some(Budget::Milliseconds(20_000)));
        assert_eq!(solo.session.machine.devices, DeviceRequest::CpuSlots { threads: 2, slots: 1 });
        assert!(solo.session.no_tour && solo.session.output.json);
        let Command::Solo(solo) = parse("node solo").expect("valid").command else { panic!("solo") };
        assert_eq!(solo.session.machine.devices, DeviceRequest::All);
        assert!(
            solo.swarm_config.is_none() && solo.session.experiments.is_none() && !solo.session.output.json
        );
    }

    #[test]
    fn experiments_lists_unless_told_otherwise() {
        let Command::Experiments(args) =
            parse("node experiments --verdict keep --limit 5").expect("valid").command
        else {
            panic!("experiments")
        };
        assert!(args.action.is_none());
        assert_eq!((args.list.verdict, args.list.limit), (Some(VerdictFilter::Keep), 5));
        let Command::Experiments(args) = parse("node experiments show 12 --json").expect("valid").command
        else {
            panic!("experiments")
        };
        assert!(
            matches!(args.action, Some(ExperimentsAction::Show(show)) if show.id == "12" && show.output.json)
        );
    }

    #[track_caller]
    fn refuses(line: &str, because: &str) {
        let error = parse(line).expect_err("refused");
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        refuses("node solo --experiments 0", "0 is not in 1..");
        refuses("node solo --hours 0", "not a number of hours");
        refuses("node solo --hours NaN", "not a number of hours");
        refuses("node solo --budget soon", "`soon` is not a duration");
        refuses("node solo --devices gpu", "`gpu` names no device");
        refuses("node experiments --verdict maybe", "invalid value 'maybe'");
        refuses("node experiments --limit 0", "0 is not in 1..=10000");
        refuses("node try depth=3", "--because");
        refuses("node fly", "unrecognized subcommand 'fly'");
    }
}
