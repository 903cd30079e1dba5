//! The real trainer as a ground: one child process on one thread.
//!
//! Much as in `scripts/surface/collect.py`, a short run prices a config's speed once, and a run has the
//! tokens that its price buys in [`SECONDS`] CPU seconds. The virtual clock moves by what the price says, not
//! by what the run took: other work on the same core can double that, and no method shall pay for the hour at
//! which it ran. Finished runs are remembered.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;
use autoswarm_node::{cli::settings, objectives::train::calibrated::calibrated_start};
use autoswarm_protocol::{
    Crash, CrashClass, EffectiveConfig, Knob, Outcome, RunReport, SwarmConfig, TrainerEvent,
};

use super::{Answer, Ask, FEWEST_STEPS, Ground, Memo, SECONDS, memo::Price};

/// Tokens of each split that a run is evaluated on, as in the runs of the surface.
const EVALUATION_TOKENS: u64 = 131_072;
/// Tokens of the evaluation of a short run, whose value nobody looks at.
const PRICE_EVALUATION_TOKENS: u64 = 1024;
/// Training seconds of a short run, by a rough guess of the speed, and its fewest and most steps. The seconds
/// are four times those of collect.py: a price is taken only once, and a search that tries many shapes would
/// profit from the ones that were priced too fast.
const PRICE_SECONDS: f64 = 1.0;
const PRICE_STEPS: (f64, f64) = (4.0, 240.0);
/// The rough guess of the speed: FLOP/s, and the seconds of a step beside its products. // measured 2026-11
const ROUGH: (f64, f64) = (2e10, 0.004);
/// Wall-clock caps on training, seconds: of a short run, and of a whole one, which may have to wait for its
/// core.
const CAP_SECONDS: (f64, f64) = (20.0, 900.0);
/// Training FLOP/s of one core, for the calibrated start.
const CORE_FLOPS: f64 = 6e10;
/// FLOP/s that no core here reaches: a config that needs more is not even priced, since it might fill the
/// memory.
const FASTEST: f64 = 1.5e11;
/// Seconds charged for such a config, as on the surface.
const HOPELESS_SECONDS: f64 = 2.0;
/// Ticks of a second in `/proc`: proc(5); 100 on every Linux that Autoswarm runs on.
const TICKS: f64 = 100.0;

/// The trainer and the runs that it has made.
#[derive(Debug)]
pub struct TrainerGround {
    trainer: PathBuf,
    data: PathBuf,
    memo: Memo,
    made: usize,
    start: EffectiveConfig,
}

impl TrainerGround {
    /// Makes a ground of a trainer and a dataset that `trainer prepare` wrote. From now on this process and
    /// its children run at the lowest priority.
    pub fn new(trainer: &Path, data: &Path, memo: Memo) -> anyhow::Result<Self> {
        rustix::process::nice(19).context("cannot give way to other work")?;
        let objective = SwarmConfig::parse(settings::BUILT_IN[0].1)?.objective;
        let start = calibrated_start(CORE_FLOPS, SECONDS, &objective).effective(objective.context as usize);
        Ok(Self { trainer: trainer.to_owned(), data: data.to_owned(), memo, made: 0, start })
    }

    /// Returns how many runs were made now, those from memory left out.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Returns a config's speed, and the CPU seconds that measuring took. The start's speed is measured at
    /// the same time, and the ratio of the two is applied to the start's speed of an earlier hour. Other work
    /// on the same core slows both alike, which CPU seconds do not show.
    fn price(&mut self, ask: &Ask<'_>) -> anyhow::Result<Price> {
        let speed = ask.config.speed_hash();
        if let Some(price) = self.memo.price(speed) {
            return Ok(price);
        }
        let start = self.start.clone();
        let of_start = Ask { config: &start, ..*ask };
        let price = if is_hopeless(ask.config) {
            Price { tokens_per_second: None, seconds: HOPELESS_SECONDS }
        } else if start.speed_hash() == speed {
            // The fastest of three: other work can slow a run, and nothing can make it too fast.
            let looks = [self.short(ask)?, self.short(ask)?, self.short(ask)?].map(|(_, price)| price);
            let speed = |price: &Price| price.tokens_per_second.unwrap_or(0.0);
            let fastest =
                looks.into_iter().max_by(|a, b| speed(a).total_cmp(&speed(b))).context("three looks")?;
            if fastest.tokens_per_second.is_none() {
                return Ok(fastest);
            }
            fastest
        } else {
            let nominal = self.price(&of_start)?;
            let (lasting, own) = self.short(ask)?;
            // The run failed for a reason that is not the config's: nothing to remember.
            if !lasting {
                return Ok(own);
            }
            let (_, beside) = self.short(&of_start)?;
            Price { tokens_per_second: in_relation(own, nominal, beside), ..own }
        };
        self.memo.remember_price(ask.config, price)?;
        Ok(price)
    }

    /// Makes a short run; returns whether its outcome says something about its config, and how fast it was.
    fn short(&mut self, ask: &Ask<'_>) -> anyhow::Result<(bool, Price)> {
        let batch = ask.config.integer(Knob::BatchTokens) as f64;
        let step = 6.0 * batch * weights(ask.config) / ROUGH.0 + ROUGH.1;
        let steps = (PRICE_SECONDS / step).clamp(PRICE_STEPS.0, PRICE_STEPS.1).floor();
        let child = Child {
            tokens: (steps * batch) as u64,
            splits: "validation",
            evaluation: PRICE_EVALUATION_TOKENS,
            cap: CAP_SECONDS.0,
        };
        let (outcome, seconds) = self.train(ask, &child)?;
        let speed = |report: &RunReport| report.tokens as f64 / report.training_cpu_seconds.max(1e-9);
        Ok((is_lasting(&outcome), Price { tokens_per_second: outcome.report().map(speed), seconds }))
    }

    /// Runs one trainer; returns the outcome, and all the CPU seconds of the process.
    fn train(&mut self, ask: &Ask<'_>, child: &Child) -> anyhow::Result<(Outcome, f64)> {
        let file = tempfile::Builder::new().prefix("config-").suffix(".toml").tempfile()?;
        std::fs::write(file.path(), ask.config.to_toml())?;
        let before = children_seconds()?;
        let mut command = Command::new(&self.trainer);
        command.arg("train").arg("--config").arg(file.path()).arg("--data").arg(&self.data);
        command.args(["--threads", "1", "--min-steps", "1", "--json", "--splits", child.splits]);
        command.args(["--budget-tokens", &child.tokens.to_string(), "--seed", &ask.seed.to_string()]);
        command.args(["--cap-seconds", &child.cap.to_string()]);
        command.args(["--evaluation-tokens", &child.evaluation.to_string()]);
        let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
        let done = done.with_context(|| {
            format!("cannot start `{}`; `cargo build -p autoswarm-trainer` makes it", self.trainer.display())
        })?;
        let seconds = children_seconds()? - before;
        let text = String::from_utf8_lossy(&done.stdout);
        let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let crash =
            |class, message: &str| Outcome::Crashed(Crash { class, message: message.to_owned(), seconds });
        let outcome = match last {
            Some(TrainerEvent::Finished { report }) if report.executed == ask.config.hash() => {
                // CPU seconds count as seconds, so that other work on the machine costs no method anything.
                let seconds = report.training_cpu_seconds;
                Outcome::Finished(Box::new(RunReport { training_seconds: seconds, ..*report }))
            }
            Some(TrainerEvent::Finished { .. }) => {
                crash(CrashClass::ConfigMismatch, "another config was executed")
            }
            Some(TrainerEvent::Failed { class, message }) => {
                // A failure of the very first run is no finding about its config: the data may be unreadable.
                let works = class != CrashClass::Failed || self.made + self.memo.runs() > 0;
                anyhow::ensure!(works, "the trainer failed: {message}");
                crash(class, &message)
            }
            _ => crash(CrashClass::Killed, &format!("the trainer ended with {}", done.status)),
        };
        Ok((outcome, seconds))
    }
}

impl Ground for TrainerGround {
    fn start(&self) -> EffectiveConfig {
        self.start.clone()
    }

    fn run(&mut self, ask: &Ask<'_>) -> anyhow::Result<Answer> {
        let batch = ask.config.integer(Knob::BatchTokens) as f64;
        let price = self.price(ask)?;
        let speed = price.tokens_per_second.unwrap_or(0.0);
        let tokens = if let Some(tokens) = ask.tokens {
            tokens
        } else {
            let steps = (speed * SECONDS / batch).floor();
            if steps < FEWEST_STEPS {
                let message = "the price buys too few steps".to_owned();
                let crash = Crash { class: CrashClass::TooSlow, message, seconds: price.seconds };
                let outcome = Outcome::Crashed(crash);
                return Ok(Answer { outcome, seconds: price.seconds, beside: 0.0 });
            }
            (steps * batch) as u64
        };
        let nominal = if speed > 0.0 { tokens as f64 / speed } else { SECONDS };
        if let Some(answer) = self.memo.run(ask.config.hash(), tokens, ask.seed) {
            return Ok(answer.clone().taking(nominal));
        }
        let child =
            Child { tokens, splits: "validation,audit", evaluation: EVALUATION_TOKENS, cap: CAP_SECONDS.1 };
        let (outcome, all) = self.train(ask, &child)?;
        self.made += 1;
        let seconds = outcome.report().map_or(all, |report| report.training_cpu_seconds);
        let answer = Answer { outcome, seconds, beside: (all - seconds).max(0.0) };
        if is_lasting(&answer.outcome) {
            self.memo.remember_run(ask.config, tokens, ask.seed, answer.clone())?;
        }
        Ok(answer.taking(nominal))
    }

    fn truth(&mut self, _machine: usize, _config: &EffectiveConfig) -> Option<f64> {
        None
    }
}

/// Returns a config's speed at the hour when the start's was `nominal`; just now the start's was `beside`,
/// and the config's was `own`.
fn in_relation(own: Price, nominal: Price, beside: Price) -> Option<f64> {
    let own = own.tokens_per_second?;
    let relation = nominal.tokens_per_second.zip(beside.tokens_per_second);
    Some(relation.map_or(own, |(nominal, beside)| own * nominal / beside))
}

/// Returns whether an outcome says something about its config, and would come out the same again.
fn is_lasting(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Crashed(crash) if !crash.class.blames_config())
}

/// What one process of the trainer is to do: tokens, splits, evaluation tokens, and the cap in seconds.
struct Child {
    tokens: u64,
    splits: &'static str,
    evaluation: u64,
    cap: f64,
}

/// Returns roughly how many weights take part in products.
fn weights(config: &EffectiveConfig) -> f64 {
    let (depth, width) = (config.integer(Knob::Depth) as f64, config.integer(Knob::Width) as f64);
    12.0 * depth * width * width + 512.0 * width
}

/// Returns whether a config's fewest steps would take longer than [`SECONDS`] even at [`FASTEST`].
fn is_hopeless(config: &EffectiveConfig) -> bool {
    let batch = config.integer(Knob::BatchTokens) as f64;
    6.0 * batch * weights(config) * FEWEST_STEPS / FASTEST > SECONDS
}

/// Returns the CPU seconds of all child processes that have ended.
fn children_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("cannot read `/proc/self/stat`")?;
    // The name in brackets may hold anything; the fields after it begin with the third: proc(5).
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |place: usize| fields.get(place - 3).and_then(|field| field.parse::<f64>().ok());
    let both = ticks(16).zip(ticks(17)).context("`/proc/self/stat` has no times of children")?;
    Ok((both.0 + both.1) / TICKS)
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::{TrainConfig, Value};

    use super::*;
    use crate::surrogate::start;

    #[test]
    fn a_giant_is_not_even_priced() {
        assert!(!is_hopeless(&start()));
        let giant = TrainConfig::new().with(Knob::Width, Value::Integer(4096)).expect("in range");
        assert!(is_hopeless(&giant.effective(256)));
    }

    #[test]
    fn a_busy_hour_slows_the_start_as_much_as_what_is_priced_beside_it() {
        let price = |speed| Price { tokens_per_second: speed, seconds: 1.0 };
        let [nominal, slowed] = [price(Some(100e3)), price(Some(50e3))];
        assert_eq!(in_relation(price(Some(40e3)), nominal, slowed), Some(80e3));
        assert_eq!(in_relation(price(Some(40e3)), nominal, price(None)), Some(40e3));
        assert_eq!(in_relation(price(None), nominal, slowed), None);
    }

    #[test]
    fn the_cpu_seconds_of_a_child_are_seen() {
        let before = children_seconds().expect("readable");
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let done = Command::new("sh").args(["-c", busy]).status().expect("a shell");
        assert!(done.success());
        assert!(children_seconds().expect("readable") > before);
    }
}
