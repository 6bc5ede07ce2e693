//! An App's seats as rows and engine together say.

use super::input::{AppInput, SeatStage, SeatState, group_name};
use crate::slot::{Placement, Seen, Sight, Standing};
use base::{Index, Time};
use engine::ReplicaKey;
use std::collections::BTreeMap;

/// A seat with where it stands.
pub(super) struct Seat<'a> {
    pub(super) revision: u32,
    pub(super) index: Index,
    pub(super) state: &'a SeatState,
    pub(super) key: ReplicaKey,
    /// What the engine last reported.
    pub(super) seen: Option<&'a Seen>,
    /// Its placement, if its task was admitted.
    pub(super) placed: Option<(&'a Placement, Standing)>,
    /// It must leave its node.
    pub(super) leaves: bool,
}

/// All seats of an App, by Revision and index.
pub(super) struct Seats<'a> {
    pub(super) seats: Vec<Seat<'a>>,
}

impl<'a> Seats<'a> {
    pub(super) fn of(input: &'a AppInput, now: Time) -> Seats<'a> {
        let mut seats = Vec::new();
        for (number, revision) in &input.revisions {
            for (index, state) in &revision.seats {
                let key = ReplicaKey {
                    owner: input.uid,
                    group: group_name(*number),
                    index: *index,
                    attempt: state.attempt,
                };
                let sight = input.replicas_seen.get(&key);
                let placed = match &state.stage {
                    SeatStage::BackingOff { .. } | SeatStage::Waiting { .. } => None,
                    SeatStage::Placed { placement, .. } => {
                        Some((placement, Standing::of(placement, sight, now)))
                    }
                };
                let seen = match sight {
                    Some(Sight::Seen(seen)) => Some(seen),
                    Some(Sight::Gone | Sight::Fenced) | None => None,
                };
                let leaves = placed.is_some() && input.leaving.contains(&key);
                seats.push(Seat {
                    revision: *number,
                    index: *index,
                    state,
                    key,
                    seen,
                    placed,
                    leaves,
                });
            }
        }
        Seats { seats }
    }

    /// Seats that count: those that are not on their way out.
    pub(super) fn active(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| seat.is_active())
    }

    pub(super) fn n_active(&self, revision: u32) -> u32 {
        count(self.active().filter(|seat| seat.revision == revision))
    }

    /// Seats of a Revision that count and stay where they are.
    pub(super) fn staying(&self, revision: u32) -> impl Iterator<Item = &Seat<'a>> {
        self.active()
            .filter(move |seat| seat.revision == revision && !seat.leaves)
    }

    pub(super) fn n_ready(&self, revision: u32) -> u32 {
        let ready = |seat: &&Seat<'_>| seat.revision == revision && seat.is_ready();
        count(self.seats.iter().filter(ready))
    }

    pub(super) fn n_ready_all(&self) -> u32 {
        count(self.seats.iter().filter(|seat| seat.is_ready()))
    }
}

impl Seat<'_> {
    /// Not on its way out.
    pub(super) fn is_active(&self) -> bool {
        self.state.draining.is_none()
    }

    /// Takes traffic.
    pub(super) fn is_ready(&self) -> bool {
        let lives = matches!(
            self.placed,
            Some((
                _,
                Standing::Live {
                    releasing: None,
                    stopping: false,
                    ..
                }
            ))
        );
        lives && self.is_active() && self.serves()
    }

    /// The engine says that it is ready, whatever is wanted of it.
    pub(super) fn serves(&self) -> bool {
        self.seen.is_some_and(|seen| seen.ready_since.is_some())
    }
}

pub(super) fn count<'s, 'a: 's>(seats: impl Iterator<Item = &'s Seat<'a>>) -> u32 {
    u32::try_from(seats.count()).unwrap_or(u32::MAX)
}

/// How many seats each Revision shall have. Revisions that are not named shall have none.
pub(super) fn wanted(input: &AppInput) -> BTreeMap<u32, u32> {
    if input.deleting || input.replicas == 0 {
        return BTreeMap::new();
    }
    let mut shares: BTreeMap<u32, u64> = BTreeMap::new();
    for traffic in &input.traffic {
        if traffic.percent > 0 && input.revisions.contains_key(&traffic.revision) {
            *shares.entry(traffic.revision).or_default() += u64::from(traffic.percent);
        }
    }
    if shares.is_empty() {
        return BTreeMap::from([(input.target, input.replicas)]);
    }
    split(input.replicas, &shares)
}

/// Largest remainders, with at least one for each; the sum exceeds `replicas` only where there are more
/// shares than replicas.
fn split(replicas: u32, shares: &BTreeMap<u32, u64>) -> BTreeMap<u32, u32> {
    let sum: u64 = shares.values().sum();
    let exact = |share: u64| u64::from(replicas) * share;
    let mut parts: BTreeMap<u32, u32> = shares
        .iter()
        .map(|(revision, share)| {
            let whole = u32::try_from(exact(*share) / sum).unwrap_or(u32::MAX);
            (*revision, whole.max(1))
        })
        .collect();
    let mut by_remainder: Vec<u32> = shares.keys().copied().collect();
    by_remainder.sort_by_key(|revision| std::cmp::Reverse(exact(shares[revision]) % sum));
    for revision in by_remainder.iter().cycle().take(shares.len()) {
        if parts.values().sum::<u32>() < replicas {
            *parts.entry(*revision).or_default() += 1;
        }
    }
    while parts.values().sum::<u32>() > replicas {
        let Some(largest) = parts.values_mut().filter(|part| **part > 1).max() else {
            break;
        };
        *largest -= 1;
    }
    parts
}
