//! The schedules: rates, momenta and decays as pure functions of progress.
//!
//! Progress is the number of tokens done before a step, divided by all tokens of the run, in [0, 1).
//!
//! **They never depend on step counts or seconds**, so a run of another length, or on another machine,
//! follows the same curve.

use std::f64::consts::PI;

use autoswarm_protocol::{Knob, TrainConfig};

/// The shape in which the rates fall at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fall {
    Linear,
    Cosine,
    SquareRoot,
}

/// The shape in which weight decay falls over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecayFall {
    Linear,
    Constant,
    WithRate,
}

/// The schedules of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    warmup: f64,
    warmdown: f64,
    fall: Fall,
    final_rate: f64,
    decay_fall: DecayFall,
    momentum_start: f64,
    momentum: f64,
    momentum_warmup: f64,
}

impl Schedule {
    /// Reads the knobs of the schedules.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            warmup: config.number(Knob::Warmup),
            warmdown: config.number(Knob::Warmdown),
            fall: match config.choice(Knob::WarmdownShape) {
                "cosine" => Fall::Cosine,
                "square_root" => Fall::SquareRoot,
                _ => Fall::Linear,
            },
            final_rate: config.number(Knob::FinalRate),
            decay_fall: match config.choice(Knob::DecaySchedule) {
                "constant" => DecayFall::Constant,
                "with_rate" => DecayFall::WithRate,
                _ => DecayFall::Linear,
            },
            momentum_start: config.number(Knob::MuonMomentumStart),
            momentum: config.number(Knob::MuonMomentum),
            momentum_warmup: config.number(Knob::MuonMomentumWarmup),
        }
    }

    /// Returns the factor on every learning rate. Where warm-up and warm-down overlap, the smaller one
    /// applies.
    pub fn rate(&self, progress: f64) -> f64 {
        let rise = if progress < self.warmup { progress / self.warmup } else { 1.0 };
        rise.min(self.fallen(progress))
    }

    /// Returns the factor of the warm-down alone.
    fn fallen(&self, progress: f64) -> f64 {
        let start = 1.0 - self.warmdown;
        if progress <= start {
            return 1.0;
        }
        let t = ((progress - start) / self.warmdown).min(1.0);
        let left = match self.fall {
            Fall::Linear => 1.0 - t,
            Fall::Cosine => f64::midpoint(1.0, (PI * t).cos()),
            Fall::SquareRoot => 1.0 - t.sqrt(), // Hägele et al. 2024, "1-sqrt"
        };
        self.final_rate + (1.0 - self.final_rate) * left
    }

    /// Returns the factor on every weight decay.
    pub fn decay(&self, progress: f64) -> f64 {
        match self.decay_fall {
            DecayFall::Linear => 1.0 - progress,
            DecayFall::Constant => 1.0,
            DecayFall::WithRate => self.rate(progress),
        }
    }

    /// Returns the momentum of Muon, which rises linearly during its warm-up.
    pub fn momentum(&self, progress: f64) -> f64 {
        if progress >= self.momentum_warmup {
            return self.momentum;
        }
        self.momentum_start + (self.momentum - self.momentum_start) * progress / self.momentum_warmup
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(toml: &str) -> Schedule {
        Schedule::new(&TrainConfig::from_toml(toml).expect("a valid config"))
    }

    #[track_caller]
    fn check(of: impl Fn(f64) -> f64, expected: &[(f64, f64)]) {
        for &(progress, value) in expected {
            assert!((of(progress) - value).abs() < 1e-12, "at {progress}: {} ≠ {value}", of(progress));
        }
    }

    #[test]
    fn the_default_is_flat_then_falls_to_nothing() {
        check(|p| schedule("").rate(p), &[(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (0.9, 0.2), (1.0, 0.0)]);
    }

    #[test]
    fn shapes_of_the_fall() {
        check(|p| schedule("warmdown_shape = \"cosine\"").rate(p), &[(0.5, 1.0), (0.75, 0.5), (1.0, 0.0)]);
        check(|p| schedule("warmdown_shape = \"square_root\"").rate(p), &[(0.625, 0.5), (1.0, 0.0)]);
        check(|p| schedule("warmdown = 1.0").rate(p), &[(0.0, 1.0), (0.25, 0.75), (0.5, 0.5)]);
        check(|p| schedule("warmdown = 0.0").rate(p), &[(0.0, 1.0), (0.999, 1.0), (1.0, 1.0)]);
    }

    #[test]
    fn a_rise_starts_at_nothing_and_a_floor_stays() {
        check(|p| schedule("warmup = 0.2").rate(p), &[(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.75, 0.5)]);
        check(|p| schedule("final_rate = 0.1").rate(p), &[(0.5, 1.0), (0.75, 0.55), (1.0, 0.1)]);
        check(|p| schedule("warmup = 0.5\nwarmdown = 1.0").rate(p), &[(0.25, 0.5), (0.5, 0.5), (0.75, 0.25)]);
    }

    #[test]
    fn decay_falls_as_asked() {
        check(|p| schedule("").decay(p), &[(0.0, 1.0), (0.25, 0.75), (1.0, 0.0)]);
        check(|p| schedule("decay_schedule = \"constant\"").decay(p), &[(0.0, 1.0), (0.9, 1.0)]);
        check(|p| schedule("decay_schedule = \"with_rate\"").decay(p), &[(0.25, 1.0), (0.75, 0.5)]);
    }

    #[test]
    fn momentum_rises_to_its_value() {
        let expected = [(0.0, 0.85), (0.15, 0.9), (0.3, 0.95), (0.9, 0.95)];
        check(|p| schedule("").momentum(p), &expected);
        check(|p| schedule("muon_momentum_warmup = 0.0").momentum(p), &[(0.0, 0.95)]);
    }
}
