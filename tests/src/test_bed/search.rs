//! The commands `search`, `oracle`, `table` and `real-swarm` of `test-bed`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use anyhow::Context;
use autoswarm_protocol::{EffectiveConfig, Outcome, Patch};
use autoswarm_tests::{
    chance::Chance,
    ground::{Answer, Ask, Ground, Memo, SurfaceGround, TrainerGround},
    search::{self, Judge, Method, Range, oracle, table},
    simulator::{self, simulate_on},
    surrogate::Surrogate,
};
use clap::{Args, ValueEnum};

/// The ground that answers runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GroundName {
    Surface,
    Trainer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The trainer and its files, for the commands that may use it.
#[derive(Debug, Clone, Args)]
struct TrainerArgs {
    /// The trainer
    #[arg(long, default_value = "target/debug/trainer")]
    trainer: PathBuf,
    /// The dataset that `trainer prepare` wrote for swarm-configs/default.toml
    #[arg(long, default_value = "target/search/data")]
    data: PathBuf,
    /// Remember runs in this file, and make none again that is in it
    #[arg(long)]
    memo: Option<PathBuf>,
}

/// One search, or several repetitions of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpecArgs {
    /// Ask this ground
    #[arg(long, value_enum, default_value = "surface")]
    ground: GroundName,
    /// Spend this many training seconds
    #[arg(long, default_value_t = 1800.0)]
    seconds: f64,
    /// Make this repetition
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out what the node's predictor of memory and step time rules out
    #[arg(long, value_enum, default_value = "on")]
    predictor: Switch,
    /// Let rivals go this far from the start
    #[arg(long, value_enum, default_value = "near")]
    range: Range,
    /// Judge rivals' choices at this many times
    #[arg(long, default_value_t = 24)]
    checkpoints: u32,
    #[command(flatten)]
    trainer: TrainerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Search by evolve, random, neighbours or mutations
    #[arg(long)]
    method: String,
    /// Make this many repetitions, beginning with `--seed`
    #[arg(long, default_value_t = 1)]
    repetitions: u64,
    /// Use this many threads, on the surface
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    spec: SpecArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// What `search` and rivals.py printed
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Show these times, training seconds
    #[arg(long, value_delimiter = ',', default_value = "600,1800")]
    at: Vec<f64>,
    /// Show every range and every way to choose, not only each method's best
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SwarmArgs {
    /// Nodes
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Experiments of each node, its baseline apart
    #[arg(long, default_value_t = 30)]
    experiments: usize,
    /// Let nobody hear anything
    #[arg(long)]
    silent: bool,
    /// Ask this ground
    #[arg(long, value_enum, default_value = "trainer")]
    ground: GroundName,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    trainer: TrainerArgs,
}

impl SpecArgs {
    fn spec(&self, seed: u64) -> search::Spec {
        search::Spec {
            seconds: self.seconds,
            seed,
            predictor: self.predictor == Switch::On,
            range: self.range,
            checkpoints: self.checkpoints.max(1),
        }
    }
}

/// Searches, and prints a JSON line for each story.
pub(crate) fn search(args: &SearchArgs) -> anyhow::Result<()> {
    let method = Method::named(&args.method).with_context(|| {
        let known: Vec<&str> = Method::ALL.iter().map(|(name, _)| *name).collect();
        format!("no method `{}`; use {}, or scripts/search/rivals.py", args.method, known.join(", "))
    })?;
    let surface = Surrogate::committed();
    let seeds = args.spec.seed..args.spec.seed + args.repetitions;
    // One trainer at a time: two would both measure what the memo lacks.
    let threads = if args.spec.ground == GroundName::Surface { args.threads.max(1) } else { 1 };
    let next = Mutex::new(seeds);
    let work = || -> anyhow::Result<()> {
        loop {
            let seed = next.lock().expect("no thread panics with it").next();
            let Some(seed) = seed else { return Ok(()) };
            let spec = args.spec.spec(seed);
            let run = |ground: &mut dyn Ground| method.search(&spec, &ground.start(), ground);
            for story in with_ground(args.spec.ground, &args.spec.trainer, seed, 1, &surface, run)? {
                println!("{}", serde_json::to_string(&story)?);
            }
        }
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("no search panics"))
    })
}

/// Answers a search in another language.
pub(crate) fn oracle(args: &SpecArgs) -> anyhow::Result<()> {
    let spec = args.spec(args.seed);
    let surface = Surrogate::committed();
    with_ground(args.ground, &args.trainer, args.seed, 1, &surface, |ground| {
        oracle::serve(&spec, &ground.start(), ground, io::stdin().lock(), io::stdout())
    })
}

/// Prints the table of stories.
pub(crate) fn table(args: &TableArgs) -> anyhow::Result<()> {
    let mut stories = Vec::new();
    for file in &args.files {
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
        for (index, line) in text.lines().enumerate() {
            let story = serde_json::from_str(line);
            stories.push(story.with_context(|| format!("`{shown}`, line {}: no story", index + 1))?);
        }
    }
    let rows = if args.all { table::Rows::All } else { table::Rows::Best };
    print!("{}", table::print(&stories, &args.at, rows));
    Ok(())
}

/// Runs a swarm, and judges what each node chose.
pub(crate) fn real_swarm(args: &SwarmArgs) -> anyhow::Result<()> {
    let surface = Surrogate::committed();
    let spec = simulator::Spec {
        talking: !args.silent,
        experiments: Some(args.experiments),
        ..simulator::Spec::new(args.nodes, HOURS, args.seed)
    };
    with_ground(args.ground, &args.trainer, args.seed, args.nodes, &surface, |ground| {
        let story = simulate_on(&spec, ground)?;
        println!(
            "{} nodes, {} experiments each, {}: {:.0} training seconds, {} runs ({} without a number), \
             {} of {} experiments kept, own ideas {:?}, others' {:?}, re-runs {:?} \
             (experiments, kept, runs), {} adoptions",
            args.nodes,
            args.experiments,
            if args.silent { "silent" } else { "talking" },
            story.training,
            story.runs.0,
            story.runs.1,
            story.keeps.0,
            story.experiments.0,
            story.ideas[0],
            story.ideas[1],
            story.ideas[2],
            story.adoptions.len(),
        );
        let start = ground.start();
        let mut judge = Judge::new(args.seed, &start);
        for (node, stands) in story.stands.iter().enumerate() {
            let config = stands.last().map_or(&start, |(_, config)| config);
            let search::Gain { gain, error } = judge.measure(config, ground)?;
            println!(
                "node {node}: gain {gain:.4} ± {error:.4} bpb on fresh seeds; {}",
                Patch::between(&start, config)
            );
        }
        Ok(())
    })
}

/// Virtual hours for a swarm: more than its experiments need, so that their number alone ends it.
const HOURS: f64 = 1000.0;

/// Makes the ground of a name, and does `work` on it.
fn with_ground<T>(
    name: GroundName,
    trainer: &TrainerArgs,
    seed: u64,
    machines: usize,
    surface: &Surrogate,
    work: impl FnOnce(&mut dyn Ground) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    match name {
        GroundName::Surface => work(&mut SurfaceGround::new(surface, Chance::new(seed), vec![1.0; machines])),
        GroundName::Trainer => {
            let memo = trainer.memo.as_deref().map_or_else(|| Ok(Memo::default()), open)?;
            let ground = TrainerGround::new(&trainer.trainer, &trainer.data, memo)?;
            work(&mut Narrated { ground, asked: 0 })
        }
    }
}

fn open(path: &Path) -> anyhow::Result<Memo> {
    let memo = Memo::open(path)?;
    eprintln!("`{}` has {} runs", path.display(), memo.runs());
    Ok(memo)
}

/// A trainer ground that tells each run on standard error.
struct Narrated {
    ground: TrainerGround,
    asked: usize,
}

impl Ground for Narrated {
    fn start(&self) -> EffectiveConfig {
        self.ground.start()
    }

    fn run(&mut self, ask: &Ask<'_>) -> anyhow::Result<Answer> {
        let answer = self.ground.run(ask)?;
        self.asked += 1;
        let ended = match &answer.outcome {
            Outcome::Finished(report) => format!("{:.4}", report.validation.get()),
            Outcome::Crashed(crash) => crash.class.to_string(),
            Outcome::Pruned(_) => "stopped early".to_owned(),
        };
        let patch = Patch::between(&self.ground.start(), ask.config);
        eprintln!(
            "run {} ({} made): node {}, {ended}, {:.2} s and {:.2} s beside; {patch}",
            self.asked,
            self.ground.made(),
            ask.machine,
            answer.seconds,
            answer.beside
        );
        Ok(answer)
    }

    fn truth(&mut self, machine: usize, config: &EffectiveConfig) -> Option<f64> {
        self.ground.truth(machine, config)
    }
}
