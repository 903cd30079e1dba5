//! What one optimizer step works with: the gradients, and the factors that the schedule gives.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::model::Role;

/// Gradients by role.
pub type Gradients = BTreeMap<Role, Tensor>;

/// The factors that hold for one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    /// The learning rate's.
    pub(super) rate: f64,
    /// The weight decay's.
    pub(super) decay: f64,
    /// The momentum's.
    pub(super) momentum: f64,
}
