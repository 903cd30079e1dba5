//! Initial values of the parameters. Only the seed and a parameter's name decide them.
//!
//! Every matrix is drawn on its own, with unit variance, from a generator seeded by (seed, name), and then
//! scaled. So a change of scale keeps the directions, and a deeper model keeps the layers it had. Two configs
//! start as alike as they can, which makes paired runs comparable. All draws happen on the CPU, whatever the
//! device.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

/// The distribution of the matrices of a block, always with mean 0 and variance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// The uniform distribution on ±√3.
    Uniform,
    /// The standard normal distribution.
    Normal,
    /// Orthonormal rows or columns, whichever are fewer, scaled to unit variance.
    Orthogonal,
}

/// Held while drawing. libtorch has one generator per process, and a seed only has a meaning while nobody
/// else draws.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Runs `draw` while libtorch's generators are seeded by (seed, name).
pub fn seeded<T>(seed: u64, name: &str, draw: impl FnOnce() -> T) -> T {
    let mut hasher = blake3::Hasher::new_derive_key("autoswarm 1 trainer draw");
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    let hash = hasher.finalize();
    let key = i64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
    // A panic while drawing leaves nothing half-done, so a poisoned lock is fine: the next caller seeds
    // again.
    let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(key);
    draw()
}

/// Returns a `rows × columns` matrix of unit variance.
pub fn draw(distribution: Distribution, rows: i64, columns: i64, seed: u64, name: &str) -> Tensor {
    let normal = || Tensor::randn([rows, columns], (Kind::Float, Device::Cpu));
    match distribution {
        Distribution::Uniform => seeded(seed, name, || {
            Tensor::empty([rows, columns], (Kind::Float, Device::Cpu)).uniform_(-3f64.sqrt(), 3f64.sqrt())
        }),
        Distribution::Normal => seeded(seed, name, normal),
        Distribution::Orthogonal => orthogonal(&seeded(seed, name, normal)),
    }
}

/// Returns the orthogonal factor of a matrix, scaled so that its entries have unit variance.
fn orthogonal(gaussian: &Tensor) -> Tensor {
    let (rows, columns) = gaussian.size2().expect("a matrix has two dimensions");
    let tall = if rows >= columns { gaussian.shallow_clone() } else { gaussian.tr() };
    let (q, r) = Tensor::linalg_qr(&tall, "reduced");
    // The signs of R's diagonal make Q uniform over the orthogonal matrices (Mezzadri 2007).
    let q = q * r.diagonal(0, 0, 1).sign().unsqueeze(0);
    let q = if rows >= columns { q } else { q.tr() };
    q * (rows.max(columns) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f64_of(tensor: &Tensor) -> f64 {
        tensor.double_value(&[])
    }

    #[test]
    fn every_distribution_has_unit_variance() {
        for distribution in [Distribution::Uniform, Distribution::Normal, Distribution::Orthogonal] {
            for (rows, columns) in [(64, 64), (128, 32), (32, 128)] {
                let matrix = draw(distribution, rows, columns, 1, "matrix");
                let variance = f64_of(&matrix.square().mean(Kind::Float));
                assert!((variance - 1.0).abs() < 0.06, "{distribution:?}: {variance}");
            }
        }
    }

    #[test]
    fn an_orthogonal_draw_is_orthogonal() {
        let matrix = draw(Distribution::Orthogonal, 16, 64, 1, "matrix");
        let gram = matrix.matmul(&matrix.tr()) / 64.0;
        let error = (gram - Tensor::eye(16, (Kind::Float, Device::Cpu))).abs().max();
        assert!(f64_of(&error) < 1e-5);
    }

    #[test]
    fn seed_and_name_decide_every_bit() {
        let of = |seed, name| draw(Distribution::Normal, 8, 8, seed, name);
        assert!(of(1, "a").equal(&of(1, "a")));
        assert!(!of(1, "a").equal(&of(2, "a")));
        assert!(!of(1, "a").equal(&of(1, "b")));
    }
}
