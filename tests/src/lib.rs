//! What the tests of the node as a whole share.

pub mod night;
pub mod surface;
