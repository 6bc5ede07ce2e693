//! The decision loop: whose turn it is, and what becomes of the attempt.
//!
//! Queues are visited from the root down: those below their guarantee first, then the one with the
//! smallest dominant share over its guarantee, weighted. Within a queue the order is strict for each
//! pool: a task that waits for a pool keeps the later ones of its queue out of it, and out of no other.

use crate::amount::{GPU, LANES, MEMORY, SLOTS};
use crate::answers::Pending;
use crate::class::ClassIdx;
use crate::decision::{Decision, DecisionId, DecisionKind};
use crate::fade::Fade;
use crate::ledger::QueueIdx;
use crate::place::{Refusal, Seat};
use crate::pool::PoolIdx;
use crate::sched::Sched;
use crate::task::{Held, Order, Stage, TaskIdx};
use crate::waiting::RowIdx;
use base::Time;

/// Shares are counted in parts of this.
pub(crate) const SHARE_ONE: i64 = 1 << 30;

/// The most identical tasks that claim room in one search.
const CLAIMS_MAX: usize = 256;

/// What one call of [`Sched::decide`] may still do.
#[derive(Debug)]
pub(crate) struct Budget {
    left: i64,
}

impl Budget {
    pub(crate) fn spend(&mut self, steps: usize) {
        self.left -= steps as i64;
    }
    pub(crate) fn is_spent(&self) -> bool {
        self.left <= 0
    }
}

impl Sched {
    /// Proposes what to do now, within a budget of elementary steps (one for each task looked at and
    /// each seat found). At least one task is looked at; what is left waits for the next call.
    pub fn decide(&mut self, now: Time, steps: u32) -> Vec<Decision> {
        let mut budget = Budget {
            left: i64::from(steps),
        };
        let mut decisions = Vec::new();
        self.cluster.refresh_largest();
        self.refresh_cells();
        self.fade(now);
        self.pass_streams(now);
        self.wake_for_calendar(now);
        self.wake_claimants(now);
        self.wake_gained();
        self.drain(now, &mut decisions);
        self.drain_for_calendar(now, &mut decisions);
        self.serve_nominations(now, &mut decisions);
        self.refresh_reservations();
        self.place_waiting(now, &mut budget, &mut decisions);
        self.grow(now, &mut budget, &mut decisions);
        self.join_scattered(now, &mut budget, &mut decisions);
        decisions
    }

    /// Lets the past fade in pools that remember it.
    fn fade(&mut self, now: Time) {
        for at in 0..self.cluster.pools.len() {
            if self.faded.len() <= at {
                self.faded.push(now);
            }
            let spec = self.cluster.pools[at].spec.as_ref();
            let half_life = spec.and_then(|spec| spec.half_life);
            let elapsed = now.since(self.faded[at]);
            match half_life {
                Some(half_life) if Fade::is_too_soon(elapsed, half_life) => {}
                Some(half_life) => {
                    self.faded[at] = now;
                    let factor = Fade::after(elapsed, half_life);
                    self.ledger.fade(PoolIdx(at as u32), factor, &self.cluster);
                }
                None => self.faded[at] = now,
            }
        }
    }

    fn wake_gained(&mut self) {
        for pool in 0..self.cluster.pools.len() {
            if self.gains_told.len() <= pool {
                self.gains_told.push(0);
            }
            let gains = self.cluster.pools[pool].gains;
            if self.gains_told[pool] != gains {
                self.gains_told[pool] = gains;
                self.waiting.wake_pool(PoolIdx(pool as u32));
            }
        }
    }

    fn place_waiting(&mut self, now: Time, budget: &mut Budget, decisions: &mut Vec<Decision>) {
        // How many queues at or below each have somebody to try.
        let mut ready = vec![0u32; self.ledger.queues.len()];
        let mut roots = Vec::new();
        for queue in self.waiting.ready_queues() {
            let root = *self.ledger.queue(queue).path.last().unwrap_or(&queue);
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        roots.sort_by(|a, b| {
            let name = |queue: &QueueIdx| &self.ledger.queue(*queue).name;
            name(a).cmp(name(b))
        });
        self.place_readmitted(now, budget, decisions);
        for queue in self.waiting.ready_queues() {
            for above in &self.ledger.queue(queue).path {
                ready[above.0 as usize] += 1;
            }
        }
        while let Some(queue) = self.next_queue(&roots, &ready) {
            let Some(next) = self.waiting.next(queue) else {
                break;
            };
            budget.spend(1);
            self.try_start(next, now, budget, decisions);
            if !self.waiting.has_ready(queue) {
                for above in &self.ledger.queue(queue).path {
                    ready[above.0 as usize] -= 1;
                }
            }
            if budget.is_spent() {
                break;
            }
        }
    }

    /// Replicas that were admitted before take their seats again before anybody else is looked at.
    fn place_readmitted(&mut self, now: Time, budget: &mut Budget, decisions: &mut Vec<Decision>) {
        loop {
            let queues = self.waiting.ready_queues().into_iter();
            let heads = queues.filter_map(|queue| self.waiting.next(queue));
            let first = heads.min_by_key(|(_, order, _)| *order);
            let Some(next) = first.filter(|(.., idx)| self.tasks.get(*idx).readmit) else {
                return;
            };
            budget.spend(1);
            self.try_start(next, now, budget, decisions);
        }
    }

    /// Walks down from the roots to the queue whose turn it is.
    fn next_queue(&mut self, roots: &[QueueIdx], ready: &[u32]) -> Option<QueueIdx> {
        let mut level = roots.to_vec();
        let mut parent: Option<QueueIdx> = None;
        loop {
            level.retain(|queue| ready[queue.0 as usize] > 0);
            let best = match level.as_slice() {
                [only] => Some(*only),
                _ => {
                    let mut best: Option<((usize, i64, i64), QueueIdx)> = None;
                    for queue in &level {
                        let key = self.turn(*queue, ready);
                        let is_better = best.is_none_or(|(least, other)| {
                            key < least || (key == least && self.is_older(*queue, other, ready))
                        });
                        if is_better {
                            best = Some((key, *queue));
                        }
                    }
                    best.map(|(_, queue)| queue)
                }
            };
            // A queue with work of its own and below it serves its own first.
            match best {
                None => return parent.filter(|parent| self.waiting.has_ready(*parent)),
                Some(queue) => {
                    if self.waiting.has_ready(queue) {
                        return Some(queue);
                    }
                    parent = Some(queue);
                    level.clone_from(&self.ledger.queue(queue).children);
                }
            }
        }
    }

    fn is_older(&self, queue: QueueIdx, other: QueueIdx, ready: &[u32]) -> bool {
        self.head(queue, ready) < self.head(other, ready)
    }

    /// The first order at or below a queue.
    fn head(&self, queue: QueueIdx, ready: &[u32]) -> Option<Order> {
        let own = self.waiting.next(queue).map(|(_, order, _)| order);
        let children = self.ledger.queue(queue).children.iter();
        let below = children
            .filter(|child| ready[child.0 as usize] > 0)
            .filter_map(|child| self.head(*child, ready));
        own.into_iter().chain(below).min()
    }

    /// The smaller, the sooner: (bands above that of its best head, dominant share, less priority).
    fn turn(&mut self, queue: QueueIdx, ready: &[u32]) -> (usize, i64, i64) {
        let above = if self.config.bands.is_empty() {
            0
        } else {
            self.config.bands.len() - self.band(queue, ready)
        };
        let priority = self.ledger.queue(queue).spec.as_ref();
        let priority = priority.map_or(0, |spec| i64::from(spec.priority));
        (above, self.share(queue), -priority)
    }

    /// The highest band of any head at or below a queue.
    fn band(&self, queue: QueueIdx, ready: &[u32]) -> usize {
        let own = self.waiting.next(queue).map_or(0, |(.., idx)| {
            let priority = self.tasks.get(idx).priority;
            self.config.bands.partition_point(|from| *from <= priority)
        });
        let children = self.ledger.queue(queue).children.iter();
        let below = children
            .filter(|child| ready[child.0 as usize] > 0)
            .map(|child| self.band(*child, ready));
        below.fold(own, usize::max)
    }

    /// The largest share of any resource of any pool that the queue uses over its guarantee, by weight.
    /// Below its guarantee the share is negative: minus the part of the guarantee that is unused.
    pub(crate) fn share(&mut self, queue: QueueIdx) -> i64 {
        let mut most = 0;
        let mut deficit = 0;
        for pool in 0..self.cluster.pools.len() as u32 {
            let pool = PoolIdx(pool);
            if self.cluster.pool(pool).spec.is_none() {
                continue;
            }
            let used = self.ledger.used(queue, pool);
            let capacity = self.cluster.pool(pool).capacity;
            let lines = self.ledger.lines(queue, pool, &self.cluster);
            let (guaranteed, weight) = (lines.guaranteed, lines.weight.max(1));
            let past = self.ledger.past(queue, pool);
            for lane in 0..LANES {
                // A resource that the pool lacks says nothing about shares, nor does a count of slots.
                if lane == SLOTS || capacity.0[lane] <= 0 {
                    continue;
                }
                let over = used.0[lane] - guaranteed.0[lane];
                // Whoever is below his guarantee has it, whatever he used before.
                let over = if over < 0 { over } else { over + past.0[lane] };
                let share = scale(over, capacity.0[lane]) / weight;
                most = most.max(share);
                if guaranteed.0[lane] > 0 && over < 0 && (lane == GPU || lane != MEMORY) {
                    deficit = deficit.max(scale(-over, guaranteed.0[lane]));
                }
            }
        }
        if most > 0 { most } else { -deficit }
    }

    fn try_start(
        &mut self,
        (row, order, idx): (RowIdx, Order, TaskIdx),
        now: Time,
        budget: &mut Budget,
        decisions: &mut Vec<Decision>,
    ) {
        let queue = self.tasks.get(idx).queue;
        if self.ledger.queue(queue).spec.is_none() {
            // Waits for the queue, which wakes everybody.
            self.waiting.park(row, &[]);
            return;
        }
        let parts = self.parts_of(idx);
        let mut pools: Vec<PoolIdx> = Vec::new();
        for (class, ..) in &parts {
            for pool in self.pools_of(*class) {
                if !pools.contains(&pool) {
                    pools.push(pool);
                }
            }
        }
        let mut closed: Vec<PoolIdx> = pools
            .iter()
            .copied()
            .filter(|pool| {
                let first = self.waiting.blocked(queue, *pool);
                first.is_some_and(|first| first < order)
            })
            .collect();
        let mut asked = parts.clone();
        let promising = pools.iter().filter(|pool| self.calendar.promises(**pool));
        for pool in &promising.copied().collect::<Vec<PoolIdx>>() {
            let least = self.claimant(idx, *pool, 1).ask;
            if self.promised_to(idx, *pool, &least, now).is_some() {
                closed.push(*pool);
                continue;
            }
            let mut most = crate::amount::Amount::ZERO;
            for (class, _, count) in &parts {
                most += &self.class_amount(*class, *pool).times(i64::from(*count));
            }
            if most != least && self.promised_to(idx, *pool, &most, now).is_some() {
                // What goes beyond the minimum is taken when it is certain.
                asked = parts
                    .iter()
                    .map(|(class, min, _)| (*class, *min, *min))
                    .collect();
            }
        }
        let kept = self.kept_from(idx, now);
        match self.place_gang(queue, &asked, &[], &closed, &kept) {
            Ok(seats) => {
                budget.spend(seats.len());
                self.dequeue(idx);
                if !kept.is_empty() {
                    self.use_kept(idx, &seats, now);
                }
                let decision = self.start(idx, seats, now);
                decisions.push(decision);
            }
            Err(refused) => {
                for (pool, refusal) in &refused.pools {
                    let full = matches!(
                        refusal,
                        Refusal::Full | Refusal::Topology | Refusal::Reserved
                    );
                    if full {
                        let run = self.claiming_run(idx, row, &parts);
                        if self.make_room(&run, *pool, now, decisions) {
                            return;
                        }
                    }
                }
                for (pool, refusal) in refused.pools {
                    self.reserve(idx, pool, refusal, now);
                    // What can never start here stands in nobody's way, and where nodes are kept for
                    // the first who waits, the others may use the rest.
                    let passes = match refusal {
                        Refusal::Never | Refusal::NeverQuota(_) => true,
                        Refusal::Quota(_) => false,
                        // Nor does what its relations keep out: there may be capacity enough, and nobody's end is known
                        // that would let it in.
                        Refusal::Full | Refusal::Topology | Refusal::Reserved => {
                            let mut classes = parts.iter().map(|(class, ..)| *class);
                            self.reservations.contains_key(&pool)
                                || classes.any(|class| self.classes.class(class).has_rules())
                        }
                    };
                    if !passes {
                        self.waiting.block(queue, pool, order);
                    }
                }
                self.waiting.park(row, &pools);
            }
        }
    }

    /// The tasks that may claim room together: alike, next in line, and free to sit anywhere.
    fn claiming_run(
        &self,
        idx: TaskIdx,
        row: RowIdx,
        parts: &[(ClassIdx, u32, u32)],
    ) -> Vec<TaskIdx> {
        let class = self.classes.class(parts[0].0);
        let alone = parts.len() > 1
            || class.topology.is_some()
            || class.has_affinity()
            || class.spec.per_node_max > 0
            || self.tasks.get(idx).readmit;
        if alone {
            return vec![idx];
        }
        self.waiting.run_of(row, CLAIMS_MAX)
    }

    /// Gives elastic tasks more seats of what nobody who waits could use.
    fn grow(&mut self, now: Time, budget: &mut Budget, decisions: &mut Vec<Decision>) {
        let mut seen = std::mem::take(&mut self.growth_seen);
        seen.resize(self.cluster.pools.len(), 0);
        let gained = (0..seen.len()).any(|pool| seen[pool] != self.cluster.pools[pool].gains);
        if !gained && !self.growing_is_new {
            self.growth_seen = seen;
            return;
        }
        // Where the last call ran out of steps.
        let rest: Vec<TaskIdx> = self.growing.range(self.growth_next..).copied().collect();
        for idx in rest {
            if budget.is_spent() {
                self.growth_seen = seen;
                self.growth_next = idx;
                return;
            }
            budget.spend(1);
            let task = self.tasks.get(idx);
            let settled = task.stage == Stage::Running && task.evicting().is_none();
            if !settled || task.withdrawn || self.is_shrinking(idx) {
                continue;
            }
            if let Some(decision) = self.grow_one(idx, now) {
                decisions.push(decision);
            }
        }
        for (pool, seen) in seen.iter_mut().enumerate() {
            *seen = self.cluster.pools[pool].gains;
        }
        self.growth_seen = seen;
        self.growth_next = TaskIdx(0);
        self.growing_is_new = false;
    }

    fn grow_one(&mut self, idx: TaskIdx, now: Time) -> Option<Decision> {
        let task = self.tasks.get(idx);
        let queue = task.queue;
        let given = task.given.to_vec();
        let home = task.held.first()?.node;
        let home = self.cluster.nodes.pool[home.0 as usize];
        let closed: Vec<PoolIdx> = (0..self.cluster.pools.len() as u32)
            .map(PoolIdx)
            .filter(|pool| *pool != home)
            .collect();
        let shape = self.classes.shape(task.shape);
        let numbered = shape.parts.iter().enumerate();
        let parts: Vec<(ClassIdx, u32, u32)> = numbered
            .map(|(group, part)| {
                let elastic = part.count > part.min;
                let more = part
                    .count
                    .saturating_sub(given.get(group).copied().unwrap_or(0));
                (part.class, 0, if elastic { more } else { 0 })
            })
            .collect();
        if parts.iter().all(|(.., more)| *more == 0) {
            self.growing.remove(&idx);
            return None;
        }
        if self.calendar.promises(home) {
            let mut most = crate::amount::Amount::ZERO;
            for (class, _, more) in &parts {
                most += &self.class_amount(*class, home).times(i64::from(*more));
            }
            if self.promised_to(idx, home, &most, now).is_some() {
                return None;
            }
        }
        let kept = self.kept_from(idx, now);
        let seats = self
            .place_gang(queue, &parts, &given, &closed, &kept)
            .ok()?;
        if seats.is_empty() {
            self.keep();
            return None;
        }
        let id = self.next_id();
        let placements = seats
            .iter()
            .map(|seat| self.placement(seat.slot, seat.node, &seat.shares))
            .collect();
        let slots = seats.iter().map(|seat| seat.slot).collect();
        self.use_kept(idx, &seats, now);
        self.hold_seats(idx, seats);
        self.keep();
        let task = self.tasks.get(idx).id;
        self.pending.insert(id, Pending::Grow { task, slots });
        Some(Decision {
            id,
            kind: DecisionKind::Grow { task, placements },
        })
    }

    pub(crate) fn parts_of(&self, idx: TaskIdx) -> Vec<(ClassIdx, u32, u32)> {
        let shape = self.classes.shape(self.tasks.get(idx).shape);
        let parts = shape.parts.iter();
        parts
            .map(|part| (part.class, part.min, part.count))
            .collect()
    }

    pub(crate) fn start(&mut self, idx: TaskIdx, seats: Vec<Seat>, now: Time) -> Decision {
        let id = self.next_id();
        let placements = seats
            .iter()
            .map(|seat| self.placement(seat.slot, seat.node, &seat.shares))
            .collect();
        self.tasks.get_mut(idx).started = now;
        self.hold_seats(idx, seats);
        self.keep();
        self.count_consent(idx, true);
        let task = self.tasks.get_mut(idx);
        task.stage = Stage::Starting(id);
        let pending = Pending::Start {
            task: task.id,
            next: None,
        };
        let kind = DecisionKind::Start {
            task: task.id,
            generation: task.generation,
            placements,
        };
        self.pending.insert(id, pending);
        Decision { id, kind }
    }

    fn hold_seats(&mut self, idx: TaskIdx, seats: Vec<Seat>) {
        // Tasks are many and most have one seat: no room for more is kept.
        self.tasks.get_mut(idx).held.reserve_exact(seats.len());
        for seat in seats {
            let held = Held {
                slot: seat.slot,
                node: seat.node,
                shares: seat.shares.into_boxed_slice(),
                releasing: None,
            };
            self.note_held(idx, held);
        }
    }

    pub(crate) fn next_id(&mut self) -> DecisionId {
        self.decisions_made += 1;
        DecisionId(self.decisions_made)
    }
}

/// `part` of `whole` in parts of [`SHARE_ONE`].
pub(crate) fn scale(part: i64, whole: i64) -> i64 {
    (i128::from(part) * i128::from(SHARE_ONE) / i128::from(whole.max(1))) as i64
}
