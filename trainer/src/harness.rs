//! Ground truth: data, tokenizer, evaluation, budget and price. **No experiment changes anything in here.**
//!
//! Not here: what experiments may change, such as [`crate::model`], [`crate::optimizer`] and
//! [`crate::schedule`].

pub mod budget;
pub mod corpus;
pub mod cpu_time;
pub mod dataset;
pub mod evaluate;
pub mod price;
pub mod tokenizer;
