//! CPU time: how much this process used, and what share it got of what it could have used.

use std::{fs, time::Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures the share of the CPU time that the process wanted and got.
pub(super) struct CpuMeter {
    started: Instant,
    thread_seconds: f64,
    scheduled: Option<(u64, u64)>,
}

impl CpuMeter {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            thread_seconds: seconds_of(ClockId::ThreadCPUTime),
            scheduled: schedule_statistics(),
        }
    }

    /// Returns running time ÷ (running time + time spent waiting for a core), over all threads, where the
    /// kernel counts both.
    ///
    /// Elsewhere it returns this thread's CPU time ÷ wall-clock time. This thread only pauses where another
    /// thread of a product is late.
    pub(super) fn share(&self) -> f64 {
        if let (Some(before), Some(after)) = (self.scheduled, schedule_statistics()) {
            let (ran, waited) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
            if ran > 0 {
                return ran as f64 / (ran + waited) as f64;
            }
        }
        let wall = self.started.elapsed().as_secs_f64();
        ((seconds_of(ClockId::ThreadCPUTime) - self.thread_seconds) / wall).min(1.0)
    }
}

/// Returns the time on a CPU clock, in seconds.
fn seconds_of(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Returns the CPU seconds that this process has used, over all threads.
pub fn process_cpu_seconds() -> f64 {
    seconds_of(ClockId::ProcessCPUTime)
}

/// Returns, where Linux counts it, for how many nanoseconds this process's threads ran, and for how many they
/// waited for a core.
fn schedule_statistics() -> Option<(u64, u64)> {
    let mut total = (0, 0);
    for task in fs::read_dir("/proc/self/task").ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        let mut fields = text.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(ran)), Some(Ok(waited))) = (fields.next(), fields.next()) else { return None };
        total = (total.0 + ran, total.1 + waited);
    }
    Some(total)
}
