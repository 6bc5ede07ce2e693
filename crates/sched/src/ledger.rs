//! The quota tree: what each queue and everything below it uses, pool by pool, against its lines.

use crate::amount::{Amount, CPU, GPU, LANES, MEMORY, SLOTS, UNLIMITED, lane_amount};
use crate::cluster::Cluster;
use crate::event::{QueueOrder, QueueSpec, Quota};
use crate::fade::Fade;
use crate::hash::Map;
use crate::pool::PoolIdx;
use base::{Resources, quantity::MilliCpu, resources::show_gpus};

/// Position of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueueIdx(pub(crate) u32);

/// The deepest tree; what lies above is ignored, and a circle of parents ends here too.
pub(crate) const DEPTH_MAX: usize = 16;

/// A quota in the lanes of one pool.
#[derive(Clone, Debug)]
pub(crate) struct QuotaLines {
    pub(crate) guaranteed: Amount,
    pub(crate) limit: Amount,
    pub(crate) weight: i64,
    layout: u32,
}

/// One queue, or a name that a task or a child gave.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) spec: Option<QueueSpec>,
    /// From itself to its root.
    pub(crate) path: Vec<QueueIdx>,
    pub(crate) children: Vec<QueueIdx>,
    /// Used by itself alone, by pool.
    own: Vec<Amount>,
    /// Used by itself and all below, by pool.
    used: Vec<Amount>,
    /// The part of `used` that was told to stop.
    leaving: Vec<Amount>,
    own_leaving: Vec<Amount>,
    /// Use over the guarantee in the past, faded, by pool that remembers it.
    past: Vec<Amount>,
    lines: Vec<Option<QuotaLines>>,
    /// Waiting tasks in it and below it.
    pub(crate) waiting: usize,
    own_waiting: usize,
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) queues: Vec<Queue>,
    /// Where paths end, each once.
    pub(crate) tops: Vec<QueueIdx>,
    by_name: Map<String, QueueIdx>,
}

/// A quota line that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverLine {
    pub(crate) queue: QueueIdx,
    pub(crate) lane: usize,
}

impl Ledger {
    pub(crate) fn queue(&self, idx: QueueIdx) -> &Queue {
        &self.queues[idx.0 as usize]
    }

    pub(crate) fn find(&self, name: &str) -> Option<QueueIdx> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn find_or_new(&mut self, name: &str) -> QueueIdx {
        if let Some(idx) = self.find(name) {
            return idx;
        }
        let idx = QueueIdx(self.queues.len() as u32);
        self.by_name.insert(name.to_owned(), idx);
        self.tops.push(idx);
        self.queues.push(Queue {
            name: name.to_owned(),
            spec: None,
            path: vec![idx],
            children: Vec::new(),
            own: Vec::new(),
            used: Vec::new(),
            leaving: Vec::new(),
            own_leaving: Vec::new(),
            past: Vec::new(),
            lines: Vec::new(),
            waiting: 0,
            own_waiting: 0,
        });
        idx
    }

    /// Who goes first in a queue; the usual order while it is unknown.
    pub(crate) fn order_of(&self, name: &str) -> QueueOrder {
        let queue = self.find(name).map(|idx| self.queue(idx));
        let spec = queue.and_then(|queue| queue.spec.as_ref());
        spec.map_or(QueueOrder::default(), |spec| spec.order)
    }

    pub(crate) fn set(&mut self, spec: QueueSpec) {
        let idx = self.find_or_new(&spec.name);
        if let Some(parent) = &spec.parent {
            self.find_or_new(parent);
        }
        self.queues[idx.0 as usize].spec = Some(spec);
        self.rebuild();
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(idx) = self.find(name) {
            self.queues[idx.0 as usize].spec = None;
            self.rebuild();
        }
    }

    /// Derives paths, children and sums from the specs.
    fn rebuild(&mut self) {
        let parents: Vec<Option<QueueIdx>> = self
            .queues
            .iter()
            .map(|queue| {
                let parent = queue.spec.as_ref()?.parent.as_deref()?;
                self.find(parent)
            })
            .collect();
        for (at, queue) in self.queues.iter_mut().enumerate() {
            let mut path = vec![QueueIdx(at as u32)];
            while let Some(parent) = parents[path[path.len() - 1].0 as usize] {
                if path.contains(&parent) || path.len() == DEPTH_MAX {
                    break;
                }
                path.push(parent);
            }
            queue.path = path;
            queue.children.clear();
            queue.used.clear();
            queue.leaving.clear();
            queue.lines.clear();
            queue.waiting = 0;
        }
        for at in 0..self.queues.len() {
            let path = self.queues[at].path.clone();
            if path.len() > 1 {
                let child = path[0];
                self.queues[path[1].0 as usize].children.push(child);
            }
            for idx in &path {
                self.queues[idx.0 as usize].waiting += self.queues[at].own_waiting;
            }
            for pool in 0..self.queues[at].own.len() {
                let own = self.queues[at].own[pool];
                for idx in &path {
                    *slot(&mut self.queues[idx.0 as usize].used, pool) += &own;
                }
            }
            for pool in 0..self.queues[at].own_leaving.len() {
                let own = self.queues[at].own_leaving[pool];
                for idx in &path {
                    *slot(&mut self.queues[idx.0 as usize].leaving, pool) += &own;
                }
            }
        }
        let mut tops: Vec<QueueIdx> = self
            .queues
            .iter()
            .filter_map(|queue| queue.path.last().copied())
            .collect();
        tops.sort_unstable();
        tops.dedup();
        self.tops = tops;
        for at in 0..self.queues.len() {
            let mut children = std::mem::take(&mut self.queues[at].children);
            children.sort_by(|a, b| self.queue(*a).name.cmp(&self.queue(*b).name));
            self.queues[at].children = children;
        }
    }

    pub(crate) fn used(&self, idx: QueueIdx, pool: PoolIdx) -> Amount {
        let used = self.queue(idx).used.get(pool.0 as usize);
        used.copied().unwrap_or(Amount::ZERO)
    }

    pub(crate) fn add(&mut self, idx: QueueIdx, pool: PoolIdx, amount: &Amount) {
        self.change(idx, pool, amount, true);
    }

    pub(crate) fn subtract(&mut self, idx: QueueIdx, pool: PoolIdx, amount: &Amount) {
        self.change(idx, pool, amount, false);
    }

    fn change(&mut self, idx: QueueIdx, pool: PoolIdx, amount: &Amount, add: bool) {
        let pool = pool.0 as usize;
        let own = slot(&mut self.queues[idx.0 as usize].own, pool);
        if add {
            *own += amount;
        } else {
            *own -= amount;
        }
        for at in 0..self.queues[idx.0 as usize].path.len() {
            let above = self.queues[idx.0 as usize].path[at];
            let used = slot(&mut self.queues[above.0 as usize].used, pool);
            if add {
                *used += amount;
            } else {
                *used -= amount;
            }
        }
    }

    /// What the queue used of a pool over its guarantee, faded.
    pub(crate) fn past(&self, idx: QueueIdx, pool: PoolIdx) -> Amount {
        let past = self.queue(idx).past.get(pool.0 as usize);
        past.copied().unwrap_or(Amount::ZERO)
    }

    /// Lets the past of a pool fade: what is used now has been used since `factor` was one.
    pub(crate) fn fade(&mut self, pool: PoolIdx, factor: Fade, cluster: &Cluster) {
        for at in 0..self.queues.len() {
            let idx = QueueIdx(at as u32);
            let used = self.used(idx, pool);
            let guaranteed = self.lines(idx, pool, cluster).guaranteed;
            let past = slot(&mut self.queues[at].past, pool.0 as usize);
            for lane in 0..LANES {
                let over = (used.0[lane] - guaranteed.0[lane]).max(0);
                past.0[lane] = factor.between(past.0[lane], over);
            }
        }
    }

    /// Notes that a part of what a queue uses was told to stop, or no longer is.
    pub(crate) fn count_leaving(
        &mut self,
        idx: QueueIdx,
        pool: PoolIdx,
        amount: &Amount,
        add: bool,
    ) {
        let pool = pool.0 as usize;
        let change = |sum: &mut Amount| {
            if add {
                *sum += amount;
            } else {
                *sum -= amount;
            }
        };
        change(slot(&mut self.queues[idx.0 as usize].own_leaving, pool));
        for at in 0..self.queues[idx.0 as usize].path.len() {
            let above = self.queues[idx.0 as usize].path[at];
            change(slot(&mut self.queues[above.0 as usize].leaving, pool));
        }
    }

    /// What will be used once everything that was told to stop has stopped.
    pub(crate) fn staying(&self, idx: QueueIdx, pool: PoolIdx) -> Amount {
        let mut used = self.used(idx, pool);
        if let Some(leaving) = self.queue(idx).leaving.get(pool.0 as usize) {
            used -= leaving;
        }
        used
    }

    /// The children of the lowest common ancestor on the way to each of two queues; `None` where one
    /// is the other or lies above it.
    pub(crate) fn rivals(&self, a: QueueIdx, b: QueueIdx) -> Option<(QueueIdx, QueueIdx)> {
        let (up_a, up_b) = (&self.queue(a).path, &self.queue(b).path);
        let mut common = 0;
        while common < up_a.len()
            && common < up_b.len()
            && up_a[up_a.len() - 1 - common] == up_b[up_b.len() - 1 - common]
        {
            common += 1;
        }
        let side = |path: &[QueueIdx]| {
            let at = path.len().checked_sub(common + 1)?;
            Some(path[at])
        };
        Some((side(up_a)?, side(up_b)?))
    }

    pub(crate) fn count_waiting(&mut self, idx: QueueIdx, add: bool) {
        let own = &mut self.queues[idx.0 as usize].own_waiting;
        *own = if add { *own + 1 } else { *own - 1 };
        for at in 0..self.queues[idx.0 as usize].path.len() {
            let above = self.queues[idx.0 as usize].path[at].0 as usize;
            if add {
                self.queues[above].waiting += 1;
            } else {
                self.queues[above].waiting -= 1;
            }
        }
    }

    /// The queue's lines for a pool, compiled when they or the pool's lanes changed.
    pub(crate) fn lines(&mut self, idx: QueueIdx, pool: PoolIdx, cluster: &Cluster) -> &QuotaLines {
        let layout = cluster.pool(pool).extended.len() as u32;
        let queue = &mut self.queues[idx.0 as usize];
        let at = pool.0 as usize;
        if queue.lines.len() <= at {
            queue.lines.resize(at + 1, None);
        }
        let stale = queue.lines[at]
            .as_ref()
            .is_none_or(|lines| lines.layout != layout);
        if stale {
            queue.lines[at] = Some(compile(queue.spec.as_ref(), pool, cluster, layout));
        }
        queue.lines[at].as_ref().expect("it was just compiled")
    }

    /// The queue's ceiling in a pool, without keeping it.
    pub(crate) fn limit_now(&self, idx: QueueIdx, pool: PoolIdx, cluster: &Cluster) -> Amount {
        compile(self.queue(idx).spec.as_ref(), pool, cluster, 0).limit
    }

    /// What is guaranteed to the queue in a pool, without keeping it.
    pub(crate) fn guaranteed_now(&self, idx: QueueIdx, pool: PoolIdx, cluster: &Cluster) -> Amount {
        compile(self.queue(idx).spec.as_ref(), pool, cluster, 0).guaranteed
    }

    /// The lowest line on the way up that `more` would cross.
    pub(crate) fn over_limit(
        &mut self,
        idx: QueueIdx,
        pool: PoolIdx,
        more: &Amount,
        cluster: &Cluster,
    ) -> Option<OverLine> {
        for at in 0..self.queue(idx).path.len() {
            let queue = self.queue(idx).path[at];
            let used = self.used(queue, pool);
            let limit = self.lines(queue, pool, cluster).limit;
            for lane in 0..LANES {
                if more.0[lane] > 0 && used.0[lane].saturating_add(more.0[lane]) > limit.0[lane] {
                    return Some(OverLine { queue, lane });
                }
            }
        }
        None
    }
}

fn slot(amounts: &mut Vec<Amount>, at: usize) -> &mut Amount {
    if amounts.len() <= at {
        amounts.resize(at + 1, Amount::ZERO);
    }
    &mut amounts[at]
}

/// What a spec says about a pool.
pub(crate) fn quota_of<'a>(spec: Option<&'a QueueSpec>, pool: &str) -> Option<&'a Quota> {
    spec.and_then(|spec| spec.quotas.get(pool).or_else(|| spec.quotas.get("*")))
}

fn compile(
    spec: Option<&QueueSpec>,
    pool_idx: PoolIdx,
    cluster: &Cluster,
    layout: u32,
) -> QuotaLines {
    let pool = cluster.pool(pool_idx);
    let quota = quota_of(spec, &pool.name);
    let mut lines = QuotaLines {
        guaranteed: Amount::ZERO,
        limit: Amount::UNLIMITED,
        weight: 1,
        layout,
    };
    let Some(quota) = quota else { return lines };
    lines.weight = i64::from(quota.weight);
    let resources: &Resources = &quota.guaranteed;
    lines.guaranteed.0[CPU] = lane_amount(resources.cpu.0);
    lines.guaranteed.0[MEMORY] = lane_amount(resources.memory.0);
    lines.guaranteed.0[GPU] = lane_amount(resources.gpu_milli);
    let lane_of = |name: &str| match name {
        "cpu" => Some(CPU),
        "memory" => Some(MEMORY),
        "gpu" => Some(GPU),
        "slots" => Some(SLOTS),
        _ => pool.lane(cluster.names.find(name)?),
    };
    for (name, amount) in &resources.extended {
        if let Some(lane) = lane_of(name) {
            lines.guaranteed.0[lane] = lane_amount(*amount);
        }
    }
    for shape in &quota.shapes {
        let each = cluster.amount(&shape.each, pool_idx);
        for lane in 0..LANES {
            if lane != SLOTS {
                let all = each.0[lane].saturating_mul(i64::from(shape.nodes));
                let sum = lines.guaranteed.0[lane].saturating_add(all);
                lines.guaranteed.0[lane] = sum.min(UNLIMITED);
            }
        }
    }
    for (name, amount) in &quota.limit {
        if let Some(lane) = lane_of(name) {
            lines.limit.0[lane] = lane_amount(*amount);
        }
    }
    if quota.weight == 0 {
        // Without borrowing the guarantee is the ceiling. A lane that the guarantee does not name is
        // left alone, but GPUs are what quotas are about: naming none means none.
        for lane in 0..LANES {
            let guaranteed = lines.guaranteed.0[lane];
            if guaranteed > 0 || lane == GPU {
                lines.limit.0[lane] = lines.limit.0[lane].min(guaranteed);
            }
        }
    }
    lines
}

/// A lane's amount as people write it.
pub(crate) fn show(lane: usize, amount: i64) -> String {
    let amount = amount.max(0) as u64;
    match lane {
        _ if amount >= UNLIMITED as u64 => "unlimited".to_owned(),
        CPU => MilliCpu(amount).to_string(),
        MEMORY => base::Bytes(amount).to_string(),
        GPU => show_gpus(amount),
        _ => amount.to_string(),
    }
}
