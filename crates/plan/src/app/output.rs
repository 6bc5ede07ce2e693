//! What shall happen to an App, as data with a readable text.

use super::input::{Progress, group_name};
use crate::reason::Reason;
use crate::slot::{SlotEnd, member, show_ensure};
use base::{Attempt, Index, Span, Time};
use engine::{Group, ReplicaKey, StopReason};
use std::collections::BTreeMap;
use std::fmt;

/// What shall happen now, what the status says, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct AppPlan {
    /// In this order.
    pub actions: Vec<AppAction>,
    /// What the status shall say; written only if it changed.
    pub status: AppStatusPlan,
    /// When something changes by time alone, if nothing else does before.
    pub wake: Option<Time>,
}

/// One step. Each may be repeated; each is conditional on what it names still being so.
#[derive(Clone, Debug, PartialEq)]
pub enum AppAction {
    /// Rows: make a seat and its task (`waiting`) unless the seat is there, and tell the scheduler.
    AddSeat {
        /// Of which Revision.
        revision: u32,
        /// Which seat.
        index: Index,
        /// Its first attempt: above every attempt that an earlier seat of the Revision had, so that no key
        /// comes back. Seats that are added together share it.
        attempt: Attempt,
    },
    /// Rows: give the seat's attempt a task (`backing off` → `waiting`), and tell the scheduler.
    Submit {
        /// Of which Revision.
        revision: u32,
        /// Which seat.
        index: Index,
        /// Which attempt.
        attempt: Attempt,
        /// The task goes first in its queue.
        readmit: bool,
    },
    /// Rows: placement `reserved` → `bound`. From now on an engine may hold it.
    Bind {
        /// Which replica.
        key: ReplicaKey,
    },
    /// Engine: `ensure`.
    Ensure(Box<Group>),
    /// Rows: the seat is draining since now; its endpoint leaves the feed.
    Drain {
        /// Which replica.
        key: ReplicaKey,
    },
    /// Rows: placement → `releasing` (now + grace, reason) unless it is already or is not there; tell the
    /// scheduler. Then engine: `remove`.
    Stop {
        /// Which replica.
        key: ReplicaKey,
        /// From SIGTERM to SIGKILL.
        grace: Span,
        /// Why.
        reason: StopReason,
    },
    /// Rows: placement → `released` with how it ended, and tell the scheduler: the capacity is back.
    Release {
        /// Which replica.
        key: ReplicaKey,
        /// How it ended.
        end: SlotEnd,
    },
    /// Engine: `remove` of an ended replica with [`StopReason::Forget`], so that its record is dropped.
    Forget {
        /// Which replica.
        key: ReplicaKey,
    },
    /// Rows: the seat's placement was lost and is released; it goes to this attempt, `backing off`.
    ReplaceSeat {
        /// Of which Revision.
        revision: u32,
        /// Which seat.
        index: Index,
        /// Its next attempt.
        attempt: Attempt,
        /// [`crate::SeatState::losses`] from now on.
        losses: u32,
        /// When it may be submitted.
        not_before: Time,
        /// Whether its task goes first: it was admitted before.
        readmit: bool,
        /// What happened to the last one.
        reason: Reason,
    },
    /// Rows: delete a seat that holds nothing, and withdraw its task if one waits.
    RemoveSeat {
        /// Of which Revision.
        revision: u32,
        /// Which seat.
        index: Index,
        /// Which attempt it was at.
        attempt: Attempt,
    },
    /// Rows: this Revision is the stable one.
    Promote {
        /// Which.
        revision: u32,
    },
    /// Rows: the target is `to` again, progress (0, now), and `traffic` is cleared.
    RollBack {
        /// The one that did not become ready.
        from: u32,
        /// The last stable one.
        to: u32,
        /// Why, with the last failure.
        reason: Reason,
    },
    /// Rows: delete the App; nothing of it is left.
    Delete,
}

/// Where an App stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppPhase {
    /// No replica is wanted.
    Stopped,
    /// On the way to what is wanted.
    Progressing,
    /// As wanted.
    Ready,
    /// It was as wanted, and now fewer replicas are ready than may be, or a Revision failed to become ready.
    Degraded,
    /// It is being deleted.
    Deleting,
}

/// What the status shall say.
#[derive(Clone, Debug, PartialEq)]
pub struct AppStatusPlan {
    /// Where it stands.
    pub phase: AppPhase,
    /// Why, in one sentence.
    pub reason: Reason,
    /// Ready replicas, all Revisions together.
    pub ready: u32,
    /// Seats by Revision.
    pub revisions: BTreeMap<u32, RevisionCounts>,
    /// Kept, and handed back as [`crate::AppInput::progress`].
    pub progress: Progress,
    /// How a replica of the target last failed, in one sentence.
    pub last_failure: Option<String>,
}

/// How many seats of a Revision stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionCounts {
    /// How many it shall have.
    pub wanted: u32,
    /// With a task that waits, or waiting for one.
    pub waiting: u32,
    /// Admitted, not ready yet.
    pub starting: u32,
    /// Ready for traffic.
    pub ready: u32,
    /// Failed, and restarted by the engine in a while.
    pub backing_off: u32,
    /// Out of the feed, or stopping.
    pub draining: u32,
}

impl AppPhase {
    /// All phases.
    pub const ALL: [AppPhase; 5] = [
        AppPhase::Stopped,
        AppPhase::Progressing,
        AppPhase::Ready,
        AppPhase::Degraded,
        AppPhase::Deleting,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            AppPhase::Stopped => "Stopped",
            AppPhase::Progressing => "Progressing",
            AppPhase::Ready => "Ready",
            AppPhase::Degraded => "Degraded",
            AppPhase::Deleting => "Deleting",
        }
    }

    /// The phase with this word.
    pub fn from_word(word: &str) -> Option<AppPhase> {
        AppPhase::ALL
            .into_iter()
            .find(|phase| phase.as_str() == word)
    }
}

impl fmt::Display for AppPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for AppPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        writeln!(f, "status {}", self.status)?;
        match self.wake {
            Some(wake) => writeln!(f, "wake {wake}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for AppAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seat = |revision: &u32, index: &Index| format!("{}/{index}", group_name(*revision));
        let first = |readmit: &bool| if *readmit { ", first in its queue" } else { "" };
        match self {
            AppAction::AddSeat {
                revision,
                index,
                attempt,
            } => write!(f, "add {} attempt {attempt}", seat(revision, index)),
            AppAction::Submit {
                revision,
                index,
                attempt,
                readmit,
            } => write!(
                f,
                "submit {} attempt {attempt}{}",
                seat(revision, index),
                first(readmit)
            ),
            AppAction::Bind { key } => write!(f, "bind {}", member(key)),
            AppAction::Ensure(group) => show_ensure(f, group),
            AppAction::Drain { key } => write!(f, "drain {}", member(key)),
            AppAction::Stop { key, grace, reason } => {
                write!(f, "stop {} within {grace}: {reason:?}", member(key))
            }
            AppAction::Release { key, end } => write!(f, "release {}: {end}", member(key)),
            AppAction::Forget { key } => write!(f, "forget {}", member(key)),
            AppAction::ReplaceSeat {
                revision,
                index,
                attempt,
                losses,
                not_before,
                readmit,
                reason,
            } => write!(
                f,
                "replace {} by attempt {attempt} not before {not_before}{} (losses {losses}): {reason}",
                seat(revision, index),
                first(readmit)
            ),
            AppAction::RemoveSeat {
                revision,
                index,
                attempt,
            } => write!(f, "remove {} attempt {attempt}", seat(revision, index)),
            AppAction::Promote { revision } => write!(f, "promote r{revision}"),
            AppAction::RollBack { from, to, reason } => {
                write!(f, "roll back from r{from} to r{to}: {reason}")
            }
            AppAction::Delete => f.write_str("delete"),
        }
    }
}

impl fmt::Display for AppStatusPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.phase, self.reason)?;
        for (revision, counts) in &self.revisions {
            write!(f, "\n  r{revision} {counts}")?;
        }
        if let Some(failure) = &self.last_failure {
            write!(f, "\n  last failure: {failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RevisionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ready", self.ready, self.wanted)?;
        let others = [
            ("waiting", self.waiting),
            ("starting", self.starting),
            ("backing off", self.backing_off),
            ("draining", self.draining),
        ];
        for (word, count) in others.into_iter().filter(|(_, count)| *count != 0) {
            write!(f, ", {count} {word}")?;
        }
        Ok(())
    }
}
