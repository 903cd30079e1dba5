//! The loss curve of a run, its memory, and the summary block that people grep.
//!
//! Not here: filling the report that the node reads, which [`crate::train`] does.

use std::{fmt::Write, fs};

use autoswarm_protocol::{RunReport, outcome::CurvePoint, pruning::curve_point};

/// The weight of a new loss in the smoothed loss. // karpathy/autoresearch
const SMOOTHING: f64 = 0.1;

/// A loss curve under construction: the smoothed loss at even shares of the run.
#[derive(Debug)]
pub struct Curve {
    steps: u64,
    smoothed: f64,
    seen: i32,
    points: Vec<CurvePoint>,
}

impl Curve {
    /// Starts the curve of a run of `steps` steps.
    pub fn new(steps: u64) -> Self {
        Self { steps, smoothed: 0.0, seen: 0, points: Vec::new() }
    }

    /// Adds the loss of step `step`, counted from 1, after which `tokens` were seen. Returns the point of the
    /// curve that this step reached, if any.
    pub fn push(&mut self, step: u64, tokens: u64, loss: f64) -> Option<u64> {
        self.smoothed += SMOOTHING * (loss - self.smoothed);
        self.seen = self.seen.saturating_add(1);
        let point = curve_point(step, self.steps);
        if point.is_some() {
            let loss = self.smoothed();
            self.points.push(CurvePoint { step, tokens, loss });
        }
        point
    }

    /// Returns the smoothed loss, corrected for its start at 0.
    pub fn smoothed(&self) -> f64 {
        self.smoothed / (1.0 - (1.0 - SMOOTHING).powi(self.seen.max(1)))
    }

    /// Returns the points of the curve, at most [`autoswarm_protocol::pruning::CURVE_POINTS`].
    pub fn into_points(self) -> Vec<CurvePoint> {
        self.points
    }
}

/// Returns the peak resident memory of this process so far, in bytes; 0 where the system does not say.
pub fn peak_resident_bytes() -> u64 {
    status_kilobytes("VmHWM:").or_else(|| status_kilobytes("VmRSS:")).unwrap_or(0) * 1024
}

/// Returns a figure of Linux's account of this process, in kilobytes.
fn status_kilobytes(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the memory that this machine can still give, in bytes, where Linux says so.
pub fn available_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Returns the summary block of karpathy/autoresearch. Notebooks and scripts read its keys and number
/// formats.
///
/// `mfu_percent` is 0, because the peak FLOP/s of this device is not known and a made-up one would mislead.
pub fn summary(report: &RunReport, depth: usize) -> String {
    let total = report.startup_seconds + report.training_seconds + report.evaluation_seconds;
    let mut out = String::from("---\n");
    let mut line = |key: &str, value: String| {
        writeln!(out, "{:<18}{value}", format!("{key}:")).expect("a string takes any text");
    };
    line("val_bpb", format!("{:.6}", report.validation));
    line("training_seconds", format!("{:.1}", report.training_seconds));
    line("total_seconds", format!("{total:.1}"));
    line("peak_vram_mb", format!("{:.1}", report.peak_memory_bytes as f64 / f64::from(1 << 20)));
    line("mfu_percent", format!("{:.2}", 0.0));
    line("total_tokens_M", format!("{:.1}", report.tokens as f64 / 1e6));
    line("num_steps", report.steps.to_string());
    line("num_params_M", format!("{:.1}", report.parameters as f64 / 1e6));
    line("depth", depth.to_string());
    out
}

#[cfg(test)]
mod tests {
    use autoswarm_protocol::pruning::CURVE_POINTS;

    use super::*;

    #[test]
    fn a_curve_has_at_most_its_points_and_ends_with_the_run() {
        for steps in [1, 5, 64, 65, 1000] {
            let mut curve = Curve::new(steps);
            for step in 1..=steps {
                curve.push(step, step * 8, 2.0);
            }
            let points = curve.into_points();
            assert_eq!(points.len() as u64, steps.min(CURVE_POINTS), "{steps}");
            assert_eq!(points.last().map(|point| (point.step, point.tokens)), Some((steps, steps * 8)));
            assert!(points.iter().all(|point| (point.loss - 2.0).abs() < 1e-9));
        }
    }

    #[test]
    fn memory_is_known_on_linux() {
        assert!(peak_resident_bytes() > 1 << 20);
    }
}
