//! What is found out about a model before it is ready: by running it on made-up rows, whether requests may be
//! run together; and what it takes in memory.

use super::{Runtime, Signature};
use crate::tensor::{Data, Datatype, Tensor};
use bytes::Bytes;

/// How far the rows of a batch may be from the same rows alone: other kernels sum in another order.
const TOLERANCE: f64 = 1e-4;
/// Elements of a made-up tensor: a signature may ask for any number.
const ELEMENTS_MAX: usize = 1 << 26;

/// Rows of made-up values, other ones for each seed. Dimensions that may be any are 1. `None` where they would be
/// huge.
pub(super) fn rows(signature: &Signature, seeds: &[usize]) -> Option<Vec<Tensor>> {
    signature
        .inputs
        .iter()
        .map(|port| {
            let wanted = port.shape.as_deref().unwrap_or(&[-1]);
            let mut shape: Vec<usize> = wanted
                .iter()
                .map(|&size| size.max(-1).unsigned_abs() as usize)
                .collect();
            let is_batch = port.is_batch() || port.shape.is_none();
            let seeds = if is_batch { seeds } else { &seeds[..1] };
            if is_batch {
                shape[0] = seeds.len();
            }
            let n = shape
                .iter()
                .try_fold(1_usize, |product, &size| product.checked_mul(size))
                .filter(|&n| n <= ELEMENTS_MAX)?;
            let width = n / seeds.len().max(1);
            let value = |at: usize| {
                let seed = seeds[(at / width.max(1)).min(seeds.len() - 1)];
                (seed, at % width.max(1))
            };
            let data = match port.datatype {
                Datatype::F32 => Data::F32((0..n).map(|at| float(value(at)) as f32).collect()),
                Datatype::F64 => Data::F64((0..n).map(|at| float(value(at))).collect()),
                // An empty string is an example without features, and a word that no table has.
                Datatype::Bytes => Data::Bytes(
                    (0..n)
                        .map(|at| match value(at) {
                            (0, _) => Bytes::new(),
                            (seed, column) => Bytes::from(format!("{seed}{column}")),
                        })
                        .collect(),
                ),
                Datatype::Bool => Data::Int((0..n).map(|at| (value(at).0 % 2) as i64).collect()),
                // Small ones, for they may be places in a table.
                _ => Data::Int((0..n).map(|at| (value(at).0 % 3) as i64).collect()),
            };
            Some(Tensor {
                name: port.name.clone(),
                datatype: port.datatype,
                shape,
                data,
            })
        })
        .collect()
}

fn float((seed, column): (usize, usize)) -> f64 {
    ((seed * 31 + column * 7) % 17) as f64 / 8.0 - 1.0
}

/// Whether all inputs and outputs have rows.
pub(super) fn may_be_row_wise(signature: &Signature) -> bool {
    let all = |ports: &[crate::tensor::Port]| ports.iter().all(crate::tensor::Port::is_batch);
    !signature.inputs.is_empty() && all(&signature.inputs) && all(&signature.outputs)
}

/// Whether rows give together what they give alone. A model that refuses made-up rows is not believed to.
pub(super) fn is_row_wise(model: &dyn Runtime, at: usize) -> bool {
    let signature = &model.signatures()[at];
    if !may_be_row_wise(signature) {
        return false;
    }
    let run = |seeds: &[usize]| model.run(at, &rows(signature, seeds)?).ok();
    let seeds = [1, 2, 3];
    let Some(together) = run(&seeds) else {
        return false;
    };
    seeds.iter().enumerate().all(|(row, seed)| {
        let Some(alone) = run(&[*seed]) else {
            return false;
        };
        together.iter().zip(&alone).all(|(together, alone)| {
            together.n_rows() == seeds.len()
                && alone.n_rows() == 1
                && together.shape[1..] == alone.shape[1..]
                && same(&together.data, &alone.data, row * alone.data.len())
        })
    })
}

fn same(together: &Data, alone: &Data, first: usize) -> bool {
    let near = |a: f64, b: f64| {
        (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= TOLERANCE * (1.0 + b.abs())
    };
    match (together, alone) {
        (Data::F32(together), Data::F32(alone)) => together[first..]
            .iter()
            .zip(alone)
            .all(|(&a, &b)| near(a.into(), b.into())),
        (Data::F64(together), Data::F64(alone)) => together[first..]
            .iter()
            .zip(alone)
            .all(|(&a, &b)| near(a, b)),
        (Data::Int(together), Data::Int(alone)) => together[first..].starts_with(alone),
        (Data::Bytes(together), Data::Bytes(alone)) => together[first..].starts_with(alone),
        _ => false,
    }
}

/// Bytes of memory that the process has.
pub(super) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * 4_096
}
