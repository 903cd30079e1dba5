//! AdamW (Loshchilov and Hutter 2019) for one parameter tensor, or for many tensors together.

use tch::{Kind, Tensor};

use super::step::{Factors, Gradients};
use crate::{
    model::{Parameters, Role},
    shim::{
        self,
        listen::{self, Part},
    },
};

/// The settings of one group of parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupSettings {
    /// Peak learning rate.
    pub(super) rate: f64,
    /// Decay of the first moment, β1.
    pub(super) beta1: f64,
    /// Decay of the second moment, β2.
    pub(super) beta2: f64,
    /// Added to the root of the second moment, ε.
    pub(super) epsilon: f64,
    /// Peak weight decay.
    pub(super) decay: f64,
    /// Whether an entry decays only where the update shrinks it.
    pub(super) cautious: bool,
}

/// One parameter tensor's state: its two moments and the number of steps.
#[derive(Debug)]
pub(super) struct AdamW {
    role: Role,
    settings: GroupSettings,
    first: Tensor,
    second: Tensor,
    steps: i32,
}

impl AdamW {
    pub(super) fn new(role: Role, settings: GroupSettings, parameter: &Tensor) -> Self {
        let zeros = || parameter.detach().zeros_like();
        Self { role, settings, first: zeros(), second: zeros(), steps: 0 }
    }

    /// Counts a step, and returns the numbers for it.
    fn advance(&mut self, factors: Factors) -> Numbers {
        let GroupSettings { rate, beta1, beta2, decay, .. } = self.settings;
        self.steps += 1;
        let rate = rate * factors.rate;
        // parameter −= rate / (1 − β1ᵗ) · m / (√(v / (1 − β2ᵗ)) + ε). The constants are moved into the
        // denominator.
        let scale = -(1.0 - beta1.powi(self.steps)) / rate;
        let corrected = scale / (1.0 - beta2.powi(self.steps)).sqrt();
        Numbers { rate, decay: rate * decay * factors.decay, scale, corrected }
    }

    /// Takes one step of this tensor, in one pass if `fused`.
    pub(super) fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        factors: Factors,
        fused: bool,
    ) {
        listen::part(part(self.role));
        let GroupSettings { beta1, beta2, epsilon, cautious, .. } = self.settings;
        let gradient = &gradients[&self.role];
        let Numbers { rate, decay, scale, corrected } = self.advance(factors);
        let mut parameter = parameters.expect(self.role).shallow_clone();
        if fused {
            let moves = rate != 0.0;
            let step =
                shim::Adam { beta1, beta2, decay, corrected, epsilon: epsilon * scale, cautious, moves };
            let gradient = gradient.contiguous();
            return shim::adam(&mut parameter, &gradient, &mut self.first, &mut self.second, step);
        }
        let _ = self.first.lerp_(gradient, 1.0 - beta1);
        let _ = self.second.lerp_(&gradient.square(), 1.0 - beta2);
        if rate == 0.0 {
            return; // nothing moves, and a division by it below would not be a number
        }
        if decay > 0.0 && cautious {
            decay_cautiously(&mut parameter, &self.first, decay);
        } else if decay > 0.0 {
            let _ = parameter.g_mul_scalar_(1.0 - decay);
        }
        let mut denominator = self.second.sqrt();
        let _ = denominator.g_mul_scalar_(corrected).g_add_scalar_(epsilon * scale);
        let _ = parameter.addcdiv_(&self.first, &denominator);
    }
}

/// The numbers of one step, with the schedule and the bias correction in them.
struct Numbers {
    rate: f64,
    decay: f64,
    scale: f64,
    corrected: f64,
}

/// Decays the entries that the update shrinks: those with the sign of the first moment.
fn decay_cautiously(parameter: &mut Tensor, first: &Tensor, decay: f64) {
    let shrinks = (first * &*parameter).ge(0.0).to_kind(Kind::Float);
    let _ = parameter.g_mul_(&(1.0 - shrinks * decay));
}

/// Takes one step of many parameters with a few operations for all of them. Parameters that do not move or
/// that decay cautiously take the step one by one.
pub(super) fn step_together(
    groups: &mut [AdamW],
    parameters: &Parameters,
    gradients: &Gradients,
    factors: Factors,
) {
    listen::part(Part::Tables);
    let peculiar = |group: &AdamW| {
        let GroupSettings { rate, decay, cautious, .. } = group.settings;
        rate * factors.rate == 0.0 || (cautious && decay * factors.decay > 0.0)
    };
    for group in groups.iter_mut().filter(|group| peculiar(group)) {
        group.step(parameters, gradients, factors, false);
    }
    let mut steps = Vec::new();
    for group in groups.iter_mut().filter(|group| !peculiar(group)) {
        let Numbers { decay, scale, corrected, .. } = group.advance(factors);
        steps.push(shim::device::AdamShare {
            parameter: parameters.expect(group.role),
            gradient: &gradients[&group.role],
            first: &group.first,
            second: &group.second,
            beta1: group.settings.beta1,
            beta2: group.settings.beta2,
            kept: 1.0 - decay,
            corrected,
            epsilon: group.settings.epsilon * scale,
        });
    }
    if !steps.is_empty() {
        shim::device::adam_each(&steps);
    }
}

/// Returns the part under which a benchmark counts the step of a role.
fn part(role: Role) -> Part {
    match role {
        Role::Embedding | Role::Unembedding | Role::ValueEmbedding => Part::Tables,
        role if role.is_matrix() => Part::Matrices,
        _ => Part::Scalars,
    }
}
