//! The dataset of an objective: the trainer prepares it once, and later sessions find it again.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use autoswarm_protocol::{
    Split, TrainerEvent,
    id::{CorpusHash, TokenizerHash},
    swarm_config::{CorpusSource, Objective, TokenizerRule},
};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::runs::supervisor::{self, Control, PrepareSpec};

/// Longest silence of a preparation: over a slow line, one crate may take minutes.
const SILENCE: Duration = Duration::from_mins(10);

/// A prepared dataset, ready to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The folder that holds it.
    pub folder: PathBuf,
    /// Hash of the text that it holds.
    pub corpus: CorpusHash,
    /// Hash of the tokenizer that made its tokens.
    pub tokenizer: TokenizerHash,
    /// Number of distinct token ids.
    pub vocabulary: u32,
    /// Tokens of the smallest held-out split, where the text is the user's own; none for the pinned crates.
    pub held_out_tokens: Option<u64>,
}

/// The part of the trainer's `dataset.json` that the node reads.
#[derive(Deserialize)]
struct DatasetManifest {
    corpus: CorpusHash,
    tokenizer: TokenizerHash,
    vocabulary: u32,
}

/// Finds the objective's dataset below `data`, or has the trainer prepare it. `news` is called with the
/// stage, the units done and the units in all.
pub async fn prepare(
    objective: &Objective,
    trainer: &Path,
    data: &Path,
    threads: u16,
    mut news: impl FnMut(&str, u64, u64),
) -> anyhow::Result<Dataset> {
    let folder = data.join(folder_name(objective));
    if let Some(dataset) = found(objective, &folder) {
        return Ok(dataset);
    }
    let spec = PrepareSpec {
        trainer: trainer.to_owned(),
        arguments: arguments(objective, &folder),
        threads,
        silence: SILENCE,
        folder: data.join("log"),
    };
    let (sender, mut events) = mpsc::channel(64);
    // Nobody pauses or cancels a preparation; its sender only keeps the channel open.
    let (_control, watch) = watch::channel(Control::Run);
    let preparation = supervisor::prepare(spec, sender, watch);
    tokio::pin!(preparation);
    let result = loop {
        tokio::select! {
            result = &mut preparation => break result,
            Some(progress) = events.recv() => {
                if let TrainerEvent::Preparing { stage, done, total } = progress.event {
                    news(&stage, done, total);
                }
            }
        }
    };
    let prepared = match result.context("the preparation was cancelled")? {
        Ok(prepared) => prepared,
        Err(crash) => bail!("the corpus could not be prepared: {}", crash.message),
    };
    check(objective, prepared.corpus)?;
    let (corpus, tokenizer) = (prepared.corpus, prepared.tokenizer);
    let held_out =
        prepared.splits.iter().filter(|split| split.split != Split::Train).map(|split| split.tokens);
    let held_out_tokens = held_out.min().filter(|_| objective.corpus != CorpusSource::Crates);
    Ok(Dataset { folder, corpus, tokenizer, vocabulary: prepared.vocabulary, held_out_tokens })
}

/// Checks that the corpus is the one that the swarm config pins, where it pins one.
fn check(objective: &Objective, corpus: CorpusHash) -> anyhow::Result<()> {
    match objective.corpus_hash {
        Some(pinned) if pinned != corpus => bail!(
            "the corpus has the hash {corpus}, but the swarm config pins {pinned}: use the corpus that it \
             was written for, or drop `blake3` to make an objective of your own"
        ),
        _ => Ok(()),
    }
}

/// Returns the dataset in `folder` if it can be used as it is. Text of the user's own may have changed since,
/// so it is read again; the pinned crates cannot have changed.
fn found(objective: &Objective, folder: &Path) -> Option<Dataset> {
    if objective.corpus != CorpusSource::Crates {
        return None;
    }
    let manifest: DatasetManifest =
        serde_json::from_slice(&fs::read(folder.join("dataset.json")).ok()?).ok()?;
    check(objective, manifest.corpus).ok()?;
    let DatasetManifest { corpus, tokenizer, vocabulary } = manifest;
    Some(Dataset { folder: folder.to_owned(), corpus, tokenizer, vocabulary, held_out_tokens: None })
}

fn tokenizer_name(rule: TokenizerRule) -> String {
    match rule {
        TokenizerRule::Bytes => "bytes".to_owned(),
        TokenizerRule::Bpe(size) => format!("bpe:{size}"),
    }
}

fn folder_name(objective: &Objective) -> String {
    let source = match &objective.corpus {
        CorpusSource::Crates => "crates".to_owned(),
        CorpusSource::Path(path) => format!("path-{}", &blake3::hash(path.as_bytes()).to_hex()[..12]),
    };
    format!("{source}-{}", tokenizer_name(objective.tokenizer).replace(':', "-"))
}

fn arguments(objective: &Objective, folder: &Path) -> Vec<OsString> {
    let source = match &objective.corpus {
        CorpusSource::Crates => "crates",
        CorpusSource::Path(path) => path,
    };
    let mut arguments: Vec<OsString> = vec!["--corpus".into(), source.into()];
    if let Some(hash) = objective.corpus_hash {
        arguments.extend(["--expect-corpus".into(), hash.to_string().into()]);
    }
    arguments.extend(["--tokenizer".into(), tokenizer_name(objective.tokenizer).into()]);
    arguments.extend(["--out".into(), folder.into(), "--json".into()]);
    arguments
}
