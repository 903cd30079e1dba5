//! Muon (Jordan et al. 2024) for the matrices of the blocks.
//!
//! The momentum is orthogonalised by Polar Express. `NorMuon`'s second moment and cautious decay follow.
//!
//! Matrices of one size are updated together, as one stack `[n, rows, columns]`.

use std::collections::BTreeMap;

use autoswarm_protocol::{EffectiveConfig, Knob};
use tch::{Device, Kind, Tensor};

use super::step::{Factors, Gradients};
use crate::{
    failure::Failure,
    harness::budget::Deadline,
    model::{Model, Parameters, Role},
    shim::{self, listen},
};

/// The odd quintics x ↦ a·x + b·x³ + c·x⁵ that bring singular values to 1 fastest, one per iteration. They
/// are those of Polar Express (Amsel et al. 2025) for 5 iterations with a safety factor of 2 %, as in
/// nanochat.
const POLAR_EXPRESS: [[f64; 3]; 5] = [
    [8.156_554_524_902_461, -22.483_292_925_577_95, 15.878_769_915_207_462],
    [4.042_929_935_166_739, -2.808_917_465_908_714, 0.500_017_845_105_131_6],
    [3.891_667_802_266_260_7, -2.772_484_153_217_685, 0.506_064_817_850_339_3],
    [3.285_753_657_755_655, -2.368_129_493_342_537_6, 0.464_490_242_330_031_06],
    [2.346_541_325_859_637_7, -1.709_782_838_268_708_1, 0.423_235_511_693_053_23],
];

/// A range of rows of a role's tensor that holds one matrix in every layer.
#[derive(Debug)]
struct MatrixRows {
    role: Role,
    first_row: i64,
    rows: i64,
    layers: i64,
}

impl MatrixRows {
    /// Returns these rows of a role's tensor, `[layers, rows, columns]`, as a view.
    fn of(&self, tensor: &Tensor) -> Tensor {
        tensor.narrow(1, self.first_row, self.rows)
    }
}

/// The matrices of one size, with their state.
#[derive(Debug)]
struct Stack {
    parts: Vec<MatrixRows>,
    momentum: Tensor,
    /// `NorMuon`'s second moment, `[n, rows, 1]` or `[n, 1, columns]`, if the config has one.
    second: Option<Tensor>,
}

/// The state and the settings of all matrices that Muon trains.
#[derive(Debug)]
pub(super) struct Muon {
    stacks: Vec<Stack>,
    rate: f64,
    decay: f64,
    cautious: bool,
    nesterov: bool,
    iterations: usize,
    beta2: f64,
    kind: Kind,
    fused: bool,
}

impl Muon {
    pub(super) fn new(config: &EffectiveConfig, model: &Model) -> Self {
        let beta2 = config.number(Knob::NormuonBeta2);
        let device = model.device();
        let stacks = parts_by_size(model)
            .into_iter()
            .map(|((rows, columns), parts)| {
                let count: i64 = parts.iter().map(|part| part.layers).sum();
                let zeros = |size: [i64; 3]| Tensor::zeros(size, (Kind::Float, device));
                let second = if rows >= columns { [count, rows, 1] } else { [count, 1, columns] };
                Stack {
                    parts,
                    momentum: zeros([count, rows, columns]),
                    second: (beta2 > 0.0).then(|| zeros(second)),
                }
            })
            .collect();
        Self {
            stacks,
            rate: config.number(Knob::MatrixRate),
            decay: config.number(Knob::MatrixDecay),
            cautious: config.is_on(Knob::CautiousDecay),
            nesterov: config.is_on(Knob::MuonNesterov),
            iterations: config.integer(Knob::MuonSteps),
            beta2,
            kind: if device == Device::Cpu { Kind::Float } else { Kind::BFloat16 },
            fused: model.is_fused() && device == Device::Cpu,
        }
    }

    pub(super) fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        factors: Factors,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        for index in 0..self.stacks.len() {
            deadline.check()?;
            listen::part(listen::Part::Matrices);
            self.step_stack(index, parameters, gradients, factors);
        }
        Ok(())
    }

    fn step_stack(&mut self, index: usize, parameters: &Parameters, gradients: &Gradients, factors: Factors) {
        if self.fused {
            return self.step_fused(index, parameters, gradients, factors);
        }
        let rate = self.rate_of(&self.stacks[index].momentum.size(), factors);
        let stack = &mut self.stacks[index];
        let gather = |of: &dyn Fn(Role) -> Tensor| {
            Tensor::cat(&stack.parts.iter().map(|part| part.of(&of(part.role))).collect::<Vec<_>>(), 0)
        };
        let gradient = gather(&|role| gradients[&role].shallow_clone()); // [n, rows, columns]
        let _ = stack.momentum.lerp_(&gradient, 1.0 - factors.momentum);
        let direction = if self.nesterov {
            gradient.lerp(&stack.momentum, factors.momentum)
        } else {
            stack.momentum.shallow_clone()
        };
        let mut update = orthogonalise(&direction.to_kind(self.kind), self.iterations).to_kind(Kind::Float);
        if let Some(second) = &mut stack.second {
            update = &update * normalise(&update, second, self.beta2);
        }
        let decay = self.decay * factors.decay;
        if decay > 0.0 {
            let parameter = gather(&|role| parameters.expect(role).shallow_clone());
            let decayed = if self.cautious {
                let shrinks = (&update * &parameter).ge(0.0);
                parameter * shrinks
            } else {
                parameter
            };
            update += decayed * decay;
        }
        let _ = update.g_mul_scalar_(-rate);
        let mut first = 0;
        for part in &stack.parts {
            let _ = part.of(parameters.expect(part.role)).g_add_(&update.narrow(0, first, part.layers));
            first += part.layers;
        }
    }
}

impl Muon {
    /// Returns the rate of matrices of a size. A tall matrix maps to more dimensions than it reads, and may
    /// move further (Jordan et al. 2024).
    fn rate_of(&self, size: &[i64], factors: Factors) -> f64 {
        self.rate * factors.rate * (size[1] as f64 / size[2] as f64).max(1.0).sqrt()
    }

    /// Takes the step of [`Self::step_stack`] with its elementwise parts in two passes: one before the
    /// products, one after.
    fn step_fused(&mut self, index: usize, parameters: &Parameters, gradients: &Gradients, factors: Factors) {
        let size = self.stacks[index].momentum.size();
        let rate = self.rate_of(&size, factors);
        let Stack { parts, momentum, second } = &mut self.stacks[index];
        let mut direction = momentum.empty_like();
        let mut first = 0;
        for part in parts.iter() {
            let gradient = gradients[&part.role].contiguous();
            let rows = |stack: &Tensor| stack.narrow(0, first, part.layers);
            let (mut momentum, mut direction) = (rows(momentum), rows(&direction));
            shim::muon_momentum(
                &part.of(&gradient),
                &mut momentum,
                &mut direction,
                factors.momentum,
                self.nesterov,
            );
            first += part.layers;
        }
        let update = if stays_in_cache(&size) {
            listen::part(listen::Part::Orthogonalise);
            shim::orthogonalise(&mut direction, &POLAR_EXPRESS[..self.iterations]);
            listen::part(listen::Part::Matrices);
            direction
        } else {
            orthogonalise(&direction, self.iterations).contiguous()
        };
        let factor = second.as_mut().map(|second| shim::muon_normalise(&update, second, self.beta2));
        let mut first = 0;
        for part in parts.iter() {
            let rows = |stack: &Tensor| stack.narrow(0, first, part.layers);
            let mut parameter = part.of(parameters.expect(part.role));
            let factor = factor.as_ref().map(rows);
            let decay = self.decay * factors.decay;
            shim::muon_apply(&mut parameter, &rows(&update), factor.as_ref(), rate, decay, self.cautious);
            first += part.layers;
        }
    }
}

/// Groups the matrices of the model by size, in an order that only the sizes and the roles decide.
fn parts_by_size(model: &Model) -> BTreeMap<(i64, i64), Vec<MatrixRows>> {
    let mut by_size = BTreeMap::<_, Vec<MatrixRows>>::new();
    for (role, tensor) in model.parameters.iter().filter(|(role, _)| role.is_matrix()) {
        let (layers, _, columns) = tensor.size3().expect("matrices are stacked by layer");
        let mut first_row = 0;
        for rows in role.parts(&model.shape) {
            by_size.entry((rows, columns)).or_default().push(MatrixRows { role, first_row, rows, layers });
            first_row += rows;
        }
    }
    by_size
}

/// Returns whether the matrices of a stack of this size are best orthogonalised one by one: they are small,
/// and there is at least one for each thread.
fn stays_in_cache(size: &[i64]) -> bool {
    size[1].min(size[2]) <= shim::LARGEST_MATRIX && size[0] >= i64::from(tch::get_num_threads())
}

/// Returns, for a stack `[n, rows, columns]`, the nearest matrices whose singular values are all about 1.
fn orthogonalise(matrices: &Tensor, iterations: usize) -> Tensor {
    listen::part(listen::Part::Orthogonalise);
    let norm = matrices.square().sum_dim_intlist([-2i64, -1].as_slice(), true, None::<Kind>).sqrt();
    let mut x = matrices / (norm * 1.02 + 1e-6); // 1.02: the safety factor of the coefficients
    let size = matrices.size();
    let tall = size[1] > size[2];
    for [a, b, c] in POLAR_EXPRESS.into_iter().take(iterations) {
        // The Gram matrix of the short side, then the polynomial in it.
        let gram = if tall { x.transpose(1, 2).bmm(&x) } else { x.bmm(&x.transpose(1, 2)) };
        let polynomial = gram.baddbmm(&gram, &gram, b, c);
        let scaled = |first: &Tensor, second: &Tensor| x.baddbmm(first, second, a, 1.0);
        x = if tall { scaled(&x, &polynomial) } else { scaled(&polynomial, &x) };
    }
    listen::part(listen::Part::Matrices);
    x
}

/// Returns the factors of `NorMuon` (Li et al. 2025). They divide by the root of a running mean square, and
/// restore the norm of each matrix. The mean is taken per row, or per column of a wide matrix.
fn normalise(update: &Tensor, second: &mut Tensor, beta2: f64) -> Tensor {
    let size = update.size();
    let (along, count) = if size[1] >= size[2] { (-1, size[2]) } else { (-2, size[1]) };
    let square = update.square().mean_dim(along, true, None::<Kind>);
    let _ = second.lerp_(&square, 1.0 - beta2);
    let factor = second.clamp_min(1e-10).rsqrt();
    let norm_of = |squares: &Tensor| {
        let sum = squares.sum_dim_intlist([-2i64, -1].as_slice(), true, None::<Kind>);
        (sum * count as f64).sqrt()
    };
    let (before, after) = (norm_of(&square), norm_of(&(&square * factor.square())));
    factor * (before / after.clamp_min(1e-10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        for size in [[2, 32, 32], [2, 64, 16], [2, 16, 64]] {
            tch::manual_seed(1);
            let matrices = Tensor::randn(size, (Kind::Float, Device::Cpu));
            let (_, values, _) = orthogonalise(&matrices, 5).svd(true, false);
            let (low, high) = (values.min().double_value(&[]), values.max().double_value(&[]));
            assert!(low > 0.6 && high < 1.3, "{size:?}: {low}…{high}");
        }
    }

    #[test]
    fn normalising_keeps_each_matrix_norm_and_evens_its_rows() {
        let update = Tensor::from_slice(&[3.0f32, 0.0, 0.0, 0.1, 0.0, 0.2]).view([1, 3, 2]);
        let mut second = Tensor::zeros([1, 3, 1], (Kind::Float, Device::Cpu));
        let even = &update * normalise(&update, &mut second, 0.5);
        let norm = |x: &Tensor| x.square().sum(Kind::Float).sqrt().double_value(&[]);
        assert!((norm(&even) - norm(&update)).abs() < 1e-4);
        let rows = even.square().mean_dim(-1, false, None::<Kind>);
        assert!((rows.max() / rows.min()).double_value(&[]) < 1.01);
    }
}
