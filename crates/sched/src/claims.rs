//! Who may stop whom: the rules of preemption and reclaim, and what a stop costs.
//!
//! Three claims exist. A higher *priority* of the same queue stops a lower one. A queue below its
//! *guarantee* takes back what siblings use over theirs. A queue with a smaller *fair share* takes
//! from one that stays ahead of it even afterwards. Each strictly lowers a potential, but for priorities
//! that lift a queue over its guarantee: those give way to whoever could take that back. So evictions
//! between two events are finite: `docs/decisions/0010-evictions-are-finite.md` says what of it is proved.

use crate::amount::{Amount, CPU, GPU};
use crate::decision::EvictReason;
use crate::event::QueueOrder;
use crate::ledger::QueueIdx;
use crate::pool::PoolIdx;
use crate::room::Room;
use crate::sched::Sched;
use crate::task::{Stage, Task, TaskIdx};
use base::{Span, Time};

/// Whoever may not claim while others wait for a guarantee looks again this often.
const RETRY: Span = Span::from_secs(60);

/// Somebody who wants room in a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    pub(crate) task: TaskIdx,
    pub(crate) queue: QueueIdx,
    pub(crate) priority: i32,
    pub(crate) pool: PoolIdx,
    /// What all members that must start ask for.
    pub(crate) ask: Amount,
    /// How many tasks like it claim together.
    pub(crate) gangs: u32,
    /// Whether it waits for what comes free by itself, unless it claims a guarantee.
    pub(crate) patient: bool,
}

impl Claimant {
    /// The resource that the claim is about.
    pub(crate) fn lane(&self) -> usize {
        if self.ask.0[GPU] > 0 { GPU } else { CPU }
    }
}

impl Sched {
    /// Whether the claimant may stop a running task now, and by what right.
    pub(crate) fn may_stop(
        &mut self,
        claimant: &Claimant,
        victim: TaskIdx,
        now: Time,
    ) -> Option<EvictReason> {
        let task = self.tasks.get(victim);
        if victim == claimant.task || task.evicting().is_some() {
            return None;
        }
        if task.stage != Stage::Running {
            // Its start is not durable yet; whoever might stop it looks again when it is.
            self.unmet_claims.insert(claimant.pool);
            return None;
        }
        if let Some((app, most)) = task.disruption()
            && self.disrupted.get(&app).copied().unwrap_or(0) >= most
        {
            return None;
        }
        let consents = task.preemptible && now.since(task.started) >= task.min_runtime;
        let (queue, priority) = (task.queue, task.priority);
        if task.preemptible && !consents {
            let from = task.started + task.min_runtime;
            self.look_again_at(claimant.pool, from);
        }
        let lane = claimant.lane();
        let gives = self.held_amount(victim, claimant.pool).0[lane];
        let Some((ours, theirs)) = self.ledger.rivals(claimant.queue, queue) else {
            let by_priority = self.tasks.get(claimant.task).rule != QueueOrder::Fifo;
            let lower = consents && by_priority && priority < claimant.priority;
            let lower = lower && !claimant.patient;
            return lower.then_some(EvictReason::Preempted);
        };
        if gives <= 0 {
            return None;
        }
        if self.is_in_a_cell_of(claimant, victim, lane) {
            return Some(EvictReason::Reclaimed);
        }
        let ask = claimant.ask.0[lane];
        let ours = self.standing(ours, claimant.pool, lane);
        let theirs = self.standing(theirs, claimant.pool, lane);
        if ours.is_owed(ask) {
            // The promise was made to us; whoever is over his own has it on loan.
            return theirs.owes().then_some(EvictReason::Reclaimed);
        }
        if !consents || claimant.patient {
            return None;
        }
        // They stay ahead of us even afterwards; equal is not ahead, so nothing goes back and forth.
        (ours.share_with(ask) < theirs.share_with(-gives)).then_some(EvictReason::FairShare)
    }

    /// Whether a task stays within what its side of the tree is guaranteed against the side of another,
    /// and the other does not: the same sides as in a claim of a guarantee.
    pub(crate) fn is_owed_before(&self, idx: TaskIdx, other: TaskIdx, pool: PoolIdx) -> bool {
        let queues = (self.tasks.get(idx).queue, self.tasks.get(other).queue);
        let sides = self.ledger.rivals(queues.0, queues.1);
        sides.is_some_and(|(ours, theirs)| {
            self.is_owed(idx, ours, pool) && !self.is_owed(other, theirs, pool)
        })
    }

    /// Whether a task that starts leaves a queue above it within its guarantee.
    fn is_owed(&self, idx: TaskIdx, above: QueueIdx, pool: PoolIdx) -> bool {
        let claimant = self.claimant(idx, pool, 1);
        let lane = claimant.lane();
        let guaranteed = self.ledger.guaranteed_now(above, pool, &self.cluster).0[lane];
        let used = self.ledger.staying(above, pool).0[lane];
        guaranteed > 0 && used + claimant.ask.0[lane] <= guaranteed
    }

    /// Whether a claim by priority lifts a queue over its guarantee while somebody waits who could take
    /// that back by his own: the two would stop each other for ever (decision 10).
    pub(crate) fn would_be_taken_back(
        &mut self,
        claimant: &Claimant,
        room: &Room,
        now: Time,
    ) -> bool {
        let by_priority = |(_, why): &(TaskIdx, EvictReason)| *why == EvictReason::Preempted;
        if !room.leavers.iter().any(by_priority) {
            return false;
        }
        for lane in [GPU, CPU] {
            let risen = self.risen_over(claimant, room, lane);
            if !risen.is_empty() && self.is_awaited(claimant, &risen, lane) {
                self.look_again_at(claimant.pool, now + RETRY);
                return true;
            }
        }
        false
    }

    /// The queues of the claimant that would use more of a lane than before and than they are guaranteed.
    fn risen_over(&mut self, claimant: &Claimant, room: &Room, lane: usize) -> Vec<QueueIdx> {
        let pool = claimant.pool;
        let mut risen = Vec::new();
        for queue in self.ledger.queue(claimant.queue).path.clone() {
            let mut gives = 0;
            for (victim, _) in &room.leavers {
                let of = self.tasks.get(*victim).queue;
                if self.ledger.queue(of).path.contains(&queue) {
                    gives += self.held_amount(*victim, pool).0[lane];
                }
            }
            let before = self.ledger.staying(queue, pool).0[lane];
            let lines = self.ledger.lines(queue, pool, &self.cluster);
            let guaranteed = lines.guaranteed.0[lane];
            if before + claimant.ask.0[lane] - gives > before.max(guaranteed) {
                risen.push(queue);
            }
        }
        risen
    }

    /// Whether somebody waits for a guarantee of a lane that he could claim from one of these queues.
    fn is_awaited(&mut self, claimant: &Claimant, risen: &[QueueIdx], lane: usize) -> bool {
        let pool = claimant.pool;
        for queue in (0..self.ledger.queues.len() as u32).map(QueueIdx) {
            let Some((ours, theirs)) = self.ledger.rivals(claimant.queue, queue) else {
                continue;
            };
            let promised = self.ledger.guaranteed_now(theirs, pool, &self.cluster).0[lane];
            if !risen.contains(&ours) || self.ledger.staying(theirs, pool).0[lane] >= promised {
                continue;
            }
            for other in self.waiting.heads(queue) {
                if self.claimant(other, pool, 1).lane() == lane
                    && self.is_owed(other, theirs, pool)
                    && self.could_start(other, pool)
                {
                    return true;
                }
            }
        }
        false
    }

    /// Whether no quota line is in a task's way and the pool is large enough for it.
    fn could_start(&mut self, idx: TaskIdx, pool: PoolIdx) -> bool {
        let claimant = self.claimant(idx, pool, 1);
        let queue = claimant.queue;
        if self.ledger.queue(queue).spec.is_none() {
            return false;
        }
        let over = self
            .ledger
            .over_limit(queue, pool, &claimant.ask, &self.cluster);
        over.is_none()
            && self.parts_of(idx).into_iter().all(|(class, min, _)| {
                let allowed = self.pools_of(class).contains(&pool);
                allowed && self.with_board(class, pool, |board, _| board.room) >= u64::from(min)
            })
    }

    /// Whoever waits for a pool is tried again at a time: somebody may be stopped from then on.
    pub(crate) fn look_again_at(&mut self, pool: PoolIdx, at: Time) {
        let first = self.claims_due.entry(pool).or_insert(at);
        *first = (*first).min(at);
    }

    /// Wakes those for whom it is time to look again.
    pub(crate) fn wake_claimants(&mut self, now: Time) {
        let waiting = &mut self.waiting;
        self.claims_due.retain(|pool, at| {
            if *at <= now {
                waiting.wake_pool(*pool);
            }
            *at > now
        });
    }

    /// Whether the claimant may take back what an elastic task holds above its minimum.
    pub(crate) fn may_shrink(&mut self, claimant: &Claimant, idx: TaskIdx) -> Option<EvictReason> {
        let task = self.tasks.get(idx);
        let (queue, priority) = (task.queue, task.priority);
        let Some((ours, theirs)) = self.ledger.rivals(claimant.queue, queue) else {
            return (priority <= claimant.priority).then_some(EvictReason::Preempted);
        };
        let lane = claimant.lane();
        let ask = claimant.ask.0[lane];
        let ours = self.standing(ours, claimant.pool, lane);
        let theirs = self.standing(theirs, claimant.pool, lane);
        if !theirs.owes() {
            return None;
        }
        if ours.is_owed(ask) {
            return Some(EvictReason::Reclaimed);
        }
        (ours.share_with(ask) <= theirs.share_with(-ask)).then_some(EvictReason::FairShare)
    }

    /// What a task holds in a pool.
    pub(crate) fn held_amount(&self, idx: TaskIdx, pool: PoolIdx) -> Amount {
        let task = self.tasks.get(idx);
        let mut sum = Amount::ZERO;
        for held in &task.held {
            if self.cluster.nodes.pool[held.node.0 as usize] == pool {
                let class = self.class_of(task.shape, held.slot);
                sum += &self.seat_amount(class, held.node);
            }
        }
        sum
    }

    /// What it costs to stop a task: first its priority, then the seconds of work that are lost, on each GPU or
    /// else each core that it holds, with ten for each member that starts again.
    pub(crate) fn stop_cost(&self, idx: TaskIdx, now: Time) -> i64 {
        let task: &Task = self.tasks.get(idx);
        let ran = (now.since(task.started).as_ms() / 1_000).min(1 << 24) as i64;
        let lost = if task.checkpoints {
            0
        } else {
            ran * self.size_of(task)
        };
        let work = lost + 10 * task.held.len() as i64;
        (i64::from(task.priority) << 40).saturating_add(work.min(1 << 40))
    }

    /// The GPUs that a task holds or, where it has none, the cores: the parts rounded up, and at least one for each member.
    fn size_of(&self, task: &Task) -> i64 {
        let sizes = task.held.iter().map(|held| {
            let class = self.classes.class(self.class_of(task.shape, held.slot));
            let request = &class.spec.request;
            let milli = if request.gpu_milli > 0 {
                request.gpu_milli
            } else {
                request.cpu.0
            };
            milli.div_ceil(1_000).clamp(1, 1 << 10) as i64
        });
        sizes.sum()
    }
}
