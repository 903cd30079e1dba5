//! A model that learns: the model, its optimizer and its stream of batches, one optimizer step at a time.

use autoswarm_protocol::{EffectiveConfig, Knob};
use tch::{Device, Kind, Tensor};

use crate::{
    device,
    failure::Failure,
    harness::{
        budget::Deadline,
        dataset::{Batches, Dataset},
    },
    model::{Dropout, Model, Role},
    optimizer::{Gradients, Optimizer},
    shim::listen::{self, Part},
};

/// The state that an optimizer step changes.
#[derive(Debug)]
pub struct Learner<'a> {
    /// The model that learns.
    pub model: Model,
    optimizer: Optimizer,
    batches: Batches<'a>,
    seed: u64,
    sequence: usize,
    rows_per_step: u64,
    rows_per_micro: u64,
    next_row: u64,
}

impl<'a> Learner<'a> {
    /// Builds the model. `seed` decides its initial values and the order of the data.
    pub fn new(
        config: &EffectiveConfig,
        dataset: &'a Dataset,
        context: usize,
        seed: u64,
        kind: Kind,
        device: Device,
    ) -> Result<Self, Failure> {
        let sequence = config.integer(Knob::SequenceLength);
        let batches = Batches::new(dataset, seed, sequence)?;
        let model = Model::new(config, dataset.vocabulary_size(), context, seed, kind, device);
        Ok(Self {
            optimizer: Optimizer::new(config, &model),
            model,
            batches,
            seed,
            sequence,
            rows_per_step: config.sequences_per_step() as u64,
            rows_per_micro: (config.integer(Knob::MicroBatchTokens) / sequence) as u64,
            next_row: 0,
        })
    }

    /// Goes back to the first batch, and keeps everything learned.
    pub fn rewind(&mut self) {
        self.next_row = 0;
    }

    /// Takes one optimizer step that begins at `progress`. Returns its mean loss, a scalar on the device.
    pub fn step(&mut self, progress: f64, deadline: &Deadline) -> Result<Tensor, Failure> {
        let end = self.next_row + self.rows_per_step;
        let mut gradients = Gradients::new();
        let mut losses = Vec::new();
        while self.next_row < end {
            let rows = self.rows_per_micro.min(end - self.next_row);
            let share = rows as f64 / self.rows_per_step as f64;
            losses.push(self.accumulate(rows, share, &mut gradients, deadline)?);
            self.next_row += rows;
        }
        self.optimizer.step(&self.model.parameters, gradients, progress, deadline)?;
        let loss =
            if losses.len() == 1 { losses.remove(0) } else { Tensor::stack(&losses, 0).sum(Kind::Float) };
        Ok(loss)
    }

    /// Adds a micro-batch's gradients to `gradients`, weighted by its `share` of the step. Returns its share
    /// of the loss.
    fn accumulate(
        &self,
        rows: u64,
        share: f64,
        gradients: &mut Gradients,
        deadline: &Deadline,
    ) -> Result<Tensor, Failure> {
        listen::part(Part::Data);
        let tokens = self.batches.rows(self.next_row, rows as usize)?;
        let tokens = Tensor::from_slice(&tokens).view([rows as i64, self.sequence as i64 + 1]);
        let tokens = device::send(&tokens, self.model.device());
        let dropout = Dropout { seed: self.seed, row: self.next_row };
        let loss = self.model.share_of_loss(share, &tokens, Some(dropout), deadline)?;
        deadline.check()?;
        listen::backward();
        let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = self.model.parameters.iter().unzip();
        let fresh = Tensor::run_backward(&[&loss], &parameters, false, false);
        listen::part(Part::Rest);
        for (role, gradient) in roles.into_iter().zip(fresh) {
            match gradients.get_mut(&role) {
                Some(sum) => {
                    let _ = sum.g_add_(&gradient);
                }
                None => {
                    gradients.insert(role, gradient);
                }
            }
        }
        Ok(loss.detach())
    }
}
