//! A trained model in one safetensors file, with its config and tokenizer in the header.

use std::{collections::HashMap, fs, path::Path};

use autoswarm_protocol::TrainConfig;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use crate::{
    failure::Failure,
    harness::{dataset::Dataset, tokenizer::Tokenizer},
    model::{Model, Shape},
};

/// The header entry, key and value, that marks a file as ours and names its layout.
const FORMAT: (&str, &str) = ("autoswarm", "1");

/// A model read from a checkpoint, with what is needed to use it.
#[derive(Debug)]
pub struct Loaded {
    /// The model with its trained parameters.
    pub model: Model,
    /// The tokenizer it was trained with.
    pub tokenizer: Tokenizer,
    /// The context, in tokens, that its evaluation used.
    pub context: usize,
}

/// Saves a model. The file appears complete or not at all.
pub fn save(
    path: &Path,
    model: &Model,
    config: &TrainConfig,
    context: usize,
    dataset: &Dataset,
) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::own(format!("cannot save the model to `{}`: {error}", path.display()))
    };
    let tokenizer = fs::read_to_string(dataset.folder().join("tokenizer.json")).map_err(|e| fail(&e))?;
    let metadata = HashMap::from([
        (FORMAT.0.to_owned(), FORMAT.1.to_owned()),
        ("config".to_owned(), config.to_toml()),
        ("context".to_owned(), context.to_string()),
        ("tokenizer".to_owned(), tokenizer),
    ]);
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = model
        .parameters
        .iter()
        .map(|(role, tensor)| {
            let size = tensor.size().into_iter().map(|length| length as usize).collect();
            (role.name(), size, little_endian(tensor))
        })
        .collect();
    let mut views = Vec::new();
    for (name, size, bytes) in &tensors {
        views.push((*name, TensorView::new(Dtype::F32, size.clone(), bytes).map_err(|e| fail(&e))?));
    }
    let bytes = safetensors::serialize(views, &Some(metadata)).map_err(|e| fail(&e))?;
    // Written beside the target and then renamed, so that a crash leaves no half-written file.
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path)).map_err(|e| fail(&e))
}

/// Returns the numbers of a tensor as little-endian f32 bytes, in row-major order.
fn little_endian(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    let values = Vec::<f32>::try_from(&tensor).expect("a flat f32 tensor is a vector");
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Reads a file that [`save`] wrote, into a model on `device` that computes in `kind`.
pub fn load(path: &Path, kind: Kind, device: Device) -> Result<Loaded, Failure> {
    let fail = |reason: String| Failure::own(format!("cannot read the model `{}`: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|error| fail(error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| fail(error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    if metadata.get(FORMAT.0).map(String::as_str) != Some(FORMAT.1) {
        return Err(fail("`trainer train --save` did not write it".to_owned()));
    }
    let entry = |key: &str| metadata.get(key).ok_or_else(|| fail(format!("its header lacks `{key}`")));
    let config = TrainConfig::from_toml(entry("config")?).map_err(|error| fail(error.to_string()))?;
    let context: usize =
        entry("context")?.parse().map_err(|_| fail("its context is no number".to_owned()))?;
    let tokenizer =
        Tokenizer::from_json(entry("tokenizer")?.as_bytes()).map_err(|error| fail(error.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| fail(error.to_string()))?;
    let config = config.effective(context);
    let shape = Shape::new(&config, tokenizer.vocabulary_size(), context);
    let saved = |role: crate::model::Role| {
        let view = tensors.tensor(role.name()).ok().filter(|view| view.dtype() == Dtype::F32)?;
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let size: Vec<i64> = view.shape().iter().map(|&length| length as i64).collect();
        Some(Tensor::from_slice(&values).view(size.as_slice()))
    };
    let model = Model::load(&config, shape, kind, device, saved)
        .map_err(|role| fail(format!("its tensor `{}` is missing or has another size", role.name())))?;
    Ok(Loaded { model, tokenizer, context })
}
