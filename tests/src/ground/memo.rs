//! Results of real runs in a file of JSON lines, so that nothing is trained twice.
//!
//! An interrupted comparison goes on from it. A line is a price or a run. Several processes may append to one
//! file; each sees the lines that were there when it opened the file, and its own.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use autoswarm_protocol::{
    EffectiveConfig, Outcome,
    id::{ConfigHash, SpeedHash},
};
use serde::{Deserialize, Serialize};

use super::Answer;
use crate::surrogate::runs::{CONTEXT, config_text, parse_config};

/// A line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// A config's speed, measured by a short run.
    Price { config: String, price: Price },
    /// A whole run and its answer.
    Run { config: String, seed: u64, tokens: u64, outcome: Outcome, seconds: f64, beside: f64 },
}

/// The measured speed of a config.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Price {
    /// Tokens per CPU second; none where the short run gave no number.
    pub(super) tokens_per_second: Option<f64>,
    /// CPU seconds that the short run took.
    pub(super) seconds: f64,
}

/// Remembered prices and runs.
#[derive(Debug, Default)]
pub struct Memo {
    file: Option<(PathBuf, File)>,
    prices: BTreeMap<SpeedHash, Price>,
    runs: BTreeMap<(ConfigHash, u64, u64), Answer>,
}

impl Memo {
    /// Opens a file, or creates it; an error names the line that is wrong.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`")),
        };
        let mut memo = Self::default();
        // A last line without its end was cut off by the death of its writer.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (index, line) in text[..whole].lines().enumerate() {
            let read = || -> anyhow::Result<(Line, EffectiveConfig)> {
                let line: Line = serde_json::from_str(line)?;
                let (Line::Price { config, .. } | Line::Run { config, .. }) = &line;
                let config = parse_config(config).map_err(anyhow::Error::msg)?.effective(CONTEXT);
                Ok((line, config))
            };
            let (line, config) =
                read().with_context(|| format!("`{shown}`, line {}: not a remembered run", index + 1))?;
            memo.take(line, &config);
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write to `{shown}`"))?;
        if whole < text.len() {
            file.set_len(whole as u64).with_context(|| format!("cannot shorten `{shown}`"))?;
        }
        memo.file = Some((path.to_owned(), file));
        Ok(memo)
    }

    /// Returns how many runs are remembered.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn price(&self, speed: SpeedHash) -> Option<Price> {
        self.prices.get(&speed).copied()
    }

    pub(super) fn run(&self, config: ConfigHash, tokens: u64, seed: u64) -> Option<&Answer> {
        self.runs.get(&(config, tokens, seed))
    }

    pub(super) fn remember_price(&mut self, config: &EffectiveConfig, price: Price) -> anyhow::Result<()> {
        self.remember(Line::Price { config: config_text(config), price }, config)
    }

    /// Remembers a run; an error if its data or its trainer are not those of the runs before.
    pub(super) fn remember_run(
        &mut self,
        config: &EffectiveConfig,
        tokens: u64,
        seed: u64,
        answer: Answer,
    ) -> anyhow::Result<()> {
        let of = |answer: &Answer| {
            let report = answer.outcome.report()?;
            Some((report.corpus, report.tokenizer, report.semantics))
        };
        let known = self.runs.values().find_map(of);
        if let (Some(known), Some(new), Some((path, _))) = (known, of(&answer), &self.file)
            && known != new
        {
            bail!(
                "the runs in `{}` are of another corpus or another trainer; name another file",
                path.display()
            );
        }
        let Answer { outcome, seconds, beside } = answer;
        self.remember(
            Line::Run { config: config_text(config), seed, tokens, outcome, seconds, beside },
            config,
        )
    }

    fn remember(&mut self, line: Line, config: &EffectiveConfig) -> anyhow::Result<()> {
        if let Some((path, file)) = &mut self.file {
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            // In one piece, so that two writers' lines do not mix.
            file.write_all(text.as_bytes())
                .with_context(|| format!("cannot write to `{}`", path.display()))?;
        }
        self.take(line, config);
        Ok(())
    }

    fn take(&mut self, line: Line, config: &EffectiveConfig) {
        match line {
            Line::Price { price, .. } => {
                self.prices.entry(config.speed_hash()).or_insert(price);
            }
            Line::Run { seed, tokens, outcome, seconds, beside, .. } => {
                let answer = Answer { outcome, seconds, beside };
                self.runs.entry((config.hash(), tokens, seed)).or_insert(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{Crash, CrashClass};

    use super::*;
    use crate::surrogate::start;

    fn crashed(seconds: f64) -> Answer {
        let crash = Crash { class: CrashClass::Diverged, message: "far away".to_owned(), seconds };
        Answer { outcome: Outcome::Crashed(crash), seconds, beside: 0.5 }
    }

    #[test]
    fn what_is_written_is_known_again_and_a_torn_line_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("runs.jsonl");
        let price = Price { tokens_per_second: Some(81_000.25), seconds: 0.3 };
        let mut memo = Memo::open(&path).expect("a new file");
        memo.remember_price(&start(), price).expect("written");
        memo.remember_run(&start(), 4096, u64::MAX, crashed(1.25)).expect("written");
        let whole = std::fs::read_to_string(&path).expect("readable");
        std::fs::write(&path, format!("{whole}{{\"run\":{{\"config")).expect("written");
        let mut again = Memo::open(&path).expect("a torn line is no damage");
        assert_eq!(again.price(start().speed_hash()), Some(price));
        assert_eq!(again.run(start().hash(), 4096, u64::MAX), Some(&crashed(1.25)));
        assert_eq!(again.run(start().hash(), 4096, 1), None);
        again.remember_run(&start(), 4096, 1, crashed(2.0)).expect("written");
        assert_eq!(Memo::open(&path).expect("well-formed").runs(), 2);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("runs.jsonl");
        std::fs::write(&path, "{}\n").expect("written");
        let error = format!("{:#}", Memo::open(&path).expect_err("no line of ours"));
        assert!(error.contains("line 1"), "{error}");
    }
}
