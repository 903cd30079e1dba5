//! The optimizer: it clips the gradients, then updates tables and scalars by AdamW, and the matrices of the
//! blocks by Muon or AdamW.
//!
//! The groups, their rates and the form of the updates are those of karpathy/autoresearch. The [`Schedule`]
//! gives a factor on every rate and decay, and the momentum, at the progress of the step.

mod adamw;
mod muon;
mod step;

use autoswarm_protocol::{EffectiveConfig, Knob};
use tch::{Device, Kind, Tensor};

use self::{
    adamw::{AdamW, GroupSettings},
    muon::Muon,
    step::Factors,
};
use crate::{
    failure::Failure,
    harness::budget::Deadline,
    model::{Model, Operations, Parameters, Role},
    schedule::Schedule,
    shim::listen::{self, Part},
};

pub use step::Gradients;

/// The width for which the rates of the tables are given; other widths scale them.
const REFERENCE_WIDTH: f64 = 768.0; // karpathy/autoresearch

/// The optimizers of a run, with their states.
#[derive(Debug)]
pub struct Optimizer {
    schedule: Schedule,
    clip: f64,
    adamw: Vec<AdamW>,
    muon: Option<Muon>,
    form: Form,
}

/// The form in which AdamW takes its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each tensor in one pass, the form for CPUs.
    Fused,
    /// All tensors together in a few passes, the form for GPUs.
    Together,
    /// One operation of libtorch after the other.
    Plain,
}

impl Form {
    fn new(model: &Model) -> Self {
        match (model.operations(), model.device()) {
            (Operations::Fused, Device::Cpu) => Self::Fused,
            (Operations::Fused | Operations::Grouped, _) => Self::Together,
            (Operations::Plain, _) => Self::Plain,
        }
    }
}

impl Optimizer {
    /// Builds the optimizers of a model's parameters.
    pub fn new(config: &EffectiveConfig, model: &Model) -> Self {
        let muon = config.choice(Knob::MatrixOptimizer) == "muon";
        let adamw = model
            .parameters
            .iter()
            .filter(|(role, _)| !(muon && role.is_matrix()))
            .map(|(role, parameter)| AdamW::new(role, settings(config, role), parameter));
        Self {
            schedule: Schedule::new(config),
            clip: config.number(Knob::GradientClip),
            adamw: adamw.collect(),
            muon: muon.then(|| Muon::new(config, model)),
            form: Form::new(model),
        }
    }

    /// Updates the parameters with the gradients of a step that begins at `progress`.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        mut gradients: Gradients,
        progress: f64,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let factors = Factors {
            rate: self.schedule.rate(progress),
            decay: self.schedule.decay(progress),
            momentum: self.schedule.momentum(progress),
        };
        tch::no_grad(|| {
            if self.clip > 0.0 {
                listen::part(Part::Clip);
                clip(&mut gradients, self.clip);
            }
            if self.form == Form::Together {
                deadline.check()?;
                adamw::step_together(&mut self.adamw, parameters, &gradients, factors);
            } else {
                for group in &mut self.adamw {
                    deadline.check()?;
                    group.step(parameters, &gradients, factors, self.form == Form::Fused);
                }
            }
            match &mut self.muon {
                Some(muon) => muon.step(parameters, &gradients, factors, deadline),
                None => Ok(()),
            }
        })
    }
}

/// Scales all gradients so that their joint norm is at most `largest`.
fn clip(gradients: &mut Gradients, largest: f64) {
    let squares: Vec<Tensor> =
        gradients.values().map(|gradient| gradient.square().sum(Kind::Float)).collect();
    let norm = Tensor::stack(&squares, 0).sum(Kind::Float).sqrt();
    // The factor stays on the device, so that nothing waits for the norm. The constant keeps a gradient of
    // zeros finite.
    let factor = ((norm + 1e-6).reciprocal() * largest).clamp_max(1.0);
    for gradient in gradients.values_mut() {
        let _ = gradient.g_mul_(&factor);
    }
}

/// Returns the settings of the group that `role` belongs to.
fn settings(config: &EffectiveConfig, role: Role) -> GroupSettings {
    use Knob as K;
    let [rate, beta1, beta2, decay] = match role {
        Role::Embedding => [K::EmbeddingRate, K::EmbeddingBeta1, K::EmbeddingBeta2, K::EmbeddingDecay],
        Role::Unembedding => {
            [K::UnembeddingRate, K::UnembeddingBeta1, K::UnembeddingBeta2, K::UnembeddingDecay]
        }
        Role::ValueEmbedding => {
            [K::ValueEmbeddingRate, K::ValueEmbeddingBeta1, K::ValueEmbeddingBeta2, K::ValueEmbeddingDecay]
        }
        Role::FeedbackFactor => [K::ScalarRate, K::FeedbackBeta1, K::FeedbackBeta2, K::ScalarDecay],
        Role::ResidualFactor | Role::NormGain => {
            [K::ScalarRate, K::ScalarBeta1, K::ScalarBeta2, K::ScalarDecay]
        }
        _ => [K::MatrixRate, K::MatrixBeta1, K::MatrixBeta2, K::MatrixDecay],
    };
    let width = config.integer(K::Width) as f64;
    let factor = match role {
        Role::ResidualFactor => config.number(K::ResidualRateScale),
        Role::FeedbackFactor | Role::NormGain => 1.0, // scalars do not depend on the width
        _ => (width / REFERENCE_WIDTH).powf(-config.number(K::RateWidthPower)),
    };
    GroupSettings {
        rate: config.number(rate) * factor,
        beta1: config.number(beta1),
        beta2: config.number(beta2),
        epsilon: config.number(K::AdamEps),
        decay: config.number(decay),
        cautious: role.is_matrix() && config.is_on(K::CautiousDecay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_bounds_the_joint_norm_and_leaves_small_gradients() {
        let of = |scale: f64| {
            let ones = |n: i64| Tensor::ones([n], (Kind::Float, Device::Cpu)) * scale;
            Gradients::from([(Role::Embedding, ones(9)), (Role::MlpIn, ones(16))])
        };
        let norm = |gradients: &Gradients| {
            gradients.values().map(|g| g.square().sum(Kind::Float).double_value(&[])).sum::<f64>().sqrt()
        };
        let mut large = of(2.0);
        clip(&mut large, 1.0);
        assert!((norm(&large) - 1.0).abs() < 1e-5);
        let mut small = of(0.1);
        clip(&mut small, 1.0);
        assert!((norm(&small) - 0.5).abs() < 1e-5);
    }
}
