//! `test-bed`: fits and scores the response surface, simulates swarms on it, and compares searches.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line of the tests

#[path = "test_bed/search.rs"]
mod search;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use autoswarm_tests::{
    chance::Chance,
    simulator::{
        Lie, Spec,
        conditions::{self, Condition, Targets},
        simulate,
    },
    surrogate::{self, Surrogate, optimum, runs, scores},
};
use clap::Parser;

/// The test-bed of the swarm: a response surface fitted to real runs, and simulated swarms on it
#[derive(Debug, Parser)]
#[command(name = "test-bed")]
enum Cli {
    /// Fit the surface to the runs of FILES and print its parameters as JSON
    Fit {
        /// What collect.py wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Rounds of the fit
        #[arg(long, default_value_t = 80)]
        rounds: usize,
    },
    /// Say how well parameters predict the held-out runs of FILES
    Score {
        /// What collect.py wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// What `fit` printed
        #[arg(long)]
        parameters: PathBuf,
    },
    /// Simulate one swarm
    Simulate {
        /// Honest nodes
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// Liars beside them
        #[arg(long, default_value_t = 0)]
        liars: usize,
        /// What they lie about, separated by commas; all of it where nothing is said
        #[arg(long, value_enum, value_delimiter = ',')]
        lies: Vec<Lie>,
        /// Virtual hours
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        /// Let nobody hear anything
        #[arg(long)]
        silent: bool,
        /// Let all nodes search with one seed
        #[arg(long)]
        one_search_seed: bool,
        /// Seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Simulate every condition on several seeds, and print the table of node/docs/simulation.md
    Compare {
        /// Seeds of each condition
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        /// The first of these seeds: tune on some, report others
        #[arg(long, default_value_t = 1)]
        first_seed: u64,
        /// Node hours of each simulation
        #[arg(long, default_value_t = 16.0)]
        compute: f64,
        /// Threads
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Only the conditions of these names, separated by commas
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// What liars lie about, separated by commas; all of it where nothing is said
        #[arg(long, value_enum, value_delimiter = ',')]
        lies: Vec<Lie>,
    },
    /// Search the committed surface for its best config
    Optimum {
        /// Climbs
        #[arg(long, default_value_t = 40)]
        climbs: u64,
    },
    /// Search on equal training seconds, and print a JSON line for each way to choose in the end
    Search(search::SearchArgs),
    /// Answer a search in another language, in JSON lines on standard input and output
    Oracle(search::SpecArgs),
    /// Print the table of what `search` and rivals.py printed
    Table(search::TableArgs),
    /// Run a swarm on the real trainer under a virtual clock, and measure what its nodes chose on fresh seeds
    RealSwarm(search::SwarmArgs),
    /// Print configs on the way up the surface of FILES, for collect.py --ask
    Ask {
        /// What collect.py wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// What `fit` printed
        #[arg(long)]
        parameters: PathBuf,
        /// Configs
        #[arg(long, default_value_t = 12)]
        count: u64,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli {
        Cli::Search(args) => search::search(&args)?,
        Cli::Oracle(args) => search::oracle(&args)?,
        Cli::Table(args) => search::table(&args)?,
        Cli::RealSwarm(args) => search::real_swarm(&args)?,
        Cli::Fit { files, rounds } => {
            let runs = read(&files)?;
            let parameters = surrogate::fit(&runs, rounds, &mut |what, round, value| {
                eprintln!("{what} {round}: {value:.2}");
            });
            println!("{}", serde_json::to_string_pretty(&parameters)?);
        }
        Cli::Ask { files, parameters, count } => {
            let text = fs::read_to_string(&parameters).context("cannot read the parameters")?;
            let surrogate = Surrogate::new(serde_json::from_str(&text)?, &read(&files)?);
            for number in 0..count {
                let mut way = Vec::new();
                let chance = Chance::new(1000 + number);
                optimum::climb(&surrogate, surrogate::start(), chance, &mut |config| {
                    way.push(config.clone());
                });
                // From an eighth of the way up to five eighths: the further up, the less the runs say about a
                // config.
                let place = way.len() * (1 + number as usize % 5) / 8;
                println!("{}", runs::config_text(&way[place.max(1) - 1]));
            }
        }
        Cli::Score { files, parameters } => {
            let text = fs::read_to_string(&parameters).context("cannot read the parameters")?;
            let parameters: surrogate::Parameters = serde_json::from_str(&text)?;
            println!("{:?}\n{:?}", scores::held_out(&parameters, &read(&files)?), parameters.noise);
            strongest(&parameters);
        }
        Cli::Simulate { nodes, liars, lies, hours, silent, one_search_seed, seed } => {
            let lies = all_if_none(lies);
            let spec =
                Spec { liars, lies, talking: !silent, one_search_seed, ..Spec::new(nodes, hours, seed) };
            let started = std::time::Instant::now();
            let story = simulate(&spec, &Surrogate::committed());
            for part in 1..=8 {
                let at = story.length * f64::from(part) / 8.0;
                println!(
                    "{:.2} h: mean {:.4} best {:.4}",
                    at / 3600.0,
                    story.mean_gain(at),
                    story.best_gain(at)
                );
            }
            println!(
                "experiments {:?} keeps {:?} runs {:?} adoptions {} true {:?} harmful lies {} foreign {:.3} \
                 half {:?} digest {:x} in {:.1?}",
                story.experiments,
                story.keeps,
                story.runs,
                story.adoptions.len(),
                story.true_share(),
                story.harmful_lies(),
                story.foreign_share(),
                story.half_life(),
                story.digest,
                started.elapsed()
            );
        }
        Cli::Compare { seeds, first_seed, compute, threads, only, lies } => {
            let (surface, targets) = (Surrogate::committed(), Targets::committed());
            print!("{}", conditions::HEAD);
            let mut done = Vec::new();
            let wanted = |name: &String| only.is_empty() || only.contains(name);
            for (name, spec) in conditions::all(compute).into_iter().filter(|(name, _)| wanted(name)) {
                let started = std::time::Instant::now();
                let spec = Spec { lies: all_if_none(lies.clone()), ..spec };
                let seeds = first_seed..first_seed + seeds;
                let condition = Condition::run(&name, spec, seeds, threads, &surface);
                print!("{}", condition.row(&targets));
                eprintln!("{name}: {:.0?}, {}", started.elapsed(), condition.ideas());
                done.push(condition);
            }
            print!("\n{}", conditions::ratios(&done, &targets));
        }
        Cli::Optimum { climbs } => {
            let surrogate = Surrogate::committed();
            let begin = surrogate.worth(&surrogate::start());
            let (best, worth) = optimum::best_known(&surrogate, climbs);
            eprintln!("{}", autoswarm_protocol::Patch::between(&surrogate::start(), &best));
            let targets = Targets { start: begin, best: worth, config: runs::config_text(&best) };
            println!("{}", serde_json::to_string_pretty(&targets)?);
        }
    }
    Ok(())
}

fn all_if_none(lies: Vec<Lie>) -> Vec<Lie> {
    if lies.is_empty() { Lie::ALL.to_vec() } else { lies }
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<runs::RealRun>> {
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        all.extend(runs::parse(&text).map_err(anyhow::Error::msg)?);
    }
    Ok(all)
}

/// Prints the knobs with the largest weights in the level, and its kernel's other parameters.
fn strongest(parameters: &surrogate::Parameters) {
    let mut weights: Vec<(&str, f64)> = autoswarm_protocol::knobs::KNOBS
        .iter()
        .map(|row| row.name)
        .chain(["tokens"])
        .zip(parameters.level.weights.iter().copied())
        .collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    let lines: Vec<String> = weights.iter().take(30).map(|(name, w)| format!("{name} {w:.4}")).collect();
    println!("{}", lines.join(", "));
    let k = &parameters.level;
    println!(
        "length {:.2} interaction {:.3} away {:.4} shared {:.5} noise {:.5}",
        k.length, k.interaction, k.away, k.shared, k.noise
    );
}
