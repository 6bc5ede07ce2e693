//! Answers to decisions: what was assumed becomes lasting, or is undone and decided afresh.

use crate::cluster::NodeIdx;
use crate::decision::DecisionId;
use crate::event::{SlotId, TaskId, TaskSpec};
use crate::sched::Sched;
use crate::task::Stage;

/// A decision that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Start {
        task: TaskId,
        /// What it was changed to meanwhile.
        next: Option<Box<TaskSpec>>,
    },
    Grow {
        task: TaskId,
        slots: Vec<SlotId>,
    },
    Evict {
        task: TaskId,
    },
    /// Single seats of an elastic task are taken back.
    Shrink {
        task: TaskId,
        slots: Vec<SlotId>,
    },
    Nominate {
        task: TaskId,
    },
}

impl Sched {
    pub(crate) fn committed(&mut self, id: DecisionId) {
        if let Some(Pending::Start { task, .. }) = self.pending.remove(&id)
            && let Some(idx) = self.tasks.find(task)
        {
            self.tasks.get_mut(idx).stage = Stage::Running;
            self.note_growing(idx);
            for pool in std::mem::take(&mut self.unmet_claims) {
                self.waiting.wake_pool(pool);
            }
        }
    }

    pub(crate) fn rejected(&mut self, id: DecisionId) {
        match self.pending.remove(&id) {
            Some(Pending::Start { task, next }) => {
                let Some(idx) = self.tasks.find(task) else {
                    return;
                };
                self.release_all(idx);
                if self.tasks.get(idx).withdrawn {
                    self.forget_task(idx);
                } else if let Some(spec) = next {
                    self.forget_task(idx);
                    self.insert_waiting(*spec);
                } else {
                    self.count_consent(idx, false);
                    let task = self.tasks.get_mut(idx);
                    task.stage = Stage::Waiting;
                    task.given.fill(0);
                    self.enqueue(idx);
                }
            }
            Some(Pending::Grow { task, slots }) => {
                let Some(idx) = self.tasks.find(task) else {
                    return;
                };
                for slot in slots {
                    if self.tasks.get(idx).find(slot).is_ok() {
                        self.release_seat(idx, slot);
                    }
                    let given = &mut self.tasks.get_mut(idx).given[slot.group as usize];
                    *given = (*given).min(slot.index);
                }
            }
            Some(Pending::Evict { task }) => {
                if let Some(idx) = self.tasks.find(task) {
                    self.count_stopping(idx, false);
                    let task = self.tasks.get_mut(idx);
                    task.set_evicting(None);
                    for held in &mut task.held {
                        held.releasing = None;
                    }
                    let nodes: Vec<NodeIdx> = task.held.iter().map(|held| held.node).collect();
                    self.suspects.extend(nodes);
                }
            }
            Some(Pending::Shrink { task, slots }) => {
                let Some(idx) = self.tasks.find(task) else {
                    return;
                };
                for slot in slots {
                    self.mark_shrinking(idx, slot, false);
                    let task = self.tasks.get_mut(idx);
                    if let Ok(at) = task.find(slot) {
                        task.held[at].releasing = None;
                    }
                }
            }
            Some(Pending::Nominate { task }) => {
                if let Some(idx) = self.tasks.find(task)
                    && self.drop_nomination(idx)
                {
                    self.enqueue(idx);
                }
            }
            None => {}
        }
    }
}
