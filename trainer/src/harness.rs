//! Ground truth: data, tokenizer, evaluation and budget. **No experiment changes anything in here.**

pub mod budget;
pub mod corpus;
pub mod cpu_time;
pub mod dataset;
pub mod evaluate;
pub mod price;
pub mod tokenizer;
