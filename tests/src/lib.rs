//! What the tests of the node as a whole share.

pub mod chance;
pub mod ground;
pub mod night;
pub mod search;
pub mod simulator;
pub mod surface;
pub mod surrogate;
