//! Benchmark results as lines of text for a person. The JSON form is written in [`crate::cli`].

use super::{BenchResult, PartSeconds, run::RunResult};

/// Returns a shape's line, followed by one line for each part of its step.
pub fn shape(result: &BenchResult) -> String {
    let phases = result.phases;
    let mut lines = vec![format!(
        "{:<18} {:>9.0} tokens/s  {:>6.1} GFLOP/s ({:>2.0} %)  \
         forward {:.1} backward {:.1} optimizer {:.1} ms  first step after {:.2} s  {} MB",
        result.shape.to_string(),
        result.tokens_per_second,
        result.flops_per_second / 1e9,
        result.flop_utilisation * 100.0,
        phases.forward * 1e3,
        phases.backward * 1e3,
        phases.optimizer * 1e3,
        result.first_step_seconds,
        result.peak_memory_bytes >> 20
    )];
    parts(&result.parts, &mut lines);
    lines.join("\n")
}

/// Returns a run's lines: a summary, its stages, then the parts of its steps.
pub fn run(result: &RunResult) -> String {
    let mut lines = vec![format!(
        "a run of {} s: {:.2} s, {} tokens at {:.0} tokens/s, evaluated {} at {:.0} tokens/s",
        result.budget_seconds,
        result.total_seconds,
        result.tokens,
        result.tokens_per_second,
        result.evaluation_tokens,
        result.evaluation_tokens_per_second
    )];
    for stage in &result.stages {
        let share = 100.0 * stage.seconds / result.total_seconds;
        lines.push(format!("    {:<14} {:>8.3} s {share:>5.1} %", stage.name, stage.seconds));
    }
    parts(&result.parts, &mut lines);
    lines.join("\n")
}

fn parts(parts: &[PartSeconds], lines: &mut Vec<String>) {
    let total: f64 = parts.iter().map(|part| part.forward + part.backward).sum();
    for &PartSeconds { part, forward, backward } in parts {
        let share = 100.0 * (forward + backward) / total;
        lines.push(format!(
            "    {:<14} {:>8.3} ms forward {:>8.3} ms backward {share:>5.1} %",
            part.name(),
            forward * 1e3,
            backward * 1e3
        ));
    }
}
