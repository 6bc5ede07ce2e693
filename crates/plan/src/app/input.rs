//! What is known of an App: its spec, its rows, and what the engine reports.

use crate::slot::{Placement, Sight};
use base::{Attempt, Index, Span, Time, Uid};
use engine::{ReplicaKey, Template};
use std::collections::{BTreeMap, BTreeSet};

/// All that is known of one App.
#[derive(Clone, Debug)]
pub struct AppInput {
    /// Its identity.
    pub uid: Uid,
    /// Its name; the title is `app/<name>`.
    pub name: String,
    /// The tenant's name.
    pub tenant: String,
    /// The project's name.
    pub project: String,
    /// How many replicas are wanted, all Revisions together.
    pub replicas: u32,
    /// Revisions that are wanted or still have seats, by number.
    pub revisions: BTreeMap<u32, RevisionInput>,
    /// The Revision that shall serve: the newest one, or an older one after a rollback.
    pub target: u32,
    /// The last Revision that was promoted, if any: where an automatic rollback goes.
    pub stable: Option<u32>,
    /// How far the target came, as [`crate::AppStatusPlan::progress`] was kept. The caller sets it to
    /// (0, now) whenever it changes `target`, and its time to now when it resumes a paused rollout.
    pub progress: Progress,
    /// Shares of traffic; empty sends all to the target. Each named Revision with a percentage keeps
    /// its part of the replicas, at least one.
    pub traffic: Vec<Traffic>,
    /// How Revisions follow each other.
    pub rollout: Rollout,
    /// Whether the rollout is held: nothing is added to the target, nothing taken from the others. Only
    /// seats that are lost or newly wanted are made up for, beside the target.
    pub paused: bool,
    /// Whether it shall go away.
    pub deleting: bool,
    /// Replicas that must leave their node (drained, or a device of theirs is sick). They are replaced as a
    /// rollout replaces: elsewhere first, within surge and unavailable.
    pub leaving: BTreeSet<ReplicaKey>,
    /// What is known of its replicas, also of earlier attempts.
    pub replicas_seen: BTreeMap<ReplicaKey, Sight>,
}

/// One Revision.
#[derive(Clone, Debug)]
pub struct RevisionInput {
    /// What each replica is.
    pub template: Template,
    /// When it was made.
    pub created: Time,
    /// The highest attempt that any of its seats ever had, removed ones included; 0 for none.
    pub attempt_max: Attempt,
    /// Its seats, by index.
    pub seats: BTreeMap<Index, SeatState>,
}

/// The row of a seat.
#[derive(Clone, Debug, PartialEq)]
pub struct SeatState {
    /// The current attempt, from 1.
    pub attempt: Attempt,
    /// Attempts in a row that were lost soon after they began; written by `ReplaceSeat`.
    pub losses: u32,
    /// Whether its next task goes first in its queue.
    pub readmit: bool,
    /// Since when its endpoint is out of the feed for good; set by `Drain`.
    pub draining: Option<Time>,
    /// Where it stands.
    pub stage: SeatStage,
}

/// Where a seat stands.
#[derive(Clone, Debug, PartialEq)]
pub enum SeatStage {
    /// It gets a task at this time.
    BackingOff {
        /// When.
        until: Time,
    },
    /// Its task waits.
    Waiting {
        /// Since when.
        since: Time,
    },
    /// Its task was admitted.
    Placed {
        /// When.
        since: Time,
        /// The seat.
        placement: Placement,
    },
}

/// How far the target Revision came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The most replicas of it that were ready at once.
    pub ready_max: u32,
    /// When that was reached.
    pub at: Time,
}

/// A share of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// To which Revision.
    pub revision: u32,
    /// Of 100.
    pub percent: u32,
}

/// How Revisions follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Seats above the wanted count while rolling.
    pub max_surge: u32,
    /// Ready seats below the wanted count while rolling. With both 0 a surge of 1 is used.
    pub max_unavailable: u32,
    /// How long the target may go without one more ready replica before it is rolled back.
    pub progress_deadline: Span,
    /// How long a seat's endpoint is out of the feed before its program is asked to stop.
    pub drain: Span,
}

/// How long a rollout may go without progress where nothing else is said (Kubernetes' default).
pub const PROGRESS_DEADLINE: Span = Span::from_secs(600);

/// How long gateways get to take note of a drained endpoint where nothing else is said.
pub const DRAIN: Span = Span::from_secs(2);

/// The engine's name for a Revision's group: `r3`.
pub fn group_name(revision: u32) -> String {
    format!("r{revision}")
}
