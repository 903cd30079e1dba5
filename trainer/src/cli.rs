//! The command line of `trainer`: what was typed, what it means and what is printed.
//!
//! Standard output is data: JSON lines or the summary block. Standard error is narration. Exit codes: 0 done,
//! 1 failed, 2 wrong usage.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use autoswarm_protocol::{Knob, Split, TrainConfig, TrainerEvent, pruning::PruneBounds};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{
    bench::{self, BenchSettings, BenchShape, run::RunSettings, table},
    checkpoint,
    device::{self, DeviceName, Dtype},
    events::Voice,
    failure::{self, Failure},
    harness::{
        budget::{Budget, Deadline, Watch},
        dataset::Dataset,
        evaluate::{self, Rule},
    },
    prepare, report,
    sample::{self, Sampling},
    train::{self, Ended, TrainSettings},
};

/// Runs one experiment of the built-in research surface: a config in and an outcome out
#[derive(Debug, Parser)]
#[command(name = "trainer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a dataset from a corpus
    Prepare(prepare::Args),
    /// Train a config for a budget and measure its bits per byte
    Train(TrainArgs),
    /// Time a few steps of a config and say what a budget buys
    Price(TrainArgs),
    /// Measure a saved model's bits per byte
    Evaluate(EvaluateArgs),
    /// Continue a text with a saved model
    Sample(SampleArgs),
    /// Measure training throughput
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
struct ComputeArgs {
    /// Compute on cpu, cuda:I or mps
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
    /// Use this many threads on a CPU [default: one per core]
    #[arg(long)]
    threads: Option<u16>,
    /// Compute products in this number format
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    dtype: Dtype,
}

#[derive(Debug, Args)]
struct RuleArgs {
    /// Let predictions look back on this many tokens
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Evaluate on this many tokens of each split, spread evenly over it
    #[arg(long, default_value_t = 131_072)]
    evaluation_tokens: u64,
}

#[derive(Debug, Args)]
struct SplitArgs {
    /// Evaluate on these splits; `train` always evaluates on validation
    #[arg(long, value_delimiter = ',', default_value = "validation", value_parser = parse_split)]
    splits: Vec<Split>,
}

impl RuleArgs {
    fn rule(&self) -> Result<Rule, Failure> {
        if self.context == 0 {
            return Err(Failure::own("`--context` cannot be 0: a prediction needs a token to look back on"));
        }
        Ok(Rule { context: self.context, tokens: self.evaluation_tokens })
    }
}

#[derive(Debug, Args)]
#[group(id = "budget", required = true, multiple = false, args = ["budget_seconds", "budget_tokens"])]
struct TrainArgs {
    /// Read the config from this TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read the dataset from this folder, which `trainer prepare` wrote
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Train for as many tokens as this many seconds buy
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    budget_seconds: Option<f64>,
    /// Train for this many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    budget_tokens: Option<u64>,
    /// Derive initial values and the order of the data from this number
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fail once training takes longer [default: the budget plus 5 %, at least 2 s]
    #[arg(long, value_name = "C", value_parser = parse_seconds)]
    cap_seconds: Option<f64>,
    /// Fail if the budget buys fewer steps
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    min_steps: u64,
    /// Save the trained model to this file
    #[arg(long, value_name = "MODEL.safetensors")]
    save: Option<PathBuf>,
    /// Stop early where the smoothed loss is above these, after about 15, 30 and 50 % of the steps; `inf` for
    /// no bound
    #[arg(long, value_name = "L,L,L")]
    prune: Option<PruneBounds>,
    /// Report as JSON lines on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    splits: SplitArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Args)]
struct EvaluateArgs {
    /// Read the model from this file, which `trainer train --save` wrote
    #[arg(long, value_name = "MODEL.safetensors")]
    model: PathBuf,
    /// Read the dataset from this folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    splits: SplitArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Args)]
struct SampleArgs {
    /// Read the model from this file, which `trainer train --save` wrote
    #[arg(long, value_name = "MODEL.safetensors")]
    model: PathBuf,
    /// Continue this text
    #[arg(long)]
    prompt: String,
    /// Make at most this many tokens
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Divide the logits by this; 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Derive every draw from this number
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Measure this shape, depth,width,sequence,batch,vocabulary; may be given several times [default: three
    /// shapes]
    #[arg(long = "shape", value_name = "D,W,S,B,V")]
    shapes: Vec<BenchShape>,
    /// Take everything but the size from this config
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Measure a whole run of the config on this dataset instead, with `--seconds` as its budget
    #[arg(long, value_name = "DIR", requires = "config", conflicts_with = "shapes")]
    data: Option<PathBuf>,
    /// Measure each shape for this many seconds
    #[arg(long, value_name = "S", default_value = "3", value_parser = parse_seconds)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
        _ => Err(format!("`{text}` is not a number of seconds above 0")),
    }
}

fn parse_split(text: &str) -> Result<Split, String> {
    Split::HELD_OUT
        .into_iter()
        .find(|split| split.name() == text)
        .ok_or_else(|| format!("`{text}` is no held-out split; use validation, audit or locked"))
}

/// Parses the command line of this process, runs the command and returns the exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // The default hook would print every panic to standard error. A panic becomes a `Failure` instead, and
    // each error is one line.
    std::panic::set_hook(Box::new(|_| {}));
    let result = match cli.command {
        Command::Prepare(args) => return run_prepare(&args),
        Command::Train(args) => return run_train(&args, false),
        Command::Price(args) => return run_train(&args, true),
        Command::Evaluate(args) => failure::catch(|| run_evaluate(&args)),
        Command::Sample(args) => failure::catch(|| run_sample(&args)),
        Command::Bench(args) => failure::catch(|| run_bench(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { class, message }) => {
            Voice::Prose.tell(&TrainerEvent::Failed { class, message });
            ExitCode::FAILURE
        }
    }
}

fn run_prepare(args: &prepare::Args) -> ExitCode {
    match prepare::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `train`, or `price` if `only_price` is set.
fn run_train(args: &TrainArgs, only_price: bool) -> ExitCode {
    let voice = if args.json { Voice::Json } else { Voice::Prose };
    let watch = Watch::default();
    voice.guard(watch.clone());
    let result = failure::catch(|| {
        let settings = train_settings(args)?;
        let emit = &mut |event| voice.tell(&event);
        if only_price {
            return train::price_only(&settings, &watch, emit).map(|()| None);
        }
        let depth = settings.config.integer(Knob::Depth);
        train::run(&settings, &watch, emit).map(|ended| Some((ended, depth)))
    });
    match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some((Ended::Pruned(pruned), _))) => {
            voice.tell(&TrainerEvent::Pruned { pruned });
            ExitCode::SUCCESS
        }
        Ok(Some((Ended::Finished(report), depth))) => {
            let summary = report::summary(&report, depth);
            voice.tell(&TrainerEvent::Finished { report });
            let _ = match voice {
                Voice::Json => io::stderr().write_all(summary.as_bytes()),
                Voice::Prose => io::stdout().write_all(summary.as_bytes()),
            };
            ExitCode::SUCCESS
        }
        Err(Failure { class, message }) => {
            // The run is over: the watching thread must not report a second failure.
            watch.lift();
            voice.tell(&TrainerEvent::Failed { class, message });
            ExitCode::FAILURE
        }
    }
}

fn read_config(path: &Path) -> Result<TrainConfig, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::own(format!("cannot read the config `{}`: {error}", path.display())))?;
    TrainConfig::from_toml(&text)
        .map_err(|error| Failure::own(format!("the config `{}` is wrong: {error}", path.display())))
}

fn train_settings(args: &TrainArgs) -> Result<TrainSettings, Failure> {
    let budget = match (args.budget_seconds, args.budget_tokens) {
        (Some(seconds), _) => Budget::Seconds(seconds),
        (None, Some(tokens)) => Budget::Tokens(tokens),
        (None, None) => return Err(Failure::own("give --budget-seconds or --budget-tokens")),
    };
    Ok(TrainSettings {
        config: read_config(&args.config)?,
        data: args.data.clone(),
        budget,
        seed: args.seed,
        device: args.compute.device,
        threads: args.compute.threads,
        dtype: args.compute.dtype,
        cap_seconds: args.cap_seconds,
        splits: args.splits.splits.clone(),
        rule: args.rule.rule()?,
        min_steps: args.min_steps,
        save: args.save.clone(),
        prune: args.prune,
    })
}

fn run_evaluate(args: &EvaluateArgs) -> Result<(), Failure> {
    let dataset = Dataset::open(&args.data)?;
    let device = args.compute.device.open()?;
    device::set_threads(args.compute.threads);
    let loaded = checkpoint::load(&args.model, args.compute.dtype.resolve(device), device)?;
    let rule = args.rule.rule()?;
    if rule.context > loaded.context {
        let message = format!(
            "the model was made for a context of {} tokens, and {} were asked for; give --context {}",
            loaded.context, rule.context, loaded.context
        );
        return Err(Failure::own(message));
    }
    for &split in &args.splits.splits {
        let batch = evaluate::batch_windows(&loaded.model, rule);
        let never = Deadline::never();
        let bpb = evaluate::evaluate(&loaded.model, &dataset, split, rule, batch, &never, &mut |_, _| {})?;
        let line = if args.json {
            json!({ "split": split, "bpb": bpb }).to_string()
        } else {
            format!("{split}: {bpb:.6}")
        };
        print_line(&line)?;
    }
    Ok(())
}

fn run_sample(args: &SampleArgs) -> Result<(), Failure> {
    let device = args.compute.device.open()?;
    device::set_threads(args.compute.threads);
    let loaded = checkpoint::load(&args.model, args.compute.dtype.resolve(device), device)?;
    let sampling = Sampling { tokens: args.tokens, temperature: args.temperature, seed: args.seed };
    let mut output = io::stdout().lock();
    let mut write = |bytes: &[u8]| output.write_all(bytes).and_then(|()| output.flush());
    let _ = write(args.prompt.as_bytes());
    sample::sample(&loaded, &args.prompt, sampling, &mut write)?;
    let _ = write(b"\n");
    Ok(())
}

fn run_bench(args: &BenchArgs) -> Result<(), Failure> {
    if let (Some(config), Some(data)) = (&args.config, &args.data) {
        return bench_run(args, config, data);
    }
    let settings = BenchSettings {
        base: args.config.as_deref().map(read_config).transpose()?.unwrap_or_default(),
        device: args.compute.device,
        dtype: args.compute.dtype,
        threads: args.compute.threads,
        seconds: args.seconds,
    };
    let shapes = if args.shapes.is_empty() { &BenchShape::DEFAULT[..] } else { &args.shapes };
    for &shape in shapes {
        let result = bench::measure(shape, &settings)?;
        print_line(&if args.json { to_json(&result) } else { table::shape(&result) })?;
    }
    Ok(())
}

fn bench_run(args: &BenchArgs, config: &Path, data: &Path) -> Result<(), Failure> {
    let result = bench::run::measure(&RunSettings {
        config: (config, read_config(config)?),
        data,
        budget_seconds: args.seconds,
        rule: args.rule.rule()?,
        device: args.compute.device,
        dtype: args.compute.dtype,
        threads: args.compute.threads,
    })?;
    print_line(&if args.json { to_json(&result) } else { table::run(&result) })
}

fn to_json(result: &impl serde::Serialize) -> String {
    serde_json::to_string(result).expect("plain fields serialise")
}

fn print_line(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{line}")
        .map_err(|error| Failure::own(format!("cannot write to standard output: {error}")))
}
