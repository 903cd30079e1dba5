//! The inputs of one optimizer step: the gradients, and the factors of the schedule.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::model::Role;

/// The gradient of each role's tensor.
pub type Gradients = BTreeMap<Role, Tensor>;

/// The factors of the schedule for one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    /// Factor on every learning rate.
    pub(super) rate: f64,
    /// Factor on every weight decay.
    pub(super) decay: f64,
    /// The momentum of Muon.
    pub(super) momentum: f64,
}
