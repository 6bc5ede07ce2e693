//! Published rules for the choice between nodes that fit. No caches: simple enough to be believed.

use super::node::{Ask, Node};

/// A published placement rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any node that fits.
    Random,
    /// The least left over.
    BestFit,
    /// The smallest product of what is asked and what is free.
    DotProduct,
    /// A GPU in use before a free GPU on a node in use before a free node.
    GpuPacking,
    /// A node that holds pods with the same ask for GPUs.
    GpuClustering,
    /// Fragmentation gradient descent (Weng et al., ATC 2023), given what is typical, in steps of 80
    /// thousandths, then best fit.
    Fgd,
}

/// The rule with what it needs to know.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    pub(super) rule: Rule,
    pub(super) typical: Vec<(Ask, f64)>,
    pub(super) cpu_max: f64,
    pub(super) gpu_max: f64,
}

impl Judge {
    /// Larger is better; the second number breaks ties of the first.
    pub(super) fn score(&self, node: &Node, ask: &Ask) -> (f64, f64) {
        let idle = node.left.iter().sum::<i64>() as f64;
        let left_over = (node.cpu - ask.cpu) as f64 / self.cpu_max
            + (idle - ask.gpu_milli() as f64) / self.gpu_max;
        match self.rule {
            Rule::Random => (0.0, 0.0),
            Rule::BestFit => (-left_over, 0.0),
            Rule::DotProduct => {
                let product = (node.cpu as f64 / self.cpu_max) * (ask.cpu as f64 / self.cpu_max)
                    + (idle / self.gpu_max) * (ask.gpu_milli() as f64 / self.gpu_max);
                (-product, 0.0)
            }
            Rule::GpuPacking => {
                let part = |left: &i64| *left < 1_000 && *left >= ask.milli;
                let shared = ask.milli < 1_000 && node.left.iter().any(part);
                let used = node.left.iter().any(|left| *left < 1_000);
                let rank = match (ask.gpus > 0, shared, used) {
                    (true, true, _) => 2.0,
                    (true, false, true) | (false, _, true) => 1.0,
                    (true, false, false) | (false, _, false) => 0.0,
                };
                (rank, -idle)
            }
            Rule::GpuClustering => {
                let same = node.kinds.get(&(ask.gpus, ask.milli)).copied();
                (f64::from(same.unwrap_or(0).min(1)), -left_over)
            }
            Rule::Fgd => {
                let before = self.fragmentation(node.cpu, &node.left, &node.model);
                let after = self.after(node, ask, &self.devices(node, ask));
                (((before - after) / 80.0).floor(), -left_over)
            }
        }
    }

    /// The devices to take on a node: for a part the one that loses the least, then the fullest.
    pub(super) fn devices(&self, node: &Node, ask: &Ask) -> Vec<usize> {
        let fits = |at: &usize| node.left[*at] >= ask.milli;
        let candidates = (0..node.left.len()).filter(fits);
        if ask.gpus != 1 || ask.milli >= 1_000 {
            return candidates.take(ask.gpus).collect();
        }
        let best = if self.rule == Rule::Fgd {
            candidates.min_by(|a, b| {
                let coarse = |at: usize| (self.after(node, ask, &[at]) / 80.0).floor();
                let by_loss = coarse(*a).total_cmp(&coarse(*b));
                by_loss.then(node.left[*a].cmp(&node.left[*b]))
            })
        } else {
            candidates.min_by_key(|at| node.left[*at])
        };
        best.into_iter().collect()
    }

    fn after(&self, node: &Node, ask: &Ask, devices: &[usize]) -> f64 {
        let mut left = node.left.clone();
        for device in devices {
            left[*device] -= ask.milli;
        }
        self.fragmentation(node.cpu - ask.cpu, &left, &node.model)
    }

    fn fragmentation(&self, cpu: i64, left: &[i64], model: &str) -> f64 {
        let idle: i64 = left.iter().sum();
        let mut sum = 0.0;
        for (ask, weight) in &self.typical {
            let usable = ask.gpus > 0 && ask.accepts(model) && cpu >= ask.cpu;
            let enough = left.iter().filter(|l| **l >= ask.milli).count();
            let unusable = if usable && enough >= ask.gpus {
                left.iter().filter(|l| **l < ask.milli).sum()
            } else {
                idle
            };
            sum += weight * unusable as f64;
        }
        sum
    }
}
