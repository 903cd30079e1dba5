//! Ground truth: data, tokenizer, evaluation and budget. **No experiment changes anything in here.**

pub mod corpus;
pub mod dataset;
pub mod tokenizer;
