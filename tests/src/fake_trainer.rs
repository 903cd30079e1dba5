//! A fake trainer: it has the real one's command line and events, takes no time, and misbehaves on demand.
//!
//! **For tests of the node, never of results**: its numbers come from [`surface`], not from training. Its
//! behaviour is a list of the words in [`Behaviour::parse`], separated by commas. The environment variable
//! `FAKE_TRAINER` holds the list or, where that is unset, the file `fake-trainer` in the data folder. Without
//! either it is a good trainer.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use autoswarm_protocol::{
    Bpb, CrashClass, EffectiveConfig, Knob, RunReport, Split, TrainConfig, TrainerEvent,
    event::{MAX_LINE_BYTES, SplitSummary},
    id::{CorpusHash, TokenizerHash},
    outcome::{CurvePoint, TRAINER_SEMANTICS},
};
use autoswarm_tests::surface::{self, Noise};
use clap::{Args, Parser};

/// The trainer's command line.
#[derive(Debug, Parser)]
enum Cli {
    /// Trains.
    Train(Train),
    /// Says what a budget buys.
    Price(Train),
    /// Writes a dataset's manifest.
    Prepare(Prepare),
    /// Does nothing for ever: the process that `fork` leaves behind.
    Linger,
    /// Starts `linger` in a process group of its own and exits.
    Orphan,
}

#[derive(Debug, Args)]
struct Train {
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    budget_seconds: Option<f64>,
    #[arg(long, conflicts_with = "budget_seconds")]
    budget_tokens: Option<u64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, default_value_t = 1)]
    threads: u16,
    #[arg(long, default_value = "f32")]
    dtype: String,
    #[arg(long, default_value_t = 3600.0)]
    cap_seconds: f64,
    #[arg(long, value_delimiter = ',', default_value = "validation")]
    splits: Vec<String>,
    #[arg(long, default_value_t = 256)]
    context: usize,
    #[arg(long, default_value_t = 65_536)]
    evaluation_tokens: u64,
    #[arg(long, default_value_t = 1)]
    min_steps: u64,
    #[arg(long)]
    save: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Prepare {
    /// Whatever arguments the real trainer takes; only `--out DIR` counts here.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    rest: Vec<PathBuf>,
}

impl Prepare {
    fn out(&self) -> Result<&Path> {
        let flag = self.rest.windows(2).find(|pair| pair[0] == Path::new("--out"));
        Ok(&flag.context("`prepare` needs `--out DIR`")?[1])
    }
}

/// What the fake trainer does wrong, and how noisy its numbers are.
#[derive(Debug, Clone, Default)]
struct Behaviour {
    words: Vec<(String, String)>,
}

impl Behaviour {
    /// Parses `word` or `word=value`, separated by commas.
    ///
    /// | word | what it does |
    /// |---|---|
    /// | `slow=S` | takes S seconds to train |
    /// | `sigma=X`, `correlation=X` | sets the noise |
    /// | `every=N` | misbehaves only on seeds that N divides |
    /// | `when=TEXT` | misbehaves only for configs whose TOML contains the text |
    /// | `overpriced=F` | promises F times its true speed; a run that passes its cap says so |
    /// | `throttled=F` | a run of given tokens takes F times as long as priced; past its cap it says so |
    /// | `silent`, `hang` | stops before its first event; in the middle of training |
    /// | `hang_in_evaluation`, `stay` | stops in evaluation; after its last word |
    /// | `garbage`, `long_line`, `flood` | prints what is not JSON; a huge line; a million events |
    /// | `early`, `babble`, `mute` | prints an event before the start; after the end; no result |
    /// | `nan` | prints a loss that is NaN |
    /// | `null`, `zero` | prints such a validation value |
    /// | `wrong_config` | names another config as it starts |
    /// | `wrong_executed`, `wrong_seed`, `wrong_corpus`, `wrong_tokens` | reports what was not asked for |
    /// | `exit=N`, `abort`, `kill` | ends in training: with that status; by SIGABRT; by SIGKILL |
    /// | `fail=class` | says `failed` with that class |
    /// | `oom`, `oom_message` | takes memory until it is stopped; says that the device has none left |
    /// | `fork`, `orphan` | leaves a process behind: in its process group; outside of it |
    fn parse(text: &str) -> Self {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "")));
        Self { words: pairs.map(|(word, value)| (word.to_owned(), value.to_owned())).collect() }
    }

    fn load(data: &Path) -> Self {
        let text = std::env::var("FAKE_TRAINER").or_else(|_| fs::read_to_string(data.join("fake-trainer")));
        Self::parse(&text.unwrap_or_default())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.words.iter().find(|(word, _)| word == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.value(name)?.parse().ok()
    }

    fn does(&self, name: &str, seed: u64) -> bool {
        let every = self.number("every").map_or(1, |n| n as u64).max(1);
        self.value(name).is_some() && seed.is_multiple_of(every)
    }

    fn noise(&self) -> Noise {
        let usual = Noise::default();
        Noise {
            sigma: self.number("sigma").unwrap_or(usual.sigma),
            correlation: self.number("correlation").unwrap_or(usual.correlation),
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Train(arguments) => Run::open(arguments).and_then(|run| run.train()),
        Cli::Price(arguments) => Run::open(arguments).and_then(|run| run.price().map(|_| ())),
        Cli::Prepare(arguments) => arguments.out().and_then(prepare),
        Cli::Linger => stop(),
        Cli::Orphan => leave_behind("linger", Group::Own),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(event: &TrainerEvent) -> Result<()> {
    line(&serde_json::to_string(event)?)
}

fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn stop() -> ! {
    loop {
        thread::park();
    }
}

#[derive(Debug, Clone, Copy)]
enum Group {
    Same,
    Own,
}

/// Starts this program again as `verb` and lets go of it; prints the process id of a `linger` to stderr.
fn leave_behind(verb: &str, group: Group) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(verb).stdin(Stdio::null());
    if let Group::Own = group {
        command.process_group(0);
    }
    let mut child = command.spawn()?;
    if verb == "orphan" {
        child.wait()?; // so that its `linger` exists by now
    }
    if verb == "linger" {
        eprintln!("left {} behind", child.id());
    }
    Ok(())
}

struct Run {
    arguments: Train,
    config: EffectiveConfig,
    /// Whether `when` lets it misbehave with this config.
    provoked: bool,
    corpus: CorpusHash,
    tokenizer: TokenizerHash,
    behaviour: Behaviour,
}

impl Run {
    fn open(arguments: Train) -> Result<Self> {
        let text = fs::read_to_string(&arguments.config).context("cannot read the config")?;
        let config = TrainConfig::from_toml(&text)?.effective(arguments.context);
        let manifest = fs::read_to_string(arguments.data.join("dataset.json")).context("not a dataset")?;
        let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
        let field = |name: &str| manifest[name].as_str().context("the manifest lacks a hash");
        let (corpus, tokenizer) = (field("corpus")?.parse()?, field("tokenizer")?.parse()?);
        let behaviour = Behaviour::load(&arguments.data);
        let provoked = behaviour.value("when").is_none_or(|part| text.contains(part));
        Ok(Self { arguments, config, provoked, corpus, tokenizer, behaviour })
    }

    fn does(&self, word: &str) -> bool {
        self.provoked && self.behaviour.does(word, self.arguments.seed)
    }

    fn tokens_per_step(&self) -> u64 {
        self.config.integer(Knob::BatchTokens) as u64
    }

    fn start(&self) -> Result<()> {
        let mut config = self.config.hash();
        if self.does("wrong_config") {
            config = autoswarm_protocol::id::ConfigHash::of(b"another");
        }
        say(&TrainerEvent::Starting {
            config,
            seed: self.arguments.seed,
            device: self.arguments.device.clone(),
            threads: self.arguments.threads,
            parameters: surface::parameters(&self.config),
            flops_per_token: surface::flops_per_token(&self.config),
        })
    }

    /// Prints the price and returns the tokens that the budget buys.
    fn priced(&self, seconds: f64) -> Result<u64> {
        let promise = self.behaviour.number("overpriced").unwrap_or(1.0);
        let tokens_per_second = promise * surface::tokens_per_second(&self.config);
        let steps = (seconds * tokens_per_second / self.tokens_per_step() as f64).round() as u64;
        let tokens = steps * self.tokens_per_step();
        say(&TrainerEvent::Priced { tokens_per_second, tokens, cpu_share: 1.0, seconds: 0.001 })?;
        Ok(tokens)
    }

    fn price(&self) -> Result<u64> {
        self.start()?;
        let Some(seconds) = self.arguments.budget_seconds else { bail!("a price needs `--budget-seconds`") };
        self.priced(seconds)
    }

    fn train(&self) -> Result<()> {
        if self.does("silent") {
            stop();
        }
        if self.does("early") {
            self.progress(1)?;
        }
        self.start()?;
        let tokens = match (self.arguments.budget_tokens, self.arguments.budget_seconds) {
            (Some(tokens), _) => tokens.div_ceil(self.tokens_per_step()) * self.tokens_per_step(),
            (None, Some(seconds)) => self.priced(seconds)?,
            (None, None) => bail!("a run needs `--budget-seconds` or `--budget-tokens`"),
        };
        let steps = tokens / self.tokens_per_step();
        if steps < self.arguments.min_steps.max(1) {
            let message = format!("the budget buys {steps} steps, {} are needed", self.arguments.min_steps);
            return say(&TrainerEvent::Failed { class: CrashClass::TooSlow, message });
        }
        let cap_seconds = self.arguments.cap_seconds;
        say(&TrainerEvent::TrainingStarted { tokens, steps, cap_seconds })?;
        // Whether the cap is passed is calculated, so that a test does not wait for it.
        let overpriced = self.behaviour.value("overpriced").map(|_| 1.0);
        let throttled = self.behaviour.number("throttled").filter(|_| self.arguments.budget_tokens.is_some());
        let slower = throttled.or(overpriced).unwrap_or(0.0);
        if slower * tokens as f64 / surface::tokens_per_second(&self.config) > cap_seconds {
            let message = format!("training passed its hard cap of {cap_seconds:.1} s");
            return say(&TrainerEvent::Failed { class: CrashClass::TimedOut, message });
        }
        let slow = Duration::from_secs_f64(self.behaviour.number("slow").unwrap_or(0.0));
        for step in 1..=4 {
            thread::sleep(slow / 4);
            self.progress(steps * step / 4)?;
            if step == 2 {
                self.misbehave()?;
            }
        }
        self.finish(tokens, steps)
    }

    fn progress(&self, step: u64) -> Result<()> {
        say(&TrainerEvent::Progress {
            step,
            tokens: step * self.tokens_per_step(),
            loss: 3.0,
            tokens_per_second: surface::tokens_per_second(&self.config),
            seconds: 0.0,
        })
    }

    fn misbehave(&self) -> Result<()> {
        for (word, value) in self.behaviour.words.iter().filter(|(word, _)| self.does(word)) {
            match word.as_str() {
                "hang" => stop(),
                "garbage" => line("Segmentation \u{1b}[31mfault? not JSON")?,
                "long_line" => line(&"x".repeat(MAX_LINE_BYTES + 1))?,
                "flood" => (0..1_000_000).try_for_each(|_| self.progress(1))?,
                "nan" => line(
                    r#"{"event":"progress","step":1,"tokens":1,"loss":NaN,"tokens_per_second":1.0,"seconds":1.0}"#,
                )?,
                "exit" => {
                    eprintln!("the fake trainer gives up");
                    std::process::exit(value.parse()?);
                }
                "abort" => std::process::abort(),
                "kill" => {
                    let pid = rustix::process::getpid();
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
                    stop();
                }
                "fail" => {
                    let class = serde_json::from_str(&format!("\"{value}\""))?;
                    say(&TrainerEvent::Failed { class, message: "as asked".to_owned() })?;
                    std::process::exit(1);
                }
                "oom" => take_memory(),
                "oom_message" => {
                    eprintln!("CUDA out of memory. Tried to allocate 20.00 GiB");
                    std::process::exit(1);
                }
                "fork" => leave_behind("linger", Group::Same)?,
                "orphan" => leave_behind("orphan", Group::Own)?,
                "mute" => std::process::exit(0),
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&self, tokens: u64, steps: u64) -> Result<()> {
        let total = self.arguments.evaluation_tokens;
        say(&TrainerEvent::Evaluating { split: Split::Validation, done: 0, total })?;
        if self.does("hang_in_evaluation") {
            stop();
        }
        let report = self.report(tokens, steps)?;
        if let Some(path) = &self.arguments.save {
            fs::write(path, b"fake")?;
        }
        let mut text = serde_json::to_string(&TrainerEvent::Finished { report: Box::new(report.clone()) })?;
        // `Bpb` cannot hold these values, so they are put into the printed line.
        for (word, value) in [("null", "null"), ("zero", "0.0")] {
            if self.does(word) {
                let number = serde_json::to_string(&report.validation)?;
                text = text.replace(&format!("\"validation\":{number}"), &format!("\"validation\":{value}"));
            }
        }
        line(&text)?;
        if self.does("babble") {
            self.progress(1)?;
        }
        if self.does("stay") {
            stop();
        }
        Ok(())
    }

    fn report(&self, tokens: u64, steps: u64) -> Result<RunReport> {
        let Train { seed, threads, .. } = self.arguments;
        let truth = surface::true_bpb(&self.config, tokens);
        let held_out = |split: Split| -> Result<Bpb> {
            let level = truth + 0.01 * f64::from(split as u8 - 1);
            Ok(Bpb::new(level + surface::noise(&self.config, seed, split as u8, self.behaviour.noise()))?)
        };
        let asked = |split: Split| -> Result<Option<Bpb>> {
            let wanted = self.arguments.splits.iter().any(|name| name == split.name());
            if wanted { held_out(split).map(Some) } else { Ok(None) }
        };
        let seconds = tokens as f64 / surface::tokens_per_second(&self.config);
        let wrong = |word: &str| u64::from(self.does(word));
        let mut report = RunReport {
            executed: self.config.hash(),
            seed: seed + wrong("wrong_seed"),
            corpus: self.corpus,
            tokenizer: self.tokenizer,
            semantics: TRAINER_SEMANTICS,
            device: self.arguments.device.clone(),
            dtype: self.arguments.dtype.clone(),
            threads,
            steps,
            tokens: tokens + wrong("wrong_tokens"),
            flops: tokens as f64 * surface::flops_per_token(&self.config),
            parameters: surface::parameters(&self.config),
            training_seconds: seconds,
            training_cpu_seconds: seconds * f64::from(threads),
            startup_seconds: 0.001,
            evaluation_seconds: 0.001,
            peak_memory_bytes: 16 * surface::parameters(&self.config) + (64 << 20),
            initial_loss: f64::from(surface::VOCABULARY).ln(),
            curve: (1..=8).map(|i| curve_point(i, tokens, steps, truth)).collect(),
            validation: held_out(Split::Validation)?,
            audit: asked(Split::Audit)?,
            locked: asked(Split::Locked)?,
        };
        if self.does("wrong_executed") {
            report.executed = autoswarm_protocol::id::ConfigHash::of(b"another");
        }
        if self.does("wrong_corpus") {
            report.corpus = CorpusHash::of(b"another");
        }
        Ok(report)
    }
}

fn curve_point(eighth: u64, tokens: u64, steps: u64, truth: f64) -> CurvePoint {
    let left = 1.0 - eighth as f64 / 8.0;
    let loss = (truth + 2.0 * left) * std::f64::consts::LN_2;
    CurvePoint { step: steps * eighth / 8, tokens: tokens * eighth / 8, loss }
}

/// Takes and touches memory until it is stopped, 4 GiB at most.
fn take_memory() -> ! {
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(vec![1u8; 16 << 20]);
        thread::sleep(Duration::from_millis(5));
    }
    stop()
}

fn prepare(out: &Path) -> Result<()> {
    let behaviour = Behaviour::load(out);
    let (corpus, tokenizer) = (CorpusHash::of(b"fake corpus"), TokenizerHash::of(b"fake tokenizer"));
    say(&TrainerEvent::Preparing { stage: "split".to_owned(), done: 0, total: 1 })?;
    if behaviour.value("silent").is_some() {
        stop();
    }
    fs::create_dir_all(out)?;
    let manifest = serde_json::json!({ "corpus": corpus, "tokenizer": tokenizer, "fake": true });
    // Renamed into place, as the real trainer does: a kill leaves no half-written manifest.
    let new = out.join(format!("dataset.json.{}", std::process::id()));
    fs::write(&new, manifest.to_string())?;
    fs::rename(new, out.join("dataset.json"))?;
    let summary = |split| SplitSummary { split, bytes: 1 << 20, tokens: 1 << 20, overlap: 0.0 };
    let splits = Split::ALL.into_iter().map(summary).collect();
    say(&TrainerEvent::Prepared { corpus, tokenizer, vocabulary: surface::VOCABULARY, splits })
}
