//! How much a placement hurts what is likely to come: fragmentation gradient descent (Weng et al.,
//! USENIX ATC 2023), with a coarse score so that packing breaks ties.
//!
//! The fragmentation of a node for a typical member is the idle GPU that this member could not use
//! there. For members that take parts of a GPU we go further than FGD, which asks whether one more fits:
//! the node is filled with them, so that remainders and CPU that runs out early count too (decision 15).
//! A node's loss is the mean over the typical members of its pool, weighted by how often they
//! came. What is typical is learnt from arrivals, at arrival counts that double, so that scores
//! stay cached in between.

use crate::amount::CPU;
use crate::ask::Ask;
use crate::cluster::{Cluster, NodeIdx};
use crate::devices::Device;
use crate::hash::Map;
use crate::names::Name;
use crate::pool::PoolIdx;

/// Losses closer than this (thousandths of a GPU) are equal, and packing decides. Exact losses pack
/// worse; steps of 40 to 100 differ little (decision 15).
const COARSE: i64 = 60;

/// The largest coarse loss; it takes nine bits of a score.
pub(crate) const LOSS_MAX: u64 = 511;

/// Weights of the typical members sum to this.
const WHOLE: i64 = 1 << 16;

/// The typical members cover this share of the arrivals.
const COVER_PERCENT: u64 = 95;

/// The most kinds of members that are kept to learn from, in one pool.
const KINDS_MAX: usize = 512;

/// The first time that something is learnt, then at four times as many arrivals.
const FIRST_LESSON: u64 = 32;

/// Sizes of parts that are counted once a node.
const SIZES: usize = 32;

/// The most devices that are looked at on a node.
const DEVICES: usize = 16;

/// What one kind of member asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    cpu: i64,
    gpus: u32,
    part: i32,
    models: Vec<Name>,
}

/// A kind with its weight.
#[derive(Clone, Debug)]
struct TypicalKind {
    kind: Kind,
    weight: i64,
    /// Where its part stands among the sizes that are typical.
    size: usize,
}

/// A size of parts that is typical, by which GPUs are divided without a division.
#[derive(Clone, Copy, Debug)]
struct PartSize {
    part: i32,
    /// 2^20 divided by it, and one more: right for all of up to a whole GPU, as 1,000 · 1,000 < 2^20.
    inverse: u32,
    in_whole: i64,
}

impl PartSize {
    fn new(part: i32) -> Self {
        Self {
            part,
            inverse: (1 << 20) / part as u32 + 1,
            in_whole: i64::from(1_000 / part),
        }
    }

    /// How many parts are in what is left of a broken GPU.
    fn fits(&self, left: i32) -> i64 {
        if left < self.part {
            return 0;
        }
        i64::from((left as u32 * self.inverse) >> 20)
    }
}

#[derive(Debug, Default)]
struct PoolKinds {
    counts: Map<Kind, u64>,
    arrivals: u64,
    next_lesson: u64,
    version: u32,
    typical: Vec<TypicalKind>,
    /// The first sizes of parts of the typical kinds, each once.
    sizes: Vec<PartSize>,
}

/// What is typical, pool by pool.
#[derive(Debug, Default)]
pub(crate) struct Typical {
    pools: Vec<PoolKinds>,
}

impl Typical {
    /// Changes when the typical members change.
    pub(crate) fn version(&self, pool: PoolIdx) -> u32 {
        self.pools
            .get(pool.0 as usize)
            .map_or(0, |pool| pool.version)
    }

    /// Notes that members arrived that may run in a pool.
    pub(crate) fn arrived(&mut self, pool: PoolIdx, ask: &Ask, count: u32) {
        let at = pool.0 as usize;
        if self.pools.len() <= at {
            self.pools.resize_with(at + 1, PoolKinds::default);
        }
        let pool = &mut self.pools[at];
        let kind = Kind {
            cpu: ask.amount.0[CPU],
            gpus: ask.gpus,
            part: ask.part,
            models: ask.models.clone(),
        };
        if pool.counts.len() >= KINDS_MAX && !pool.counts.contains_key(&kind) {
            // Halving forgets the rare kinds first and lets the mix of the present win.
            pool.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
        if pool.counts.len() < KINDS_MAX {
            *pool.counts.entry(kind).or_default() += u64::from(count);
        }
        pool.arrivals += u64::from(count);
        if pool.arrivals >= pool.next_lesson.max(FIRST_LESSON) {
            pool.next_lesson = pool.arrivals * 3 / 2;
            pool.learn();
        }
    }

    /// The expected loss on a node as it stands, in thousandths of a GPU; `None` where nothing is typical.
    pub(crate) fn loss_on(&self, node: NodeIdx, pool: PoolIdx, cluster: &Cluster) -> Option<i64> {
        let typical = self.pools.get(pool.0 as usize)?;
        if typical.typical.is_empty() {
            return None;
        }
        let (gpus, cpu) = Gpus::on(node, cluster);
        Some(typical.loss(&gpus, cpu) / WHOLE)
    }

    /// The loss of placing a member on a node, in coarse steps around the middle: smaller is better.
    pub(crate) fn coarse_loss(
        &self,
        node: NodeIdx,
        ask: &Ask,
        pool: PoolIdx,
        cluster: &Cluster,
    ) -> u64 {
        let Some(typical) = self.pools.get(pool.0 as usize) else {
            return LOSS_MAX / 2;
        };
        if typical.typical.is_empty() {
            return LOSS_MAX / 2;
        }
        let (mut gpus, cpu) = Gpus::of(node, cluster, ask);
        let before = typical.loss(&gpus, cpu);
        let cpu_after = cpu - ask.amount.0[CPU];
        let mut after = i64::MAX;
        if ask.part > 0 {
            // The best device for the part is part of the score.
            let mut tried = [0i32; DEVICES];
            for at in 0..gpus.len {
                let left = gpus.left[at];
                if !gpus.usable[at] || left < ask.part || tried[..at].contains(&left) {
                    continue;
                }
                tried[at] = left;
                gpus.left[at] -= ask.part;
                after = after.min(typical.loss(&gpus, cpu_after));
                gpus.left[at] = left;
            }
        } else {
            let mut wanted = ask.gpus;
            for at in 0..gpus.len {
                if wanted > 0 && gpus.usable[at] && gpus.left[at] >= 1_000 {
                    gpus.left[at] -= 1_000;
                    wanted -= 1;
                }
            }
            after = typical.loss(&gpus, cpu_after);
        }
        if after == i64::MAX {
            return LOSS_MAX;
        }
        let middle = LOSS_MAX as i64 / 2;
        (middle - (before - after).div_euclid(COARSE * WHOLE)).clamp(0, LOSS_MAX as i64) as u64
    }

    /// The device of a node that loses the least by giving a part of itself.
    pub(crate) fn best_device(
        &self,
        node: NodeIdx,
        ask: &Ask,
        pool: PoolIdx,
        cluster: &Cluster,
        candidates: impl Iterator<Item = u16>,
    ) -> Option<u16> {
        let typical = self.pools.get(pool.0 as usize);
        let devices = &cluster.nodes.devices[node.0 as usize];
        let mut best: Option<((i64, i32, u16), u16)> = None;
        let (gpus, cpu) = Gpus::of(node, cluster, ask);
        for device in candidates {
            let left = devices[device as usize].left;
            let loss = match typical.filter(|typical| !typical.typical.is_empty()) {
                Some(typical) => {
                    let mut gpus = gpus;
                    let position = gpus.device[..gpus.len].iter().position(|d| *d == device);
                    if let Some(position) = position {
                        gpus.left[position] -= ask.part;
                    }
                    let loss = typical.loss(&gpus, cpu - ask.amount.0[CPU]);
                    loss.div_euclid(COARSE * WHOLE)
                }
                None => 0,
            };
            let rank = (loss, left, device);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, device));
            }
        }
        best.map(|(_, device)| device)
    }
}

/// The GPUs of one node, flat.
#[derive(Clone, Copy)]
struct Gpus {
    len: usize,
    left: [i32; DEVICES],
    device: [u16; DEVICES],
    /// Whether the asking member may use it.
    usable: [bool; DEVICES],
    model: Option<Name>,
}

impl Gpus {
    /// The GPUs of a node, whoever asks.
    fn on(node: NodeIdx, cluster: &Cluster) -> (Gpus, i64) {
        Gpus::read(node, cluster, |_| true)
    }

    fn of(node: NodeIdx, cluster: &Cluster, ask: &Ask) -> (Gpus, i64) {
        Gpus::read(node, cluster, |device| {
            device.is_of_model(ask) && device.memory >= ask.gpu_memory && device.is_open(ask)
        })
    }

    fn read(node: NodeIdx, cluster: &Cluster, usable: impl Fn(&Device) -> bool) -> (Gpus, i64) {
        let at = node.0 as usize;
        let mut gpus = Gpus {
            len: 0,
            left: [0; DEVICES],
            device: [0; DEVICES],
            usable: [false; DEVICES],
            model: None,
        };
        for (number, device) in cluster.nodes.devices[at].iter().enumerate() {
            if device.class != cluster.gpu || !device.healthy || gpus.len == DEVICES {
                continue;
            }
            gpus.left[gpus.len] = device.left;
            gpus.device[gpus.len] = number as u16;
            gpus.usable[gpus.len] = usable(device);
            gpus.model = gpus.model.or(Some(device.model));
            gpus.len += 1;
        }
        (gpus, cluster.nodes.free[at].0[CPU])
    }
}

impl PoolKinds {
    fn learn(&mut self) {
        if self
            .counts
            .keys()
            .all(|kind| kind.gpus == 0 && kind.part == 0)
        {
            // Without GPUs there is nothing to fragment, and no score to make again.
            return;
        }
        let mut kinds: Vec<(&Kind, u64)> = self.counts.iter().map(|(k, n)| (k, *n)).collect();
        kinds.sort_by(|(a, na), (b, nb)| {
            let key = |kind: &Kind| (kind.gpus, kind.part, kind.cpu, kind.models.clone());
            nb.cmp(na).then_with(|| key(a).cmp(&key(b)))
        });
        let total: u64 = kinds.iter().map(|(_, n)| n).sum();
        let mut covered = 0;
        let mut typical = Vec::new();
        for (kind, count) in kinds {
            if covered * 100 >= total * COVER_PERCENT {
                break;
            }
            covered += count;
            typical.push((kind.clone(), count));
        }
        self.sizes.clear();
        self.typical = typical
            .into_iter()
            .map(|(kind, count)| TypicalKind {
                weight: (i128::from(WHOLE) * i128::from(count) / i128::from(covered.max(1))) as i64,
                size: self.size_of(&kind),
                kind,
            })
            .collect();
        self.version += 1;
    }

    /// The position of a kind's part among the sizes.
    fn size_of(&mut self, kind: &Kind) -> usize {
        if kind.gpus > 0 || kind.part <= 0 {
            return 0;
        }
        let known = self.sizes.iter().position(|size| size.part == kind.part);
        known.unwrap_or_else(|| {
            self.sizes.push(PartSize::new(kind.part));
            self.sizes.len() - 1
        })
    }

    /// The weighted idle GPU of a node that typical members could not use.
    fn loss(&self, gpus: &Gpus, cpu: i64) -> i64 {
        let lefts = &gpus.left[..gpus.len];
        // Whole and broken GPUs, once for all kinds.
        let (mut whole, mut broken, mut scraps) = (0u32, [0i32; DEVICES], 0i64);
        let mut n_broken = 0;
        for left in lefts {
            if *left >= 1_000 {
                whole += 1;
            } else {
                broken[n_broken] = *left;
                n_broken += 1;
                scraps += i64::from(*left);
            }
        }
        let broken = &broken[..n_broken];
        // Parts of a size are counted once for all kinds that take them, when the first asks.
        let mut parts_of = [-1i64; SIZES];
        let mut parts_of_size = |at: usize| {
            let count = || {
                let size = &self.sizes[at];
                let in_broken: i64 = broken.iter().map(|left| size.fits(*left)).sum();
                i64::from(whole) * size.in_whole + in_broken
            };
            match parts_of.get_mut(at) {
                Some(known) if *known >= 0 => *known,
                Some(known) => {
                    *known = count();
                    *known
                }
                None => count(),
            }
        };
        let idle = scraps + 1_000 * i64::from(whole);
        let mut loss = 0;
        for TypicalKind { kind, weight, size } in &self.typical {
            let wants_gpu = kind.gpus > 0 || kind.part > 0;
            let model_fits = kind.models.is_empty()
                || gpus.model.is_some_and(|model| kind.models.contains(&model));
            let unusable = if !wants_gpu || !model_fits || cpu < kind.cpu {
                idle
            } else if kind.gpus == 0 {
                // Filled with parts of this size: what is left of each GPU, and what the CPU leaves unused.
                let parts = parts_of_size(*size);
                let fed = if parts.saturating_mul(kind.cpu) <= cpu {
                    parts
                } else {
                    cpu / kind.cpu
                };
                idle - fed * i64::from(kind.part)
            } else if whole >= kind.gpus {
                scraps
            } else {
                idle
            };
            loss += weight * unusable;
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_as_a_division_counts_them() {
        for part in 1..=1_000 {
            let size = PartSize::new(part);
            for left in 0..1_000 {
                assert_eq!(size.fits(left), i64::from(left / part), "{left} / {part}");
            }
            assert!(size.fits(-200) == 0);
        }
    }
}
