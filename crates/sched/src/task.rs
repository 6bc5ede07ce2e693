//! Tasks: what waits, what was proposed, what runs.

use crate::class::ShapeIdx;
use crate::cluster::NodeIdx;
use crate::decision::{DecisionId, DeviceShare, EvictReason};
use crate::event::{QueueOrder, SlotId, TaskId};
use crate::hash::Map;
use crate::ledger::QueueIdx;
use crate::seats::{Given, Seats};
use base::{Span, Time, Uid};
use std::cmp::Reverse;

/// Position of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskIdx(pub(crate) u32);

/// Order within a queue: re-admitted first, then priority, then what the queue's rule ranks by, then
/// age, then identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    queued: bool,
    priority: Reverse<i32>,
    rank: u32,
    submitted: Time,
    pub(crate) id: TaskId,
}

/// A seat that a task holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) slot: SlotId,
    pub(crate) node: NodeIdx,
    pub(crate) shares: Box<[DeviceShare]>,
    /// When it is expected back, if it is being stopped.
    pub(crate) releasing: Option<Time>,
}

/// Where a task stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Waiting,
    Starting(DecisionId),
    Running,
}

/// Why a task, or part of it, was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicting {
    pub(crate) reason: EvictReason,
    pub(crate) on_behalf_of: Option<TaskId>,
}

/// What is rarely set, kept apart so that a million plain tasks stay small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rare {
    pub(crate) disruption: Option<(Uid, u32)>,
    pub(crate) evicting: Option<Evicting>,
}

/// A gang.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) generation: u64,
    pub(crate) name: Box<str>,
    pub(crate) queue: QueueIdx,
    pub(crate) shape: ShapeIdx,
    pub(crate) stage: Stage,
    pub(crate) priority: i32,
    /// Its queue's.
    pub(crate) rule: QueueOrder,
    /// Seconds that it is expected to run; the largest number where nobody said.
    pub(crate) expected_s: u32,
    pub(crate) submitted: Time,
    pub(crate) preemptible: bool,
    pub(crate) checkpoints: bool,
    pub(crate) readmit: bool,
    /// Withdrawn while it was starting or running: it neither waits again nor grows.
    pub(crate) withdrawn: bool,
    pub(crate) min_runtime: Span,
    pub(crate) grace: Span,
    pub(crate) time_limit: Option<Span>,
    pub(crate) started: Time,
    /// Sorted by slot.
    pub(crate) held: Seats,
    pub(crate) given: Given,
    pub(crate) rare: Option<Box<Rare>>,
}

impl Task {
    pub(crate) fn order(&self) -> Order {
        Order {
            queued: !self.readmit,
            priority: Reverse(match self.rule {
                QueueOrder::Fifo => 0,
                QueueOrder::Priority | QueueOrder::ShortestExpected => self.priority,
            }),
            rank: match self.rule {
                QueueOrder::ShortestExpected => self.expected_s,
                QueueOrder::Priority | QueueOrder::Fifo => 0,
            },
            submitted: self.submitted,
            id: self.id,
        }
    }

    /// Who has waited longest, among tasks of all queues.
    pub(crate) fn age(&self) -> Order {
        Order {
            rank: 0,
            ..self.order()
        }
    }

    pub(crate) fn find(&self, slot: SlotId) -> Result<usize, usize> {
        self.held.binary_search_by_key(&slot, |held| held.slot)
    }

    pub(crate) fn evicting(&self) -> Option<Evicting> {
        self.rare.as_ref()?.evicting
    }

    pub(crate) fn disruption(&self) -> Option<(Uid, u32)> {
        self.rare.as_ref()?.disruption
    }

    /// The latest time it may still run, if it declared one.
    pub(crate) fn ends_by(&self) -> Option<Time> {
        Some(self.started + self.time_limit?)
    }

    pub(crate) fn given(&self, group: usize) -> u32 {
        self.given.get(group).copied().unwrap_or(0)
    }

    pub(crate) fn set_evicting(&mut self, evicting: Option<Evicting>) {
        let mut rare = self.rare.as_deref().copied().unwrap_or_default();
        rare.evicting = evicting;
        self.rare = (rare != Rare::default()).then(|| Box::new(rare));
    }
}

/// An identity without alignment, so that an entry of the map takes 20 bytes instead of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key([u8; 16]);

impl From<TaskId> for Key {
    fn from(id: TaskId) -> Self {
        Key(id.0.0.to_le_bytes())
    }
}

/// All tasks that are not finished.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    by_id: Map<Key, TaskIdx>,
    tasks: Vec<Option<Task>>,
    unused: Vec<TaskIdx>,
}

impl Tasks {
    pub(crate) fn find(&self, id: TaskId) -> Option<TaskIdx> {
        self.by_id.get(&id.into()).copied()
    }

    pub(crate) fn get(&self, idx: TaskIdx) -> &Task {
        self.tasks[idx.0 as usize]
            .as_ref()
            .expect("an index is given up with its task")
    }

    pub(crate) fn get_mut(&mut self, idx: TaskIdx) -> &mut Task {
        self.tasks[idx.0 as usize]
            .as_mut()
            .expect("an index is given up with its task")
    }

    pub(crate) fn insert(&mut self, task: Task) -> TaskIdx {
        let idx = self
            .unused
            .pop()
            .unwrap_or(TaskIdx(self.tasks.len() as u32));
        self.by_id.insert(task.id.into(), idx);
        if idx.0 as usize == self.tasks.len() {
            self.tasks.push(Some(task));
        } else {
            self.tasks[idx.0 as usize] = Some(task);
        }
        idx
    }

    pub(crate) fn remove(&mut self, idx: TaskIdx) -> Option<Task> {
        let task = self.tasks[idx.0 as usize].take()?;
        self.by_id.remove(&task.id.into());
        self.unused.push(idx);
        Some(task)
    }

    /// How many positions there are, living or not.
    pub(crate) fn len(&self) -> u32 {
        self.tasks.len() as u32
    }

    pub(crate) fn get_living(&self, idx: TaskIdx) -> Option<&Task> {
        self.tasks.get(idx.0 as usize)?.as_ref()
    }

    /// All living tasks by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TaskIdx, &Task)> {
        let numbered = self.tasks.iter().enumerate();
        numbered.filter_map(|(at, task)| Some((TaskIdx(at as u32), task.as_ref()?)))
    }
}
