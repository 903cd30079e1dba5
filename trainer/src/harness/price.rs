//! The price of a config on this slot: throw-away steps of the very same computation, timed.

use std::time::Instant;

use autoswarm_protocol::CrashClass;

use super::{
    budget::{Deadline, starved},
    cpu_time::{CpuMeter, process_cpu_seconds},
};
use crate::failure::Failure;

/// A price, with the conditions under which it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Training throughput in tokens per second.
    pub tokens_per_second: f64,
    /// The share of its threads' CPU time that the process got while it was priced.
    pub cpu_share: f64,
    /// Wall-clock seconds that pricing took.
    pub seconds: f64,
}

/// The number of timed steps that are enough if they agree.
const ENOUGH_STEPS: usize = 8;
/// The number of timed steps of the slowest configs.
const FEWEST_STEPS: usize = 2;
/// The relative standard error of the mean step time below which no more steps are needed.
const ENOUGH_PRECISION: f64 = 0.004;
/// The first step pays for allocations and for kernels chosen on first use. It may take this many times as
/// long as a later one, plus the seconds below. // Wild guess.
const FIRST_STEP_FACTOR: f64 = 2.0;
const FIRST_STEP_SECONDS: f64 = 0.75;

/// Prices a computation of `tokens_per_step`, for a budget of `seconds` that must buy `min_steps`.
///
/// `step` runs one step until it is done on the device. `set_deadline` puts a deadline in force that also
/// holds where `step` cannot look at the clock.
pub fn price(
    seconds: f64,
    min_steps: u64,
    tokens_per_step: u64,
    set_deadline: &mut dyn FnMut(&Deadline),
    step: &mut dyn FnMut(&Deadline) -> Result<(), Failure>,
) -> Result<Price, Failure> {
    let started = Instant::now();
    let cpu = CpuMeter::start();
    // A step that takes longer than this cannot be taken `min_steps` times within the budget.
    let longest = seconds / min_steps as f64;
    let cpu_before = process_cpu_seconds();
    let too_slow = |message: String| {
        let share = (process_cpu_seconds() - cpu_before) / started.elapsed().as_secs_f64().max(1e-9);
        starved(share).unwrap_or_else(|| Failure::new(CrashClass::TooSlow, message))
    };
    let deadline = Deadline::after(
        FIRST_STEP_FACTOR * longest + FIRST_STEP_SECONDS,
        CrashClass::TooSlow,
        format!(
            "the first step was not done when the {seconds} s budget could no longer buy {min_steps} steps"
        ),
    );
    set_deadline(&deadline);
    let first = timed(&deadline, step)?;
    if first > FIRST_STEP_FACTOR * longest + FIRST_STEP_SECONDS {
        return Err(too_slow(slow_message(first, seconds, min_steps)));
    }
    // The deadline for all later steps together: the time that pricing may take, and a margin of a few steps.
    let deadline = Deadline::after(
        3.0 * longest + FIRST_STEP_SECONDS + most_seconds(seconds),
        CrashClass::TooSlow,
        format!("pricing took longer than a {seconds} s budget of at least {min_steps} steps allows"),
    );
    set_deadline(&deadline);
    let mut times = Vec::new();
    while !enough(&times, started.elapsed().as_secs_f64(), seconds) {
        times.push(timed(&deadline, step)?);
        // The first timed step decides at once, so that a hopeless config costs two steps and no more.
        if times[0] > longest {
            return Err(too_slow(slow_message(times[0], seconds, min_steps)));
        }
    }
    Ok(Price {
        tokens_per_second: tokens_per_step as f64 / typical(&mut times),
        cpu_share: cpu.share(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Returns the message for a step time in seconds that is too long.
fn slow_message(step: f64, seconds: f64, min_steps: u64) -> String {
    format!(
        "one step takes {step:.2} s, so the {seconds} s budget buys {:.1} steps and not {min_steps}",
        seconds / step
    )
}

/// Returns the wall-clock seconds of one step.
fn timed(
    deadline: &Deadline,
    step: &mut dyn FnMut(&Deadline) -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let started = Instant::now();
    step(deadline)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Returns how long pricing may take if its steps are short, in seconds: 5 % of the budget, at least 1 s.
fn most_seconds(budget: f64) -> f64 {
    (0.05 * budget).max(1.0)
}

/// Returns whether these step times are enough for a price.
fn enough(times: &[f64], spent: f64, budget: f64) -> bool {
    if times.len() < FEWEST_STEPS {
        return false;
    }
    spent >= most_seconds(budget)
        || (times.len() >= ENOUGH_STEPS
            && spent >= 0.5 * most_seconds(budget)
            && relative_error(times) <= ENOUGH_PRECISION)
}

/// Returns the standard error of the mean, as a share of the mean.
fn relative_error(times: &[f64]) -> f64 {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (variance / count).sqrt() / mean
}

/// Returns the mean of the steps between the quartiles, because a hiccup of the machine says nothing about
/// the run.
fn typical(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let cut = times.len() / 4;
    let middle = &times[cut..times.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}

#[cfg(test)]
mod tests {
    use super::{super::budget::STARVED_SHARE, *};

    #[test]
    fn a_hiccup_does_not_move_the_price() {
        assert!((typical(&mut [1.0, 1.0, 9.0, 1.0, 1.0]) - 1.0).abs() < 1e-12);
        assert!((typical(&mut [2.0, 4.0]) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn steps_that_agree_are_enough_sooner() {
        assert!(!enough(&[1.0], 100.0, 10.0));
        assert!(enough(&[1.0, 1.0], 2.0, 10.0));
        assert!(enough(&[0.05; 10], 0.5, 10.0));
        assert!(!enough(&[0.05, 0.06, 0.05, 0.09, 0.05, 0.05, 0.05, 0.05], 0.5, 10.0));
    }

    #[test]
    fn a_budget_of_too_few_steps_is_refused_at_once() {
        let mut steps = 0;
        let result = price(0.01, 1000, 8, &mut |_| {}, &mut |_| {
            steps += 1;
            std::thread::yield_now();
            let until = Instant::now() + std::time::Duration::from_millis(2);
            while Instant::now() < until {}
            Ok(())
        });
        let failure = result.expect_err("too slow");
        if failure.class == CrashClass::Starved {
            // On a busy machine it may be right to report `Starved`. Then the share must be one that excuses
            // the run.
            let share = failure.message.split_whitespace().find_map(|word| word.parse::<f64>().ok());
            assert!(share.is_some_and(|share| share <= 100.0 * STARVED_SHARE), "{failure:?}");
        } else {
            assert_eq!(failure.class, CrashClass::TooSlow, "{failure:?}");
        }
        assert_eq!(steps, 2);
    }
}
