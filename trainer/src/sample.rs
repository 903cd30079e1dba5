//! Sampling: continues a text with a trained model.

use tch::{Kind, Tensor};

use crate::{checkpoint::Loaded, failure::Failure, harness::budget::Deadline, model::init};

/// The settings of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The most tokens to make.
    pub tokens: usize,
    /// Divides the logits; 0 takes the likeliest token each time.
    pub temperature: f64,
    /// The seed that decides every draw.
    pub seed: u64,
}

/// Passes the bytes of each token that follows `prompt` to `write`. Stops early if `write` fails, which it
/// does when nobody reads any more.
pub fn sample(
    loaded: &Loaded,
    prompt: &str,
    sampling: Sampling,
    write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let _no_gradients = tch::no_grad_guard();
    let Loaded { model, tokenizer, context } = loaded;
    let mut tokens = vec![tokenizer.document_token()];
    tokens.extend(tokenizer.encode(prompt));
    for index in 0..sampling.tokens {
        let seen: Vec<i64> =
            tokens[tokens.len().saturating_sub(*context)..].iter().map(|&t| i64::from(t)).collect();
        let seen = Tensor::from_slice(&seen).unsqueeze(0).to_device(model.device());
        let logits = model.logits(&seen, None, &Deadline::never())?; // [T, V]
        let token = draw(&logits.get(-1), sampling, index);
        if token == tokenizer.document_token() {
            break; // the document is over
        }
        tokens.push(token);
        if write(&tokenizer.decode(&[token])).is_err() {
            break;
        }
    }
    Ok(())
}

/// Draws a token from its logits `[V]`.
fn draw(logits: &Tensor, sampling: Sampling, index: usize) -> u16 {
    let logits = logits.to_device(tch::Device::Cpu);
    let token = if sampling.temperature > 0.0 {
        let weights = (logits / sampling.temperature).softmax(-1, Kind::Float);
        init::seeded(sampling.seed, &format!("sample {index}"), || weights.multinomial(1, false))
    } else {
        logits.argmax(-1, false)
    };
    token.int64_value(&[]) as u16
}
