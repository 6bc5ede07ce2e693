//! Policies by name, as commands and scenarios name them.

use crate::plain::{Ask, Order, Plain, Rule};
use crate::policy::{Moonshot, Policy};
use sched::Config;

/// Every name with what it stands for.
pub const POLICIES: &[(&str, &str)] = &[
    ("moonshot", "the scheduler core"),
    (
        "fifo",
        "best fit, strictly by arrival: the first that does not fit holds up all others",
    ),
    (
        "easy",
        "best fit, by arrival; others pass if they leave the place that is kept for the first alone",
    ),
    (
        "sjf",
        "best fit, the shortest first, known in advance (an oracle)",
    ),
    (
        "tiresias",
        "best fit, the least GPU time so far first, in three levels, with preemption",
    ),
    (
        "static",
        "best fit, each queue on its own nodes, divided by guarantee",
    ),
    ("bestfit", "the least left over; who does not fit is passed"),
    (
        "fgd",
        "fragmentation gradient descent, given what is typical",
    ),
    (
        "dotproduct",
        "the smallest product of what is asked and what is free",
    ),
    ("packing", "a GPU in use first, then a node in use"),
    ("clustering", "a node that holds the like first"),
    ("random", "any node that fits"),
];

/// A policy by its name. `typical` is what `fgd` is given.
pub fn policy(
    name: &str,
    config: Config,
    typical: Vec<(Ask, f64)>,
    seed: u64,
) -> Option<Box<dyn Policy>> {
    let (rule, order) = match name {
        "moonshot" => return Some(Box::new(Moonshot::new(config))),
        "fifo" => (Rule::BestFit, Order::Strict),
        "easy" => (Rule::BestFit, Order::Easy),
        "sjf" => (Rule::BestFit, Order::Shortest),
        "tiresias" => (Rule::BestFit, Order::Attained),
        "static" => (Rule::BestFit, Order::Static),
        "bestfit" => (Rule::BestFit, Order::Pass),
        "fgd" => (Rule::Fgd, Order::Pass),
        "dotproduct" => (Rule::DotProduct, Order::Pass),
        "packing" => (Rule::GpuPacking, Order::Pass),
        "clustering" => (Rule::GpuClustering, Order::Pass),
        "random" => (Rule::Random, Order::Pass),
        _ => return None,
    };
    Some(Box::new(Plain::new(rule, order, typical, seed)))
}
