//! Shared by the tests of the whole node: the response surface, simulated nights and swarms, and searches.

pub mod chance;
pub mod ground;
pub mod night;
pub mod search;
pub mod simulator;
pub mod surface;
pub mod surrogate;
