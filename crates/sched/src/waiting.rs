//! Who waits: rows of identical tasks, so that one failed attempt answers for all of them.
//!
//! A row whose head was refused is parked until something changes that may let it start: a gain in a
//! pool it waits for. The others of its queue are tried as long as they do not go past it.

use crate::class::ShapeIdx;
use crate::hash::Map;
use crate::ledger::QueueIdx;
use crate::pool::PoolIdx;
use crate::task::{Order, TaskIdx};
use base::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Position of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowIdx(pub(crate) u32);

/// Waiting tasks of one queue that are alike in all that decides whether they fit.
#[derive(Debug)]
struct Row {
    queue: QueueIdx,
    tasks: BTreeMap<Order, TaskIdx>,
    parked: bool,
}

/// The rows of one queue.
#[derive(Debug, Default)]
struct QueueRows {
    by_kind: Map<(ShapeIdx, Option<Span>), RowIdx>,
    /// Rows to try, by the order of their heads.
    ready: BTreeSet<(Order, RowIdx)>,
    parked: BTreeSet<RowIdx>,
    /// By pool, the first task of the queue that waits for the pool and lets nobody pass.
    blocked: BTreeMap<PoolIdx, Order>,
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    rows: Vec<Option<Row>>,
    unused: Vec<RowIdx>,
    queues: Vec<QueueRows>,
    /// Rows that wait for a gain in a pool.
    parked_in: Vec<BTreeSet<RowIdx>>,
    pub(crate) count: usize,
}

impl Waiting {
    fn row(&self, idx: RowIdx) -> &Row {
        self.rows[idx.0 as usize]
            .as_ref()
            .expect("a row lives while a task waits in it")
    }

    fn queue(&mut self, idx: QueueIdx) -> &mut QueueRows {
        let at = idx.0 as usize;
        if self.queues.len() <= at {
            self.queues.resize_with(at + 1, QueueRows::default);
        }
        &mut self.queues[at]
    }

    pub(crate) fn insert(
        &mut self,
        queue: QueueIdx,
        shape: ShapeIdx,
        time_limit: Option<Span>,
        order: Order,
        task: TaskIdx,
    ) {
        self.count += 1;
        let kind = (shape, time_limit);
        let idx = match self.queue(queue).by_kind.get(&kind) {
            Some(idx) => *idx,
            None => {
                let row = Row {
                    queue,
                    tasks: BTreeMap::new(),
                    parked: false,
                };
                let idx = self.unused.pop().unwrap_or(RowIdx(self.rows.len() as u32));
                if idx.0 as usize == self.rows.len() {
                    self.rows.push(Some(row));
                } else {
                    self.rows[idx.0 as usize] = Some(row);
                }
                self.queue(queue).by_kind.insert(kind, idx);
                idx
            }
        };
        self.unready(idx);
        let row = self.rows[idx.0 as usize]
            .as_mut()
            .expect("it was just found or made");
        let head_before = row.tasks.first_key_value().map(|(order, _)| *order);
        row.tasks.insert(order, task);
        if row.parked && head_before.is_some_and(|head| order < head) {
            // A new head has not been refused yet: it may stand before what blocks the others.
            self.unpark(idx);
        }
        self.reready(idx);
    }

    pub(crate) fn remove(
        &mut self,
        queue: QueueIdx,
        shape: ShapeIdx,
        time_limit: Option<Span>,
        order: Order,
    ) {
        let kind = (shape, time_limit);
        let Some(idx) = self.queue(queue).by_kind.get(&kind).copied() else {
            return;
        };
        self.unready(idx);
        let row = self.rows[idx.0 as usize]
            .as_mut()
            .expect("it was just found");
        if row.tasks.remove(&order).is_none() {
            self.reready(idx);
            return;
        }
        self.count -= 1;
        if row.tasks.is_empty() {
            self.unpark(idx);
            self.unready(idx);
            self.queue(queue).by_kind.remove(&kind);
            self.rows[idx.0 as usize] = None;
            self.unused.push(idx);
        } else {
            self.reready(idx);
        }
        // If it was what others were kept behind, they may go on.
        let rows = self.queue(queue);
        let blocked_before = rows.blocked.len();
        rows.blocked.retain(|_, first| *first != order);
        if rows.blocked.len() != blocked_before {
            self.wake_queue(queue);
        }
    }

    fn unready(&mut self, idx: RowIdx) {
        let row = self.row(idx);
        let (queue, head) = (row.queue, row.tasks.first_key_value());
        if let Some((order, _)) = head {
            let entry = (*order, idx);
            self.queue(queue).ready.remove(&entry);
        }
    }

    fn reready(&mut self, idx: RowIdx) {
        let row = self.row(idx);
        let (queue, head) = (row.queue, row.tasks.first_key_value());
        if let Some((order, _)) = head
            && !row.parked
        {
            let entry = (*order, idx);
            self.queue(queue).ready.insert(entry);
        }
    }

    /// The first task of a queue that may be tried.
    pub(crate) fn next(&self, queue: QueueIdx) -> Option<(RowIdx, Order, TaskIdx)> {
        let rows = self.queues.get(queue.0 as usize)?;
        let (order, idx) = rows.ready.first()?;
        let (_, task) = self.row(*idx).tasks.first_key_value()?;
        Some((*idx, *order, *task))
    }

    /// The first tasks of a row, as long as no other row of the queue has one before them.
    pub(crate) fn run_of(&self, idx: RowIdx, max: usize) -> Vec<TaskIdx> {
        let row = self.row(idx);
        let rows = &self.queues[row.queue.0 as usize];
        let others = rows.ready.iter().filter(|(_, other)| *other != idx);
        let next = others.map(|(order, _)| *order).next();
        let mine = row.tasks.iter().take(max);
        let before = mine.take_while(|(order, _)| next.is_none_or(|next| **order < next));
        before.map(|(_, task)| *task).collect()
    }

    /// The order of the first task that is tried no further than `order` allows, pool by pool.
    pub(crate) fn blocked(&self, queue: QueueIdx, pool: PoolIdx) -> Option<Order> {
        let rows = self.queues.get(queue.0 as usize)?;
        rows.blocked.get(&pool).copied()
    }

    /// Lets nobody of the queue past `order` into the pool, until the pool gains something.
    pub(crate) fn block(&mut self, queue: QueueIdx, pool: PoolIdx, order: Order) {
        let first = self.queue(queue).blocked.entry(pool).or_insert(order);
        *first = (*first).min(order);
    }

    /// Sets a row aside until one of the pools gains something.
    pub(crate) fn park(&mut self, idx: RowIdx, pools: &[PoolIdx]) {
        self.unready(idx);
        if let Some(row) = &mut self.rows[idx.0 as usize] {
            row.parked = true;
            let queue = row.queue;
            self.queue(queue).parked.insert(idx);
        }
        for pool in pools {
            let at = pool.0 as usize;
            if self.parked_in.len() <= at {
                self.parked_in.resize_with(at + 1, BTreeSet::new);
            }
            self.parked_in[at].insert(idx);
        }
    }

    fn unpark(&mut self, idx: RowIdx) {
        if let Some(row) = &mut self.rows[idx.0 as usize]
            && row.parked
        {
            row.parked = false;
            let queue = row.queue;
            self.queue(queue).parked.remove(&idx);
            for rows in &mut self.parked_in {
                rows.remove(&idx);
            }
            self.reready(idx);
        }
    }

    /// A pool gained something: whoever waits for it is tried again.
    pub(crate) fn wake_pool(&mut self, pool: PoolIdx) {
        let rows = self.parked_in.get_mut(pool.0 as usize);
        for idx in rows.map(std::mem::take).unwrap_or_default() {
            if self.rows[idx.0 as usize].is_some() {
                self.unpark(idx);
            }
        }
        for rows in &mut self.queues {
            rows.blocked.remove(&pool);
        }
    }

    /// Whoever waits in the queue is tried again.
    pub(crate) fn wake_queue(&mut self, queue: QueueIdx) {
        let rows = self.queue(queue);
        rows.blocked.clear();
        for idx in rows.parked.clone() {
            self.unpark(idx);
        }
    }

    /// Everybody is tried again.
    pub(crate) fn wake_all(&mut self) {
        for at in 0..self.queues.len() {
            self.wake_queue(QueueIdx(at as u32));
        }
    }

    pub(crate) fn has_ready(&self, queue: QueueIdx) -> bool {
        let rows = self.queues.get(queue.0 as usize);
        rows.is_some_and(|rows| !rows.ready.is_empty())
    }

    /// Queues that have somebody to try.
    pub(crate) fn ready_queues(&self) -> Vec<QueueIdx> {
        let numbered = self.queues.iter().enumerate();
        numbered
            .filter(|(_, rows)| !rows.ready.is_empty())
            .map(|(at, _)| QueueIdx(at as u32))
            .collect()
    }

    /// Whether tasks of a kind were tried and refused.
    pub(crate) fn is_parked(
        &self,
        queue: QueueIdx,
        shape: ShapeIdx,
        time_limit: Option<Span>,
    ) -> bool {
        let rows = self.queues.get(queue.0 as usize);
        let row = rows.and_then(|rows| rows.by_kind.get(&(shape, time_limit)));
        row.is_some_and(|idx| self.row(*idx).parked)
    }

    /// The first task of each row of a queue, in no order that matters.
    pub(crate) fn heads(&self, queue: QueueIdx) -> Vec<TaskIdx> {
        let rows = self.queues.get(queue.0 as usize);
        let rows = rows.into_iter().flat_map(|rows| {
            let ready = rows.ready.iter().map(|(_, idx)| *idx);
            ready.chain(rows.parked.iter().copied())
        });
        let firsts = rows.filter_map(|idx| self.row(idx).tasks.first_key_value());
        firsts.map(|(_, task)| *task).collect()
    }

    /// How many of the queue stand before `order`, and the first of them.
    pub(crate) fn before(&self, queue: QueueIdx, order: Order) -> (usize, Option<TaskIdx>) {
        let Some(rows) = self.queues.get(queue.0 as usize) else {
            return (0, None);
        };
        let mut count = 0;
        let mut first: Option<(Order, TaskIdx)> = None;
        let ready = rows.ready.iter().map(|(_, idx)| *idx);
        for idx in ready.chain(rows.parked.iter().copied()) {
            let tasks = &self.row(idx).tasks;
            count += tasks.range(..order).count();
            if let Some((head, task)) = tasks.first_key_value()
                && *head < order
                && first.is_none_or(|(first, _)| *head < first)
            {
                first = Some((*head, *task));
            }
        }
        (count, first.map(|(_, task)| task))
    }
}
