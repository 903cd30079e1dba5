//! One run: price, train, evaluate, report.

use std::{path::PathBuf, time::Instant};

use autoswarm_protocol::{
    CrashClass, EffectiveConfig, Knob, Pruned, RunReport, Split, TrainConfig, TrainerEvent,
    outcome::TRAINER_SEMANTICS, pruning::PruneBounds,
};
use tch::{Device, Kind, Tensor};

use crate::{
    checkpoint,
    device::{self, DeviceName, Dtype},
    events::{Limiter, Sink},
    failure::Failure,
    harness::{
        budget::{self, Budget, Deadline, Watch},
        cpu_time::process_cpu_seconds,
        dataset::Dataset,
        evaluate::{self, Rule},
        price::{self, Price},
    },
    learner::Learner,
    model::{Model, Shape},
    report::{self, Curve},
};

/// The loss, in nats per token, above which a run counts as diverged. // karpathy/autoresearch
const DIVERGED: f64 = 100.0;

/// The cap in seconds that is reported if there is none: 31 years.
const NO_CAP: f64 = 1e9;

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct TrainSettings {
    /// The config as it was requested.
    pub config: TrainConfig,
    /// The folder of a prepared dataset.
    pub data: PathBuf,
    /// The budget of training.
    pub budget: Budget,
    /// The seed of the initial values, the order of the data and dropout.
    pub seed: u64,
    /// The device to compute on.
    pub device: DeviceName,
    /// Threads on a CPU; by default one per core.
    pub threads: Option<u16>,
    /// Number format of the matrix products.
    pub dtype: Dtype,
    /// The hard cap of training, in seconds, after which the run has failed. By default it is a budget of
    /// seconds and a little more; a budget of tokens has none.
    pub cap_seconds: Option<f64>,
    /// The splits to evaluate; validation always is.
    pub splits: Vec<Split>,
    /// The context and the number of tokens of an evaluation.
    pub rule: Rule,
    /// The smallest number of steps that a budget of seconds must buy.
    pub min_steps: u64,
    /// The file to save the model to, if any.
    pub save: Option<PathBuf>,
    /// The bounds of pruning; none for a run that is not pruned.
    pub prune: Option<PruneBounds>,
}

/// The end of a run that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// The run gave a number.
    Finished(Box<RunReport>),
    /// The run was too far behind and was stopped early.
    Pruned(Pruned),
}

/// A run that is set up: its input is read and its device is open.
#[derive(Debug)]
struct Run<'a> {
    settings: &'a TrainSettings,
    watch: &'a Watch,
    config: EffectiveConfig,
    dataset: Dataset,
    device: Device,
    kind: Kind,
    threads: u16,
    started: Instant,
}

/// The measurements of a whole training.
struct Trained {
    steps: u64,
    tokens: u64,
    seconds: f64,
    cpu_seconds: f64,
    startup_seconds: f64,
    initial_loss: f64,
    curve: Curve,
}

/// The end of training that did not fail.
enum Training {
    Done(Trained),
    Pruned(Pruned),
}

/// Runs one experiment and returns how it ended. `emit` receives every event but the last, which is left to
/// the caller.
pub fn run(settings: &TrainSettings, watch: &Watch, emit: Sink<'_>) -> Result<Ended, Failure> {
    let run = Run::new(settings, watch, emit)?;
    let price = match settings.budget {
        Budget::Seconds(seconds) => Some(run.price(seconds, emit)?),
        Budget::Tokens(_) => None,
    };
    match run.train(price.as_ref(), emit)? {
        (_, Training::Pruned(pruned)) => Ok(Ended::Pruned(pruned)),
        (learner, Training::Done(trained)) => {
            run.finish(&learner.model, trained, emit).map(|report| Ended::Finished(Box::new(report)))
        }
    }
}

/// Prices a config without training it. The node does this while it holds the machine's lock.
pub fn price_only(settings: &TrainSettings, watch: &Watch, emit: Sink<'_>) -> Result<(), Failure> {
    let run = Run::new(settings, watch, emit)?;
    match settings.budget {
        Budget::Seconds(seconds) => run.price(seconds, emit).map(|_| ()),
        Budget::Tokens(_) => Err(Failure::own("a price is for a budget of seconds; give --budget-seconds")),
    }
}

impl<'a> Run<'a> {
    fn new(settings: &'a TrainSettings, watch: &'a Watch, emit: Sink<'_>) -> Result<Self, Failure> {
        let started = Instant::now();
        let dataset = Dataset::open(&settings.data)?;
        let device = settings.device.open()?;
        let threads = device::set_threads(settings.threads);
        let config = settings.config.effective(settings.rule.context);
        let shape = Shape::new(&config, dataset.vocabulary_size(), settings.rule.context);
        let parameters = Model::parameter_count(&config, &shape);
        emit(TrainerEvent::Starting {
            config: config.hash(),
            seed: settings.seed,
            device: settings.device.to_string(),
            threads,
            parameters,
            flops_per_token: shape.flops_per_token(config.integer(Knob::SequenceLength)),
        });
        if device == Device::Cpu {
            check_memory(parameters, report::available_bytes())?;
        }
        let kind = settings.dtype.resolve(device);
        Ok(Self { settings, watch, config, dataset, device, kind, threads, started })
    }

    fn tokens_per_step(&self) -> u64 {
        (self.config.sequences_per_step() * self.config.integer(Knob::SequenceLength)) as u64
    }

    fn learner(&self) -> Result<Learner<'_>, Failure> {
        let TrainSettings { seed, rule, .. } = *self.settings;
        Learner::new(&self.config, &self.dataset, rule.context, seed, self.kind, self.device)
    }

    /// Prices the config with a learner that is then thrown away.
    fn price(&self, seconds: f64, emit: Sink<'_>) -> Result<Price, Failure> {
        let mut learner = self.learner()?;
        let mut step = |deadline: &Deadline| {
            let loss = learner.step(0.0, deadline)?;
            let _ = loss.double_value(&[]); // waits for the device
            Ok(())
        };
        let mut set_deadline = |deadline: &Deadline| self.watch.set(deadline);
        let price = price::price(
            seconds,
            self.settings.min_steps,
            self.tokens_per_step(),
            &mut set_deadline,
            &mut step,
        );
        self.watch.lift();
        let price = price?;
        let steps = budget::affordable_steps(price.tokens_per_second, seconds, self.tokens_per_step());
        emit(TrainerEvent::Priced {
            tokens_per_second: price.tokens_per_second,
            tokens: steps * self.tokens_per_step(),
            cpu_share: price.cpu_share,
            seconds: price.seconds,
        });
        if steps < self.settings.min_steps {
            let message = format!(
                "the {seconds} s budget buys {steps} steps at {:.0} tokens/s, fewer than {}",
                price.tokens_per_second, self.settings.min_steps
            );
            return Err(Failure::new(CrashClass::TooSlow, message));
        }
        Ok(price)
    }

    /// Returns the number of steps, and the hard cap of training in seconds, if there is one.
    fn plan(&self, price: Option<&Price>) -> (u64, Option<f64>) {
        let default_cap = |seconds| Some(budget::hard_cap(seconds));
        let (steps, cap) = match (self.settings.budget, price) {
            (Budget::Seconds(seconds), Some(price)) => {
                let steps =
                    budget::affordable_steps(price.tokens_per_second, seconds, self.tokens_per_step());
                (steps, default_cap(seconds))
            }
            (Budget::Seconds(seconds), None) => (1, default_cap(seconds)),
            (Budget::Tokens(tokens), _) => (budget::steps_of(tokens, self.tokens_per_step()), None),
        };
        (steps, self.settings.cap_seconds.or(cap))
    }

    /// Trains a new learner, reading losses and telling progress, until the last step or until it is pruned.
    fn train(&self, price: Option<&Price>, emit: Sink<'_>) -> Result<(Learner<'_>, Training), Failure> {
        let mut learner = self.learner()?;
        let (steps, cap) = self.plan(price);
        let tokens = steps * self.tokens_per_step();
        let startup_seconds = self.started.elapsed().as_secs_f64();
        let deadline = cap.map_or_else(Deadline::never, |cap| {
            Deadline::after(cap, CrashClass::TimedOut, format!("training passed its hard cap of {cap:.1} s"))
        });
        emit(TrainerEvent::TrainingStarted { tokens, steps, cap_seconds: cap.unwrap_or(NO_CAP) });
        self.watch.set(&deadline);
        let (started, cpu) = (Instant::now(), process_cpu_seconds());
        let mut log = Log::new(steps, self.tokens_per_step(), started, self.settings.prune);
        for step in 0..steps {
            deadline.check()?;
            let loss = learner.step(step as f64 / steps as f64, &deadline)?;
            log.push(loss, emit)?;
            if log.passed.is_some() {
                break;
            }
        }
        // The log reads one step late, so the last loss is still to be read.
        if log.passed.is_none() {
            log.read_pending(emit)?;
        }
        self.watch.lift();
        let (seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), process_cpu_seconds() - cpu);
        if let Some(Passed { step, loss, bound }) = log.passed {
            let pruned = Pruned {
                step,
                steps,
                tokens,
                loss,
                bound,
                training_seconds: seconds,
                training_cpu_seconds: cpu_seconds,
                startup_seconds,
            };
            return Ok((learner, Training::Pruned(pruned)));
        }
        let (initial_loss, curve) = (log.initial, log.curve);
        let trained = Trained { steps, tokens, seconds, cpu_seconds, startup_seconds, initial_loss, curve };
        Ok((learner, Training::Done(trained)))
    }

    /// Evaluates a trained model, and saves it if asked. Returns the report of the run.
    fn finish(&self, model: &Model, trained: Trained, emit: Sink<'_>) -> Result<RunReport, Failure> {
        let started = Instant::now();
        let cap = budget::evaluation_cap(trained.seconds);
        let message = format!("evaluation passed its cap of {cap:.1} s");
        let deadline = Deadline::after(cap, CrashClass::EvaluationTimedOut, message);
        self.watch.set(&deadline);
        let mut evaluate = |split| {
            emit(TrainerEvent::Evaluating { split, done: 0, total: self.settings.rule.tokens });
            let mut limiter = Limiter::new();
            let rule = self.settings.rule;
            let batch = evaluate::batch_windows(model, rule);
            evaluate::evaluate(model, &self.dataset, split, rule, batch, &deadline, &mut |done, total| {
                if done == total || limiter.ready() {
                    emit(TrainerEvent::Evaluating { split, done, total });
                }
            })
        };
        let validation = evaluate(Split::Validation)?;
        let mut where_asked = |split| {
            if self.settings.splits.contains(&split) { evaluate(split).map(Some) } else { Ok(None) }
        };
        let (audit, locked) = (where_asked(Split::Audit)?, where_asked(Split::Locked)?);
        self.watch.lift();
        if let Some(path) = &self.settings.save {
            checkpoint::save(path, model, &self.settings.config, self.settings.rule.context, &self.dataset)?;
        }
        let sequence = self.config.integer(Knob::SequenceLength);
        Ok(RunReport {
            executed: self.config.hash(),
            seed: self.settings.seed,
            corpus: self.dataset.manifest().corpus,
            tokenizer: self.dataset.manifest().tokenizer,
            semantics: TRAINER_SEMANTICS,
            device: self.settings.device.to_string(),
            dtype: device::kind_name(self.kind).to_owned(),
            threads: self.threads,
            steps: trained.steps,
            tokens: trained.tokens,
            flops: trained.tokens as f64 * model.shape.flops_per_token(sequence),
            parameters: model.parameters.count(),
            training_seconds: trained.seconds,
            training_cpu_seconds: trained.cpu_seconds,
            startup_seconds: trained.startup_seconds,
            evaluation_seconds: started.elapsed().as_secs_f64(),
            peak_memory_bytes: device::peak_bytes(self.device),
            initial_loss: trained.initial_loss,
            curve: trained.curve.into_points(),
            validation,
            audit,
            locked,
        })
    }
}

/// Refuses a model whose weights, gradients and two moments alone do not fit into memory.
fn check_memory(parameters: u64, available: Option<u64>) -> Result<(), Failure> {
    let needed = parameters.saturating_mul(4 * 4);
    match available {
        Some(available) if needed > available => {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let message = format!(
                "{parameters} parameters take {:.1} GB before any activation, and {:.1} GB are free",
                gigabytes(needed),
                gigabytes(available)
            );
            Err(Failure::new(CrashClass::OutOfMemory, message))
        }
        _ => Ok(()),
    }
}

/// The point at which a run was above its bound.
struct Passed {
    step: u64,
    loss: f64,
    bound: f64,
}

/// Reads and reports losses one step late, so that a GPU always has its next step queued.
struct Log {
    curve: Curve,
    prune: Option<PruneBounds>,
    passed: Option<Passed>,
    initial: f64,
    tokens_per_step: u64,
    done: u64,
    pending: Option<Tensor>,
    limiter: Limiter,
    started: Instant,
}

impl Log {
    fn new(steps: u64, tokens_per_step: u64, started: Instant, prune: Option<PruneBounds>) -> Self {
        Self {
            curve: Curve::new(steps),
            prune,
            passed: None,
            initial: f64::NAN,
            tokens_per_step,
            done: 0,
            pending: None,
            limiter: Limiter::new(),
            started,
        }
    }

    fn push(&mut self, loss: Tensor, emit: Sink<'_>) -> Result<(), Failure> {
        self.read_pending(emit)?;
        self.pending = Some(loss);
        Ok(())
    }

    fn read_pending(&mut self, emit: Sink<'_>) -> Result<(), Failure> {
        let Some(loss) = self.pending.take() else { return Ok(()) };
        let loss = loss.double_value(&[]);
        self.done += 1;
        check_loss(self.done, loss)?;
        if self.done == 1 {
            self.initial = loss;
        }
        let tokens = self.done * self.tokens_per_step;
        if let (Some(point), Some(prune)) = (self.curve.push(self.done, tokens, loss), self.prune) {
            let loss = self.curve.smoothed();
            self.passed = prune.passed(point, loss).map(|bound| Passed { step: self.done, loss, bound });
        }
        if self.limiter.ready() {
            let seconds = self.started.elapsed().as_secs_f64();
            emit(TrainerEvent::Progress {
                step: self.done,
                tokens,
                loss: self.curve.smoothed(),
                tokens_per_second: tokens as f64 / seconds,
                seconds,
            });
        }
        Ok(())
    }
}

/// Fails if a loss is not finite or is above [`DIVERGED`].
fn check_loss(step: u64, loss: f64) -> Result<(), Failure> {
    if !loss.is_finite() {
        return Err(Failure::new(CrashClass::NotANumber, format!("the loss of step {step} is {loss}")));
    }
    if loss > DIVERGED {
        let message = format!("the loss of step {step} is {loss:.1} nats, above {DIVERGED}");
        return Err(Failure::new(CrashClass::Diverged, message));
    }
    Ok(())
}
