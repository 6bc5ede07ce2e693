//! How many seats are added and taken away now, by ready counts (after Kubernetes' Deployment
//! controller, `pkg/controller/deployment/rolling.go`).
//!
//! Two bounds hold at any time: never more than wanted + surge seats that are not draining, and no
//! ready seat is taken while that would leave fewer than wanted − unavailable ready. Seats that are not
//! ready go first, so a Revision that never becomes ready costs the others at most `max_unavailable`.
//!
//! A seat that must leave its node counts as one of an older Revision does: another is added for it, and it
//! goes when it can be spared. One that is not ready can always be spared.

use super::input::{AppInput, RevisionInput};
use super::view::{Seat, Seats, count};
use base::{Attempt, Index};
use std::collections::BTreeMap;

/// A seat to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewSeat {
    pub(super) revision: u32,
    pub(super) index: Index,
    pub(super) attempt: Attempt,
}

/// Whether the rollout is held half-way: paused, with seats of other Revisions that would have to go.
pub(super) fn is_held(input: &AppInput, seats: &Seats<'_>, wanted: &BTreeMap<u32, u32>) -> bool {
    let others = seats
        .active()
        .any(|seat| !wanted.contains_key(&seat.revision));
    let missing = !input.revisions.contains_key(&input.target);
    !input.deleting && input.replicas > 0 && ((input.paused && others) || missing)
}

/// Seats to add now.
pub(super) fn to_add(
    input: &AppInput,
    seats: &Seats<'_>,
    wanted: &BTreeMap<u32, u32>,
) -> Vec<NewSeat> {
    let (surge, _) = bounds(input);
    let total_wanted: u32 = wanted.values().sum();
    let total = count(seats.active());
    let mut room = total_wanted.saturating_add(surge).saturating_sub(total);
    let mut new = Vec::new();
    for (number, wanted) in wanted {
        let Some(revision) = input.revisions.get(number) else {
            continue;
        };
        let missing = wanted
            .saturating_sub(count(seats.staying(*number)))
            .min(room);
        room -= missing;
        new.extend(free_seats(*number, revision).take(missing as usize));
    }
    new
}

/// Seats to add while the rollout is held: as many as are wanted in all stay there, of the stable
/// Revision, else of the one that has most.
pub(super) fn to_restore(input: &AppInput, seats: &Seats<'_>) -> Vec<NewSeat> {
    let missing = input.replicas.saturating_sub(count(seats.active()));
    let most = || {
        let others = input
            .revisions
            .keys()
            .filter(|number| **number != input.target);
        others.copied().max_by_key(|number| seats.n_active(*number))
    };
    let anchor = input
        .stable
        .filter(|stable| input.revisions.contains_key(stable))
        .or_else(most);
    let Some(number) = anchor else {
        return Vec::new();
    };
    free_seats(number, &input.revisions[&number])
        .take(missing as usize)
        .collect()
}

fn free_seats(number: u32, revision: &RevisionInput) -> impl Iterator<Item = NewSeat> + '_ {
    let attempt = revision.attempt_max.next();
    (0..)
        .map(Index)
        .filter(|index| !revision.seats.contains_key(index))
        .map(move |index| NewSeat {
            revision: number,
            index,
            attempt,
        })
}

/// Seats to take away now.
pub(super) fn to_remove<'s, 'a>(
    input: &AppInput,
    seats: &'s Seats<'a>,
    wanted: &BTreeMap<u32, u32>,
) -> Vec<&'s Seat<'a>> {
    let (_, unavailable) = bounds(input);
    let total_wanted: u32 = wanted.values().sum();
    let ready_min = total_wanted.saturating_sub(unavailable);
    let total = count(seats.active());
    let starting: u32 = wanted
        .iter()
        .map(|(revision, wanted)| {
            let there = count(seats.staying(*revision)).min(*wanted);
            let ready = seats.staying(*revision).filter(|seat| seat.is_ready());
            there.saturating_sub(count(ready))
        })
        .sum();
    let mut budget = total.saturating_sub(ready_min).saturating_sub(starting);
    let mut ready_budget = seats.n_ready_all().saturating_sub(ready_min);
    let mut removed = Vec::new();
    for seat in excess(seats, wanted) {
        if seat.leaves && !seat.is_ready() {
            budget = budget.saturating_sub(1);
            removed.push(seat);
            continue;
        }
        if budget == 0 {
            continue;
        }
        if seat.is_ready() {
            if ready_budget == 0 {
                continue;
            }
            ready_budget -= 1;
        }
        budget -= 1;
        removed.push(seat);
    }
    removed
}

/// Seats above what their Revision shall have, and those that must leave: first those that hold nothing, then
/// those that are not ready, then the highest index.
fn excess<'s, 'a>(seats: &'s Seats<'a>, wanted: &BTreeMap<u32, u32>) -> Vec<&'s Seat<'a>> {
    let mut order: Vec<&Seat<'a>> = seats.active().collect();
    order.sort_by_key(|seat| {
        (
            seat.is_ready(),
            seat.placed.is_some(),
            seat.revision,
            std::cmp::Reverse(seat.index),
        )
    });
    let mut left: BTreeMap<u32, u32> = BTreeMap::new();
    for seat in order.iter().filter(|seat| !seat.leaves) {
        *left.entry(seat.revision).or_default() += 1;
    }
    order.retain(|seat| {
        if seat.leaves {
            return true;
        }
        let keep = wanted.get(&seat.revision).copied().unwrap_or(0);
        let left = left.entry(seat.revision).or_default();
        let is_excess = *left > keep;
        *left -= u32::from(is_excess);
        is_excess
    });
    order
}

/// Surge and unavailable; one of them is at least 1, or nothing could ever move.
fn bounds(input: &AppInput) -> (u32, u32) {
    match (input.rollout.max_surge, input.rollout.max_unavailable) {
        (0, 0) => (1, 0),
        bounds => bounds,
    }
}
