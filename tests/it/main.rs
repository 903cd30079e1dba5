//! The node as a whole, in one binary: see each file.

mod nights;
mod solo;
mod supervisor;
