//! Who goes first, and what becomes of the others when he does not fit.

use super::node::{Ask, Node, Seat};
use super::{Plain, ends_by};
use base::{Span, Time};
use sched::{Decision, EvictReason, TaskId, TaskSpec};

/// The order of a plain scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By arrival; the first that does not fit holds up all others.
    Strict,
    /// By arrival; who does not fit is passed.
    Pass,
    /// By arrival; who does not fit has a place kept for him, others pass if they leave that alone or
    /// are over before (Lifka 1995). Whose end is not known is expected to end in the order of starts.
    Easy,
    /// The shortest first, known in advance; who does not fit is passed.
    Shortest,
    /// Who had the least GPU time so far, in three levels, then by arrival; who is behind is stopped
    /// (after Tiresias' discretised 2D-LAS, NSDI 2019).
    Attained,
    /// By arrival on the queue's own nodes, divided by guarantee; who does not fit is passed.
    Static,
}

/// GPU milliseconds (in thousandths) that end a level: one and ten GPU hours.
const LEVELS: [u64; 2] = [3_600_000 * 1_000, 36_000_000 * 1_000];
/// A task that began is not stopped before it ran this long.
const RUN_LEAST: Span = Span::from_secs(600);

/// The nodes as they will be when the first who waits can start, with him on them.
pub(super) struct Future {
    nodes: Vec<Node>,
    /// When that will be; `None` where it is not known.
    at: Option<Time>,
}

impl Future {
    /// Whether somebody is over before the place that is kept is needed.
    pub(super) fn is_over_before(&self, now: Time, limit: Option<Span>) -> bool {
        match (self.at, limit) {
            (Some(at), Some(limit)) => now + limit <= at,
            (Some(_) | None, _) => false,
        }
    }

    /// Whether one more member, after `same` equal ones, leaves the kept place alone.
    pub(super) fn leaves(&self, node: usize, ask: &Ask, same: usize) -> bool {
        let mut copy = self.nodes[node].clone();
        for _ in 0..same {
            if !copy.fits(ask) {
                return false;
            }
            let devices = copy
                .left
                .iter()
                .enumerate()
                .filter(|(_, left)| **left >= ask.milli);
            let devices = devices.map(|(at, _)| at).take(ask.gpus).collect();
            let slot = sched::SlotId { group: 0, index: 0 };
            let seat = Seat {
                slot,
                node,
                devices,
                ask: ask.clone(),
            };
            copy.post(&seat, 1);
        }
        copy.fits(ask)
    }

    pub(super) fn take(&mut self, seats: &[Seat]) {
        for seat in seats {
            self.nodes[seat.node].post(seat, 1);
        }
    }
}

impl Plain {
    /// Keeps a place for somebody who does not fit now: where he will first fit by the known ends.
    pub(super) fn reserve(&mut self, spec: &TaskSpec) -> Option<Future> {
        let present = self.nodes.clone();
        let mut ends: Vec<(Option<Time>, Time, TaskId)> = self
            .running
            .values()
            .map(|running| {
                (
                    ends_by(running.started, running.spec.time_limit),
                    running.started,
                    running.spec.id,
                )
            })
            .collect();
        // Known ends first, then those that began first.
        ends.sort_by_key(|(end, started, id)| (end.is_none(), *end, *started, *id));
        let mut found = None;
        for (end, _, id) in ends {
            for seat in &self.running[&id].seats {
                self.nodes[seat.node].post(seat, -1);
            }
            if let Some(seats) = self.seats(spec, &|_, _, _| true) {
                for seat in &seats {
                    self.nodes[seat.node].post(seat, -1);
                }
                found = Some((end, seats));
                break;
            }
        }
        let mut nodes = std::mem::replace(&mut self.nodes, present);
        let (at, seats) = found?;
        for seat in &seats {
            nodes[seat.node].post(seat, 1);
        }
        Some(Future { nodes, at })
    }

    /// Serves the lower levels first and stops whoever is behind them for it.
    pub(super) fn by_attained(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let mut line: Vec<((usize, Time, TaskId), u64, bool)> = Vec::new();
        for waiter in self.waiting.values() {
            let spec = &waiter.spec;
            line.push((
                (level(waiter.before), spec.submitted, spec.id),
                gpu_milli(spec),
                false,
            ));
        }
        // Who was told to stop leaves room for others already.
        for running in self.running.values().filter(|running| !running.leaving) {
            let spec = &running.spec;
            let gpus = gpu_milli(spec);
            let had = now.since(running.started).as_ms();
            // Who has just begun, or may not be stopped, stays.
            let fixed = !spec.preemptible || had < RUN_LEAST.as_ms();
            let key = if fixed {
                (0, Time::from_ms(i64::MIN), spec.id)
            } else {
                (level(running.before + had * gpus), spec.submitted, spec.id)
            };
            line.push((key, gpus, true));
        }
        line.sort_unstable();
        let here = self.nodes.iter().filter(|node| node.here);
        let mut left: u64 = here.map(|node| node.left.len() as u64 * 1_000).sum();
        let mut behind = Vec::new();
        let mut chosen = Vec::new();
        for ((.., id), ask, is_running) in line {
            let fits = ask <= left;
            if fits {
                left -= ask;
            }
            match (fits, is_running) {
                (true, false) => chosen.push(id),
                (false, true) => behind.push(id),
                (true, true) | (false, false) => {}
            }
        }
        let mut unplaced = false;
        for id in chosen {
            let waiter = self.keys.get(&id).and_then(|key| self.waiting.get(key));
            let Some(waiter) = waiter.cloned() else {
                continue;
            };
            match self.seats(&waiter.spec, &|_, _, _| true) {
                Some(seats) => {
                    self.forget(id);
                    decisions.push(self.start(waiter, seats, now));
                }
                None => unplaced = true,
            }
        }
        if unplaced {
            for id in behind {
                decisions.extend(self.evict(id, EvictReason::FairShare, now));
            }
        }
    }
}

/// Thousandths of GPUs of all members.
fn gpu_milli(spec: &TaskSpec) -> u64 {
    let groups = spec.groups.iter();
    groups
        .map(|group| group.request.gpu_milli * u64::from(group.count))
        .sum()
}

fn level(attained: u64) -> usize {
    LEVELS.iter().filter(|level| attained >= **level).count()
}
