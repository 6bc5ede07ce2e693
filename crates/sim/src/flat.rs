//! The plain policies that others publish, over plain arrays and without any cache: slow, and simple
//! enough to be believed. They are what the core is compared with.

use crate::dice::Dice;
use crate::openb::{Machine, Pod};
use std::collections::BTreeMap;

/// A published placement rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any node that fits.
    Random,
    /// The least left over.
    BestFit,
    /// The largest product of what is asked and what is free.
    DotProduct,
    /// A GPU in use before a free GPU on a node in use before a free node.
    GpuPacking,
    /// A node that holds pods with the same ask for GPUs.
    GpuClustering,
    /// Fragmentation gradient descent, given the list's own distribution, in steps of 80 thousandths,
    /// then best fit.
    Fgd,
}

struct Node {
    cpu: i64,
    memory: i64,
    left: Vec<i64>,
    model: String,
    /// Pods by what they ask of GPUs.
    kinds: BTreeMap<(u64, u64), u32>,
}

/// The machines and the rule.
pub(crate) struct Flat {
    nodes: Vec<Node>,
    rule: Rule,
    dice: Dice,
    cpu_max: f64,
    gpu_max: f64,
    typical: Vec<(Pod, f64)>,
}

impl Flat {
    pub(crate) fn new(machines: &[Machine], pods: &[Pod], rule: Rule, seed: u64) -> Self {
        let nodes = machines.iter().map(|machine| Node {
            cpu: machine.cpu as i64,
            memory: machine.memory as i64,
            left: vec![1_000; machine.gpus as usize],
            model: machine.model.clone(),
            kinds: BTreeMap::new(),
        });
        Self {
            nodes: nodes.collect(),
            rule,
            dice: Dice::new(seed ^ 0x5eed),
            cpu_max: machines.iter().map(|m| m.cpu).max().unwrap_or(1) as f64,
            gpu_max: 1_000.0 * f64::from(machines.iter().map(|m| m.gpus).max().unwrap_or(1)),
            typical: typical(pods),
        }
    }

    pub(crate) fn place(&mut self, pod: &Pod) -> bool {
        let mut best: Option<(f64, f64, usize)> = None;
        let mut fitting = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.fits(pod) {
                continue;
            }
            if self.rule == Rule::Random {
                fitting.push(at);
                continue;
            }
            let (first, second) = self.score(node, pod);
            if best.is_none_or(|(a, b, _)| (first, second) > (a, b)) {
                best = Some((first, second, at));
            }
        }
        let chosen = match self.rule {
            Rule::Random if fitting.is_empty() => None,
            Rule::Random => Some(fitting[self.dice.below(fitting.len())]),
            Rule::BestFit
            | Rule::DotProduct
            | Rule::GpuPacking
            | Rule::GpuClustering
            | Rule::Fgd => best.map(|(.., at)| at),
        };
        let Some(at) = chosen else { return false };
        let device = self.device(&self.nodes[at], pod);
        self.nodes[at].take(pod, device);
        true
    }

    /// Larger is better; the second number breaks ties of the first.
    fn score(&self, node: &Node, pod: &Pod) -> (f64, f64) {
        let idle = node.left.iter().sum::<i64>() as f64;
        let left_over = (node.cpu - pod.cpu as i64) as f64 / self.cpu_max
            + (idle - pod.gpu_milli() as f64) / self.gpu_max;
        match self.rule {
            Rule::Random => (0.0, 0.0),
            Rule::BestFit => (-left_over, 0.0),
            Rule::DotProduct => {
                let product = (node.cpu as f64 / self.cpu_max) * (pod.cpu as f64 / self.cpu_max)
                    + (idle / self.gpu_max) * (pod.gpu_milli() as f64 / self.gpu_max);
                (-product, 0.0)
            }
            Rule::GpuPacking => {
                let shared = pod.milli < 1_000
                    && node
                        .left
                        .iter()
                        .any(|left| *left < 1_000 && *left >= pod.milli as i64);
                let used = node.left.iter().any(|left| *left < 1_000);
                let rank = match (pod.gpus > 0, shared, used) {
                    (true, true, _) => 2.0,
                    (true, false, true) | (false, _, true) => 1.0,
                    (true, false, false) | (false, _, false) => 0.0,
                };
                (rank, -idle)
            }
            Rule::GpuClustering => {
                let same = node.kinds.get(&(pod.gpus, pod.milli)).copied();
                (f64::from(same.unwrap_or(0).min(1)), -left_over)
            }
            Rule::Fgd => {
                let before = self.fragmentation(node.cpu, &node.left, &node.model);
                let after = self.after(node, pod, self.device(node, pod));
                (((before - after) / 80.0).floor(), -left_over)
            }
        }
    }

    fn after(&self, node: &Node, pod: &Pod, device: Option<usize>) -> f64 {
        let mut left = node.left.clone();
        give(&mut left, pod, device);
        self.fragmentation(node.cpu - pod.cpu as i64, &left, &node.model)
    }

    /// The device for a part: the one that loses the least, then the fullest.
    fn device(&self, node: &Node, pod: &Pod) -> Option<usize> {
        if pod.gpus != 1 || pod.milli >= 1_000 {
            return None;
        }
        let fits = |at: &usize| node.left[*at] >= pod.milli as i64;
        let candidates = (0..node.left.len()).filter(fits);
        if self.rule == Rule::Fgd {
            return candidates.min_by(|a, b| {
                let coarse = |at: usize| (self.after(node, pod, Some(at)) / 80.0).floor();
                let by_loss = coarse(*a).total_cmp(&coarse(*b));
                by_loss.then(node.left[*a].cmp(&node.left[*b]))
            });
        }
        candidates.min_by_key(|at| node.left[*at])
    }

    fn fragmentation(&self, cpu: i64, left: &[i64], model: &str) -> f64 {
        let idle: i64 = left.iter().sum();
        let mut sum = 0.0;
        for (pod, weight) in &self.typical {
            let usable = pod.gpus > 0 && pod.accepts(model) && cpu >= pod.cpu as i64;
            let enough = left.iter().filter(|l| **l >= pod.milli as i64).count() as u64;
            let unusable = if usable && enough >= pod.gpus {
                left.iter().filter(|l| **l < pod.milli as i64).sum()
            } else {
                idle
            };
            sum += weight * unusable as f64;
        }
        sum
    }
}

impl Pod {
    fn accepts(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|accepted| accepted == model)
    }
}

impl Node {
    fn fits(&self, pod: &Pod) -> bool {
        let devices = self.left.iter().filter(|l| **l >= pod.milli as i64).count() as u64;
        self.cpu >= pod.cpu as i64
            && self.memory >= pod.memory as i64
            && (pod.gpus == 0 || (pod.accepts(&self.model) && devices >= pod.gpus))
    }

    fn take(&mut self, pod: &Pod, device: Option<usize>) {
        self.cpu -= pod.cpu as i64;
        self.memory -= pod.memory as i64;
        give(&mut self.left, pod, device);
        *self.kinds.entry((pod.gpus, pod.milli)).or_default() += 1;
    }
}

fn give(left: &mut [i64], pod: &Pod, device: Option<usize>) {
    if let Some(at) = device {
        left[at] -= pod.milli as i64;
        return;
    }
    let mut wanted = pod.gpus;
    for free in left.iter_mut() {
        if wanted > 0 && *free >= pod.milli as i64 {
            *free -= pod.milli as i64;
            wanted -= 1;
        }
    }
}

/// The most frequent pods, until they cover 95 % of the list.
fn typical(pods: &[Pod]) -> Vec<(Pod, f64)> {
    let mut counts: BTreeMap<Pod, u64> = BTreeMap::new();
    for pod in pods {
        let kind = Pod {
            memory: 0,
            ..pod.clone()
        };
        *counts.entry(kind).or_default() += 1;
    }
    let mut kinds: Vec<(Pod, u64)> = counts.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut covered = 0;
    let enough = pods.len() as u64 * 95 / 100;
    kinds.retain(|(_, count)| {
        let is_needed = covered < enough;
        covered += if is_needed { *count } else { 0 };
        is_needed
    });
    let weighed = kinds.into_iter();
    weighed
        .map(|(pod, count)| (pod, count as f64 / covered as f64))
        .collect()
}
