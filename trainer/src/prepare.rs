//! `trainer prepare`: turns a corpus, with a tokenizer, into the folder that runs read.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::Context;
use autoswarm_protocol::{
    Split,
    event::{SplitSummary, TrainerEvent},
    id::CorpusHash,
    outcome::CrashClass,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::harness::{
    corpus::{Corpus, Progress, crates, folder, store},
    dataset::{self, Manifest},
    tokenizer::{Tokenizer, TokenizerSpec},
};

/// The arguments of `trainer prepare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take the text from the pinned crates (`crates`), or from a folder or file of UTF-8 text
    #[arg(long, value_name = "crates|PATH", default_value = "crates")]
    pub corpus: CorpusSource,
    /// Fail unless the corpus has this id
    #[arg(long, value_name = "HASH")]
    pub expect_corpus: Option<CorpusHash>,
    /// Make tokens of bytes, or of byte pairs learned from the training split
    #[arg(long, value_name = "bytes|bpe:N", default_value = "bytes")]
    pub tokenizer: TokenizerSpec,
    /// Write the dataset to this folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Report progress and the result as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// The source of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorpusSource {
    /// The source and documentation of the pinned crates.
    Crates,
    /// A folder of text files, or one file.
    Path(PathBuf),
}

impl FromStr for CorpusSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "crates" { Self::Crates } else { Self::Path(text.into()) })
    }
}

/// Prepares the dataset and reports it. With `--json` a failure is an event too.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut reporter = Reporter::new(args.json);
    let result = prepare(args, &mut |stage, done, total| reporter.progress(stage, done, total));
    match result {
        Ok((manifest, notes)) => reporter.finish(&args.out, &manifest, &notes),
        Err(error) => {
            reporter.fail(&error)?;
            Err(error)
        }
    }
}

/// Prepares the dataset. Returns its manifest, and notes on what was left out.
pub fn prepare(args: &Args, progress: Progress<'_>) -> anyhow::Result<(Manifest, Vec<String>)> {
    let (name, corpus) = read_corpus(&args.corpus, progress)?;
    corpus.check_hash(&name, args.expect_corpus)?;
    corpus.check_size(&name)?;
    let tokenizer = Tokenizer::train(args.tokenizer, &corpus, progress)?;
    let manifest = dataset::write(&args.out, &corpus, &tokenizer, progress)?;
    Ok((manifest, corpus.notes().to_vec()))
}

/// Returns the corpus, with its name for messages.
fn read_corpus(source: &CorpusSource, progress: Progress<'_>) -> anyhow::Result<(String, Corpus)> {
    match source {
        CorpusSource::Crates => {
            let corpus = crates::read(&store::default_cache()?, progress)?;
            Ok(("crates".to_owned(), corpus))
        }
        CorpusSource::Path(path) => Ok((path.display().to_string(), folder::read(path, progress)?)),
    }
}

/// The most progress events per second.
const EVENTS_PER_SECOND: u64 = 5;

/// Reports progress: bars on standard error for a person, or JSON lines on standard output for a parent.
struct Reporter {
    json: bool,
    stage: String,
    bar: ProgressBar,
    last_event: Option<Instant>,
}

impl Reporter {
    fn new(json: bool) -> Self {
        Self { json, stage: String::new(), bar: ProgressBar::hidden(), last_event: None }
    }

    fn progress(&mut self, stage: &str, done: u64, total: u64) {
        let new_stage = self.stage != stage;
        if self.json {
            let pause = Duration::from_millis(1000 / EVENTS_PER_SECOND);
            let due = self.last_event.is_none_or(|last| last.elapsed() >= pause);
            if new_stage || due || done == total {
                self.last_event = Some(Instant::now());
                // A failing write is ignored: a parent that is gone ends the preparation with its own signal.
                let _ = emit(&TrainerEvent::Preparing { stage: stage.to_owned(), done, total });
            }
        } else {
            if new_stage {
                self.bar.finish_and_clear();
                self.bar = bar(stage, total);
            }
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
        if new_stage {
            stage.clone_into(&mut self.stage);
        }
    }

    fn finish(&mut self, out: &Path, manifest: &Manifest, notes: &[String]) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        let mut narration = io::stderr().lock();
        for note in notes {
            writeln!(narration, "{note}")?;
        }
        if self.json {
            return emit(&prepared(manifest)).context("cannot write to standard output");
        }
        let mut output = io::stdout().lock();
        writeln!(output, "dataset    {}", out.display())?;
        writeln!(output, "corpus     {}", manifest.corpus)?;
        writeln!(output, "tokenizer  {} ({} ids)", manifest.tokenizer_kind, manifest.vocabulary)?;
        for split in Split::ALL {
            let figures = &manifest.splits[&split];
            let megabytes = figures.bytes as f64 / 1e6;
            write!(output, "{:<10} {:>8} documents {megabytes:>9.3} MB", split.name(), figures.documents)?;
            write!(output, " {:>12} tokens", figures.tokens)?;
            if Split::HELD_OUT.contains(&split) {
                write!(output, "  {:.1} % also in training", figures.overlap * 100.0)?;
            }
            writeln!(output)?;
        }
        Ok(())
    }

    fn fail(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        if self.json {
            let message = format!("{error:#}");
            emit(&TrainerEvent::Failed { class: CrashClass::Failed, message })?;
        }
        Ok(())
    }
}

fn bar(stage: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{msg:<10} [{bar:30}] {pos}/{len}  {eta}")
        .expect("the template is well-formed")
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_message(stage.to_owned());
    bar
}

fn prepared(manifest: &Manifest) -> TrainerEvent {
    let summary = |split| {
        let figures = &manifest.splits[&split];
        SplitSummary { split, bytes: figures.bytes, tokens: figures.tokens, overlap: figures.overlap }
    };
    TrainerEvent::Prepared {
        corpus: manifest.corpus,
        tokenizer: manifest.tokenizer,
        vocabulary: manifest.vocabulary as u32,
        splits: Split::ALL.into_iter().map(summary).collect(),
    }
}

fn emit(event: &TrainerEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}
