//! The benchmark of a whole run: it starts a trainer as a node does, and times its events as they arrive.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use autoswarm_protocol::{RunReport, TrainConfig, TrainerEvent};
use serde::Serialize;

use super::{PartSeconds, part_seconds};
use crate::{
    device::{self, DeviceName, Dtype},
    failure::Failure,
    harness::{budget::Deadline, dataset::Dataset, evaluate::Rule},
    learner::Learner,
    shim::listen,
};

/// Steps whose parts are timed, after as many warm-up steps.
const LISTENED_STEPS: u64 = 50;

/// The run to measure.
#[derive(Debug, Clone)]
pub struct RunSettings<'a> {
    /// The path of the config file, and the config read from it.
    pub config: (&'a Path, TrainConfig),
    /// The folder of a prepared dataset.
    pub data: &'a Path,
    /// The budget of the run, in seconds.
    pub budget_seconds: f64,
    /// The context and the number of tokens of the evaluation.
    pub rule: Rule,
    /// The device to compute on.
    pub device: DeviceName,
    /// Number format of the matrix products.
    pub dtype: Dtype,
    /// Threads on a CPU; by default one per core.
    pub threads: Option<u16>,
}

/// A stage of a run, between two events of the trainer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// What happens in it: `start`, `pricing`, `set-up`, `training`, `evaluation` or `end`.
    pub name: &'static str,
    /// Its wall-clock seconds.
    pub seconds: f64,
}

/// What was measured of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// The budget that was given, in seconds.
    pub budget_seconds: f64,
    /// Wall-clock seconds from before the process started until after it had ended.
    pub total_seconds: f64,
    /// The stages that make up that time, in order.
    pub stages: Vec<Stage>,
    /// Number of tokens trained on.
    pub tokens: u64,
    /// Tokens per second of training.
    pub tokens_per_second: f64,
    /// Number of tokens evaluated.
    pub evaluation_tokens: u64,
    /// Tokens per second of evaluation.
    pub evaluation_tokens_per_second: f64,
    /// Validation bits per byte of the run. A change that only affects speed must not move it.
    pub bpb: f64,
    /// Mean seconds of a training step by part. Empty unless the device is a CPU.
    pub parts: Vec<PartSeconds>,
}

/// Runs a config for a budget in a process of its own, then takes some steps of it in this process to time
/// the parts.
pub fn measure(settings: &RunSettings<'_>) -> Result<RunResult, Failure> {
    let (stages, report) = timed_run(settings)?;
    Ok(RunResult {
        budget_seconds: settings.budget_seconds,
        total_seconds: stages.iter().map(|stage| stage.seconds).sum(),
        stages,
        tokens: report.tokens,
        tokens_per_second: report.tokens as f64 / report.training_seconds,
        evaluation_tokens: settings.rule.tokens,
        evaluation_tokens_per_second: settings.rule.tokens as f64 / report.evaluation_seconds,
        bpb: report.validation.get(),
        parts: if settings.device == DeviceName::Cpu { parts(settings)? } else { Vec::new() },
    })
}

/// Runs a trainer and times the stages into which its events divide the run.
fn timed_run(settings: &RunSettings<'_>) -> Result<(Vec<Stage>, RunReport), Failure> {
    let failed = |reason: String| Failure::own(format!("the run to be timed failed: {reason}"));
    let trainer = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut last = Instant::now();
    let mut child = Command::new(trainer)
        .args([OsStr::new("train"), OsStr::new("--json"), OsStr::new("--config")])
        .arg(settings.config.0)
        .args([OsStr::new("--data"), settings.data.as_os_str()])
        .args(arguments(settings))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let output = BufReader::new(child.stdout.take().expect("its output is piped"));
    let mut stages = Vec::new();
    let mut end_stage = |name| {
        let now = Instant::now();
        stages.push(Stage { name, seconds: (now - last).as_secs_f64() });
        last = now;
    };
    let (mut report, mut evaluating) = (None, false);
    for line in output.lines() {
        let line = line.map_err(|error| failed(error.to_string()))?;
        match serde_json::from_str(&line).map_err(|error| failed(format!("`{line}`: {error}")))? {
            TrainerEvent::Starting { .. } => end_stage("start"),
            TrainerEvent::Priced { .. } => end_stage("pricing"),
            TrainerEvent::TrainingStarted { .. } => end_stage("set-up"),
            TrainerEvent::Evaluating { .. } if !evaluating => {
                evaluating = true;
                end_stage("training");
            }
            TrainerEvent::Finished { report: done } => {
                end_stage("evaluation");
                report = Some(*done);
            }
            TrainerEvent::Failed { class, message } => return Err(Failure::new(class, message)),
            _ => {}
        }
    }
    child.wait().map_err(|error| failed(error.to_string()))?;
    end_stage("end");
    Ok((stages, report.ok_or_else(|| failed("it ended without a report".to_owned()))?))
}

/// Returns the command-line arguments of `trainer train` for these settings.
fn arguments(settings: &RunSettings<'_>) -> Vec<String> {
    let dtype = match settings.dtype {
        Dtype::F32 => "f32",
        Dtype::Bf16 => "bf16",
        Dtype::Auto => "auto",
    };
    let mut arguments = vec![
        format!("--budget-seconds={}", settings.budget_seconds),
        // The cap is generous: on a busy machine a benchmark is slow, but it should still give a result.
        format!("--cap-seconds={}", 60.0 + 20.0 * settings.budget_seconds),
        "--min-steps=1".to_owned(),
        format!("--context={}", settings.rule.context),
        format!("--evaluation-tokens={}", settings.rule.tokens),
        format!("--device={}", settings.device),
        format!("--dtype={dtype}"),
    ];
    arguments.extend(settings.threads.map(|threads| format!("--threads={threads}")));
    arguments
}

/// Returns the mean seconds per step of each part, including the reading of the data.
fn parts(settings: &RunSettings<'_>) -> Result<Vec<PartSeconds>, Failure> {
    let dataset = Dataset::open(settings.data)?;
    let device = settings.device.open()?;
    device::set_threads(settings.threads);
    let config = settings.config.1.effective(settings.rule.context);
    let kind = settings.dtype.resolve(device);
    let mut learner = Learner::new(&config, &dataset, settings.rule.context, 0, kind, device)?;
    let mut steps = || {
        (0..LISTENED_STEPS).try_for_each(|_| {
            let _ = learner.step(0.0, &Deadline::never())?.double_value(&[]);
            Ok::<(), Failure>(())
        })
    };
    // Warm-up: the first steps pay for allocations and for kernels chosen on first use.
    steps()?;
    let (done, heard) = listen::listen(steps);
    done?;
    Ok(part_seconds(&heard, LISTENED_STEPS))
}
