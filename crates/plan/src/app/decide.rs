//! Decides what happens next for an App.
//!
//! Seats are looked at one by one (start it, drain it, give it back, replace it), then the counts:
//! which seats are added and which are taken, whether the target is promoted or rolled back.

use super::input::{AppInput, Progress, SeatStage, group_name};
use super::output::{AppAction, AppPlan};
use super::rollout::{NewSeat, is_held, to_add, to_remove, to_restore};
use super::status::{self, last_failure};
use super::view::{Seat, Seats, wanted};
use crate::job::{Backoff, STEADY_RUN, backoff, describe};
use crate::preset::app_env;
use crate::reason::{Reason, ReasonCode};
use crate::slot::{Placement, Sight, SlotEnd, Stage, Standing};
use base::{Span, Time};
use engine::{Cause, Group, Life, Phase, ReplicaKey, Slot, StopReason};
use std::collections::{BTreeMap, BTreeSet};

/// How long a seat waits before it is placed again, after it was lost twice in a row; Kubernetes waits
/// as long before it restarts a container.
const LOSS_BACKOFF: Backoff = Backoff {
    base: Span::from_secs(10),
    cap: Span::from_secs(300),
};

/// Decides what happens next for an App.
pub fn plan_app(input: &AppInput, now: Time) -> AppPlan {
    let seats = Seats::of(input, now);
    let wanted = wanted(input);
    let progress = progress(input, &seats, now);
    let mut draft = Draft {
        input,
        now,
        wake: None,
        rows: Vec::new(),
        start: Vec::new(),
        stop: Vec::new(),
        forget: Vec::new(),
    };
    for seat in &seats.seats {
        draft.seat(seat, &wanted);
    }
    let overdue = draft.overdue(&seats, &wanted, progress);
    let rolled_back = overdue && draft.roll_back(&seats, &wanted);
    if rolled_back {
        // The counts follow the new target, in the next plan.
    } else if is_held(input, &seats, &wanted) {
        draft.add(to_restore(input, &seats));
    } else {
        draft.promote(&seats, &wanted);
        draft.change_counts(&seats, &wanted);
    }
    draft.clear_strays(&seats);
    let gone = seats.seats.is_empty()
        && !input
            .replicas_seen
            .values()
            .any(|sight| matches!(sight, Sight::Seen(_)));
    if input.deleting && gone {
        draft.forget.push(AppAction::Delete);
    }
    let status = status::status(input, &seats, &wanted, progress, overdue);
    AppPlan {
        actions: [draft.rows, draft.start, draft.stop, draft.forget]
            .into_iter()
            .flatten()
            .collect(),
        status,
        wake: draft.wake,
    }
}

/// How far the target came: a replica more than ever before is progress, one that comes and goes is not.
fn progress(input: &AppInput, seats: &Seats<'_>, now: Time) -> Progress {
    let ready = seats.n_ready(input.target);
    if ready > input.progress.ready_max {
        Progress {
            ready_max: ready,
            at: now,
        }
    } else {
        input.progress
    }
}

/// When the Revision last got a seat, which is progress too: after a change of the counts the clock
/// begins anew. A seat that is only given again after a loss does not count.
fn last_seat(seats: &Seats<'_>, revision: u32) -> Option<Time> {
    let first_time = |seat: &&Seat<'_>| seat.revision == revision && seat.state.losses == 0;
    let since = |seat: &Seat<'_>| match seat.state.stage {
        SeatStage::Waiting { since } | SeatStage::Placed { since, .. } => Some(since),
        SeatStage::BackingOff { .. } => None,
    };
    seats.active().filter(first_time).filter_map(since).max()
}

struct Draft<'a> {
    input: &'a AppInput,
    now: Time,
    wake: Option<Time>,
    rows: Vec<AppAction>,
    start: Vec<AppAction>,
    stop: Vec<AppAction>,
    forget: Vec<AppAction>,
}

impl Draft<'_> {
    fn wake_at(&mut self, time: Time) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    // ---- seats ----

    fn seat(&mut self, seat: &Seat<'_>, wanted: &BTreeMap<u32, u32>) {
        match (&seat.placed, seat.state.draining) {
            (None, None) => self.pending(seat),
            (None, Some(_)) => self.remove(seat),
            (Some((placement, standing)), None) => self.placed(seat, placement, standing),
            (Some((_, standing)), Some(since)) => {
                let kept = wanted.contains_key(&seat.revision);
                self.draining(seat, standing, since, kept);
            }
        }
    }

    fn pending(&mut self, seat: &Seat<'_>) {
        let SeatStage::BackingOff { until } = seat.state.stage else {
            return;
        };
        if self.now < until {
            self.wake_at(until);
            return;
        }
        self.rows.push(AppAction::Submit {
            revision: seat.revision,
            index: seat.index,
            attempt: seat.state.attempt,
            readmit: seat.state.readmit,
        });
    }

    fn placed(&mut self, seat: &Seat<'_>, placement: &Placement, standing: &Standing) {
        match standing {
            Standing::Unasked | Standing::Unseen { releasing: None } => {
                if placement.stage == Stage::Reserved {
                    self.start.push(AppAction::Bind {
                        key: seat.key.clone(),
                    });
                }
                let group = self.group(seat, placement);
                self.start.push(AppAction::Ensure(Box::new(group)));
            }
            Standing::Unseen { releasing: Some(_) }
            | Standing::Live {
                releasing: Some(_), ..
            } => self.drain(seat),
            // Somebody else stops it: once it ended, the seat is placed again.
            Standing::Live { .. } => {}
            Standing::Ended(end) => {
                self.release(seat, end.clone());
                self.replace(seat, end);
            }
            Standing::Released(end) => self.replace(seat, end),
        }
    }

    fn draining(&mut self, seat: &Seat<'_>, standing: &Standing, since: Time, kept: bool) {
        let reason = if self.input.deleting {
            StopReason::Cancelled
        } else if seat.leaves {
            StopReason::Drained
        } else if kept {
            StopReason::Cancelled
        } else {
            StopReason::Replaced
        };
        match standing {
            Standing::Unasked => {
                self.release(seat, SlotEnd::unused(reason, self.now));
                self.remove(seat);
            }
            Standing::Ended(end) => {
                self.release(seat, end.clone());
                self.remove(seat);
            }
            Standing::Released(_) => self.remove(seat),
            Standing::Live {
                releasing: Some(_),
                stopping: true,
                ..
            } => {}
            Standing::Unseen { releasing } | Standing::Live { releasing, .. } => {
                let until = since + self.input.rollout.drain;
                if seat.serves() && self.now < until {
                    self.wake_at(until);
                    return;
                }
                self.stop.push(AppAction::Stop {
                    key: seat.key.clone(),
                    grace: self.grace(seat.revision),
                    reason: releasing.unwrap_or(reason),
                });
            }
        }
    }

    fn drain(&mut self, seat: &Seat<'_>) {
        self.rows.push(AppAction::Drain {
            key: seat.key.clone(),
        });
    }

    fn remove(&mut self, seat: &Seat<'_>) {
        self.rows.push(AppAction::RemoveSeat {
            revision: seat.revision,
            index: seat.index,
            attempt: seat.state.attempt,
        });
    }

    fn release(&mut self, seat: &Seat<'_>, end: SlotEnd) {
        self.rows.push(AppAction::Release {
            key: seat.key.clone(),
            end,
        });
        if seat.seen.is_some() {
            self.forget.push(AppAction::Forget {
                key: seat.key.clone(),
            });
        }
    }

    /// The same seat again, at once the first time: its admission stands unless the scheduler took it.
    fn replace(&mut self, seat: &Seat<'_>, end: &SlotEnd) {
        let ran = end
            .started
            .map_or(Span::ZERO, |started| end.at.since(started));
        let losses = if ran >= STEADY_RUN {
            1
        } else {
            seat.state.losses.saturating_add(1)
        };
        let wait = match losses {
            1 => Span::ZERO,
            again => backoff(LOSS_BACKOFF, again - 1),
        };
        let name = format!("{}/{}", seat.key.group, seat.index);
        self.rows.push(AppAction::ReplaceSeat {
            revision: seat.revision,
            index: seat.index,
            attempt: seat.state.attempt.next(),
            losses,
            not_before: self.now + wait,
            readmit: end.stopped.is_none() || end.cause == Cause::NodeLost,
            reason: Reason::new(ReasonCode::ReplicaFailed, describe(&name, end)),
        });
    }

    fn group(&self, seat: &Seat<'_>, placement: &Placement) -> Group {
        let input = self.input;
        let attempt = seat.state.attempt;
        Group {
            owner: input.uid,
            name: group_name(seat.revision),
            title: format!("app/{}", input.name),
            tenant: input.tenant.clone(),
            project: input.project.clone(),
            life: Life::Service,
            template: input.revisions[&seat.revision].template.clone(),
            slots: vec![Slot {
                index: seat.index,
                attempt,
                node: placement.node.clone(),
                devices: placement.devices.clone(),
                ports: placement.ports.clone(),
                env: app_env(
                    &input.name,
                    &input.project,
                    seat.revision,
                    seat.index,
                    attempt,
                ),
                token: placement.token.clone(),
            }],
        }
    }

    fn grace(&self, revision: u32) -> Span {
        self.input
            .revisions
            .get(&revision)
            .map_or(Span::ZERO, |revision| revision.template.grace)
    }

    // ---- counts ----

    fn add(&mut self, seats: Vec<NewSeat>) {
        self.rows
            .extend(seats.into_iter().map(|new| AppAction::AddSeat {
                revision: new.revision,
                index: new.index,
                attempt: new.attempt,
            }));
    }

    fn change_counts(&mut self, seats: &Seats<'_>, wanted: &BTreeMap<u32, u32>) {
        self.add(to_add(self.input, seats, wanted));
        for seat in to_remove(self.input, seats, wanted) {
            match &seat.placed {
                None => {
                    // A submit of this plan would only be taken back.
                    let key = (seat.revision, seat.index);
                    self.rows.retain(|action| {
                        !matches!(action, AppAction::Submit { revision, index, .. } if (*revision, *index) == key)
                    });
                    self.remove(seat);
                }
                Some((_, Standing::Ended(_) | Standing::Released(_))) => {
                    // Lost and not wanted: given back, but not placed again.
                    let key = (seat.revision, seat.index);
                    self.rows.retain(|action| {
                        !matches!(action, AppAction::ReplaceSeat { revision, index, .. } if (*revision, *index) == key)
                    });
                    self.remove(seat);
                }
                Some((_, Standing::Unasked | Standing::Unseen { .. } | Standing::Live { .. })) => {
                    self.start.retain(|action| !starts(action, &seat.key));
                    let evicted = AppAction::Drain {
                        key: seat.key.clone(),
                    };
                    if !self.rows.contains(&evicted) {
                        self.rows.push(evicted);
                    }
                }
            }
        }
    }

    fn promote(&mut self, seats: &Seats<'_>, wanted: &BTreeMap<u32, u32>) {
        let target = self.input.target;
        let only = wanted.len() == 1;
        let Some(count) = wanted.get(&target).filter(|_| only) else {
            return;
        };
        if self.input.stable != Some(target) && seats.n_ready(target) >= *count {
            self.rows.push(AppAction::Promote { revision: target });
        }
    }

    /// Whether the target went without progress for too long.
    fn overdue(
        &mut self,
        seats: &Seats<'_>,
        wanted: &BTreeMap<u32, u32>,
        progress: Progress,
    ) -> bool {
        let input = self.input;
        let Some(count) = wanted.get(&input.target) else {
            return false;
        };
        // A canary that was whole once is kept; what it takes after that is its owner's to judge.
        let was_whole = wanted.len() > 1 && progress.ready_max >= *count;
        let rolling = input.stable != Some(input.target)
            && !was_whole
            && !input.paused
            && input.revisions.contains_key(&input.target)
            && seats.n_ready(input.target) < *count;
        let moving =
            !to_add(input, seats, wanted).is_empty() || !to_remove(input, seats, wanted).is_empty();
        if rolling && moving {
            return false;
        }
        let last = last_seat(seats, input.target).map_or(progress.at, |at| at.max(progress.at));
        let deadline = last + input.rollout.progress_deadline;
        if rolling && self.now < deadline {
            self.wake_at(deadline);
        }
        rolling && self.now >= deadline
    }

    /// Back to the last stable Revision, if there is one.
    fn roll_back(&mut self, seats: &Seats<'_>, wanted: &BTreeMap<u32, u32>) -> bool {
        let input = self.input;
        let stable = input
            .stable
            .filter(|stable| input.revisions.contains_key(stable));
        let Some(to) = stable else {
            return false;
        };
        let why = last_failure(seats, input.target)
            .map(|failure| format!("; the last failure: {failure}"))
            .or_else(|| status::waits(seats, input.target).map(|waits| format!("; {waits}")))
            .unwrap_or_default();
        let sentence = format!(
            "r{} had {} of {} replicas ready and made no progress for {}{why}",
            input.target,
            seats.n_ready(input.target),
            wanted.get(&input.target).copied().unwrap_or(0),
            input.rollout.progress_deadline,
        );
        self.rows.push(AppAction::RollBack {
            from: input.target,
            to,
            reason: Reason::new(ReasonCode::ProgressDeadline, sentence),
        });
        true
    }

    // ---- leftovers ----

    /// Replicas that no seat stands for: of a fenced node that came back, or of an earlier leader.
    fn clear_strays(&mut self, seats: &Seats<'_>) {
        let held: BTreeSet<&ReplicaKey> = seats
            .seats
            .iter()
            .filter(|seat| {
                seat.placed
                    .as_ref()
                    .is_some_and(|(_, standing)| !matches!(standing, Standing::Released(_)))
            })
            .map(|seat| &seat.key)
            .collect();
        for (key, sight) in &self.input.replicas_seen {
            let Sight::Seen(seen) = sight else { continue };
            if held.contains(key) {
                continue;
            }
            match seen.phase {
                Phase::Ended(_) => self.forget.push(AppAction::Forget { key: key.clone() }),
                Phase::Stopping(_) => {}
                Phase::Preparing | Phase::Running | Phase::BackingOff(_) => {
                    let grace = key
                        .group
                        .strip_prefix('r')
                        .and_then(|number| number.parse().ok())
                        .map_or(Span::ZERO, |revision| self.grace(revision));
                    self.stop.push(AppAction::Stop {
                        key: key.clone(),
                        grace,
                        reason: StopReason::Replaced,
                    });
                }
            }
        }
    }
}

/// Whether the action starts this replica.
fn starts(action: &AppAction, key: &ReplicaKey) -> bool {
    match action {
        AppAction::Bind { key: bound } => bound == key,
        AppAction::Ensure(group) => group.slots.iter().any(|slot| group.key(slot) == *key),
        AppAction::AddSeat { .. }
        | AppAction::Submit { .. }
        | AppAction::Drain { .. }
        | AppAction::Stop { .. }
        | AppAction::Release { .. }
        | AppAction::Forget { .. }
        | AppAction::ReplaceSeat { .. }
        | AppAction::RemoveSeat { .. }
        | AppAction::Promote { .. }
        | AppAction::RollBack { .. }
        | AppAction::Delete => false,
    }
}
