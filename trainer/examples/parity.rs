//! Trains the default config on made-up rows and writes a file for `scripts/parity/reference.py`, which
//! repeats the training with PyTorch.
//!
//! The file holds the initial values, the rows and the losses. Only the initial scales differ from the
//! default config.

use std::{env, error::Error, fs};

use autoswarm_protocol::TrainConfig;
use autoswarm_trainer::{
    device,
    harness::budget::Deadline,
    model::{Model, Role},
    optimizer::{Gradients, Optimizer},
};
use safetensors::{Dtype, tensor::TensorView};
use tch::{Device, Kind, Tensor};

/// If blocks start as the identity, the first gradients of the residual and feedback factors are 0 up to
/// rounding, and Adam turns rounding into whole steps. PyTorch in f32 and in f64 then differ by 1 % after one
/// step. These scales avoid that.
const INITIAL_SCALES: &str = "projection_init = 0.5\nunembedding_init = 0.05";

const STEPS: i64 = 50;
const ROWS: i64 = 8;
const CONTEXT: i64 = 128;
const VOCABULARY: i64 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("give the file to write")?;
    device::set_threads(Some(1));
    let config = TrainConfig::from_toml(INITIAL_SCALES)?.effective(CONTEXT as usize);
    let model = Model::new(&config, VOCABULARY as usize, CONTEXT as usize, 1, Kind::Float, Device::Cpu);
    let mut optimizer = Optimizer::new(&config, &model);
    let rows = rows();
    let mut file: Vec<(String, Tensor)> = vec![("rows".to_owned(), rows.to_kind(Kind::Float))];
    file.extend(
        model.parameters.iter().map(|(role, tensor)| (role.name().to_owned(), tensor.detach().copy())),
    );
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let loss = model.loss(&rows.get(step), None, &Deadline::never())?;
        let (roles, parameters): (Vec<Role>, Vec<&Tensor>) = model.parameters.iter().unzip();
        let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
        let gradients: Gradients = roles.into_iter().zip(gradients).collect();
        optimizer.step(&model.parameters, gradients, step as f64 / STEPS as f64, &Deadline::never())?;
        losses.push(loss.double_value(&[]) as f32);
    }
    file.push(("losses".to_owned(), Tensor::from_slice(&losses)));
    write(&path, &file)
}

/// Returns rows `[STEPS, ROWS, CONTEXT + 1]`. Each counts upwards, with a start and a stride of its own.
fn rows() -> Tensor {
    let options = (Kind::Int64, Device::Cpu);
    let row = Tensor::arange(STEPS * ROWS, options).view([STEPS, ROWS, 1]);
    let position = Tensor::arange(CONTEXT + 1, options);
    let (start, stride) = (&row * 37, (&row * 11).remainder(7) + 1);
    (start + stride * position).remainder(251)
}

/// Writes the tensors as f32 into one safetensors file.
fn write(path: &str, tensors: &[(String, Tensor)]) -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        let values = Vec::<f32>::try_from(&tensor.contiguous().view([-1]))?;
        bytes.push(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    let mut views = Vec::new();
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let size = tensor.size().into_iter().map(|length| length as usize).collect();
        views.push((name.as_str(), TensorView::new(Dtype::F32, size, bytes)?));
    }
    fs::write(path, safetensors::serialize(views, &None)?)?;
    Ok(())
}
