//! A Job's members as rows and engine together say, unit by unit, in rank order.

use super::input::{GroupSpec, JobInput, MemberState, Restart, UnitKey, UnitStage, UnitState};
use crate::slot::{Sight, SlotEnd, Standing};
use base::{Attempt, Index, Time};
use engine::ReplicaKey;

/// A unit with its members.
pub(super) struct UnitView<'a> {
    pub(super) key: UnitKey,
    pub(super) state: &'a UnitState,
    pub(super) members: Vec<Member<'a>>,
}

/// A member with where it stands.
pub(super) struct Member<'a> {
    pub(super) state: &'a MemberState,
    pub(super) key: ReplicaKey,
    /// Position of its group in the spec.
    pub(super) group: usize,
    pub(super) standing: Standing,
}

impl<'a> UnitView<'a> {
    pub(super) fn new(input: &'a JobInput, key: UnitKey, state: &'a UnitState, now: Time) -> Self {
        let mut members: Vec<Member<'a>> = state
            .members
            .iter()
            .filter_map(|member| {
                let group = group_position(&input.spec.groups, &member.group)?;
                let key = ReplicaKey {
                    owner: input.uid,
                    group: member.group.clone(),
                    index: member.index,
                    attempt: state.attempt,
                };
                let standing = Standing::of(&member.placement, input.replicas.get(&key), now);
                Some(Member {
                    state: member,
                    key,
                    group,
                    standing,
                })
            })
            .collect();
        members.sort_by_key(|member| (member.group, member.state.index));
        UnitView {
            key,
            state,
            members,
        }
    }

    pub(super) fn is_placed(&self) -> bool {
        matches!(self.state.stage, UnitStage::Placed { .. })
    }

    /// Whether every member ended, so that the attempt can.
    pub(super) fn all_ended(&self) -> bool {
        !self.members.is_empty()
            && self
                .members
                .iter()
                .all(|member| member.standing.end().is_some())
    }
}

impl Member<'_> {
    pub(super) fn end(&self) -> Option<&SlotEnd> {
        self.standing.end()
    }

    pub(super) fn succeeded(&self) -> bool {
        self.end().is_some_and(SlotEnd::succeeded)
    }

    /// Ended without success, or on its way there.
    pub(super) fn is_broken(&self) -> bool {
        match self.end() {
            Some(end) => !end.succeeded(),
            None => self.standing.releasing().is_some(),
        }
    }
}

/// What holds each rank of a gang now: the gang's own member, or for an elastic one the `rank` unit
/// that replaced it. Units of earlier gang attempts have lower attempts and hold nothing.
pub(super) enum Holder<'v, 'a> {
    /// A member that was given a seat.
    Member(&'v Member<'a>),
    /// A replacement that has no seat yet.
    Pending { group: usize, index: Index },
}

impl<'v, 'a> Holder<'v, 'a> {
    /// The member, if it was given a seat.
    pub(super) fn member(&self) -> Option<&'v Member<'a>> {
        match self {
            Holder::Member(member) => Some(member),
            Holder::Pending { .. } => None,
        }
    }

    pub(super) fn group(&self) -> usize {
        match self {
            Holder::Member(member) => member.group,
            Holder::Pending { group, .. } => *group,
        }
    }

    pub(super) fn index(&self) -> Index {
        match self {
            Holder::Member(member) => member.state.index,
            Holder::Pending { index, .. } => *index,
        }
    }
}

/// The units of a Job that matter now.
pub(super) struct Units<'a> {
    /// The gang, or the indexes of an array that have a row.
    pub(super) main: Vec<UnitView<'a>>,
    /// Replacements of single ranks within the present attempt of the gang.
    pub(super) ranks: Vec<UnitView<'a>>,
}

impl<'a> Units<'a> {
    pub(super) fn of(input: &'a JobInput, now: Time) -> Units<'a> {
        let mut units = Units {
            main: Vec::new(),
            ranks: Vec::new(),
        };
        let gang = input
            .units
            .get(&UnitKey::Gang)
            .map_or(Attempt(1), |gang| gang.attempt);
        for (key, state) in &input.units {
            let view = || UnitView::new(input, key.clone(), state, now);
            match (key, input.spec.restart) {
                (UnitKey::Gang, Restart::Gang | Restart::Rank) => units.main.push(view()),
                (UnitKey::Index(index), Restart::Index { count, .. }) if index.0 < count => {
                    units.main.push(view());
                }
                (UnitKey::Rank { .. }, Restart::Rank) if state.attempt > gang => {
                    units.ranks.push(view());
                }
                (UnitKey::Gang | UnitKey::Index(_) | UnitKey::Rank { .. }, _) => {}
            }
        }
        units
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &UnitView<'a>> {
        self.main.iter().chain(&self.ranks)
    }

    /// The replacement of a single rank, if the present attempt of the gang has one.
    pub(super) fn rank(&self, key: &UnitKey) -> Option<&UnitView<'a>> {
        self.ranks.iter().find(|unit| unit.key == *key)
    }

    /// Who holds each rank of the gang, in rank order.
    pub(super) fn holders<'v>(
        &'v self,
        input: &JobInput,
        gang: &'v UnitView<'a>,
    ) -> Vec<Holder<'v, 'a>> {
        let replacement = |group: &str, index: Index| {
            self.ranks.iter().find(|unit| {
                matches!(&unit.key, UnitKey::Rank { group: g, index: i } if g == group && *i == index)
            })
        };
        let mut holders: Vec<Holder<'v, 'a>> = gang
            .members
            .iter()
            .filter(|member| replacement(&member.state.group, member.state.index).is_none())
            .map(Holder::Member)
            .collect();
        for unit in &self.ranks {
            let UnitKey::Rank { group, index } = &unit.key else {
                continue;
            };
            let Some(position) = group_position(&input.spec.groups, group) else {
                continue;
            };
            holders.push(match unit.members.first() {
                Some(member) => Holder::Member(member),
                None => Holder::Pending {
                    group: position,
                    index: *index,
                },
            });
        }
        holders.sort_by_key(|holder| (holder.group(), holder.index()));
        holders
    }
}

/// Whether the engine has reported a program of this replica that is not over.
pub(super) fn is_seen_alive(sight: &Sight) -> bool {
    match sight {
        Sight::Seen(seen) => !matches!(seen.phase, engine::Phase::Ended(_)),
        Sight::Gone | Sight::Fenced => false,
    }
}

fn group_position(groups: &[GroupSpec], name: &str) -> Option<usize> {
    groups.iter().position(|group| group.name == name)
}
