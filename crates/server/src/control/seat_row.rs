//! An App's seats and what its planner remembers, as JSON rows.

use base::{Attempt, Index, Time, Uid};
use serde::{Deserialize, Serialize};

/// What the planner remembers of an App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppRow {
    /// The Revision that the progress is about.
    pub target: u32,
    /// The last Revision that was promoted.
    pub stable: Option<u32>,
    /// The most replicas of the target that were ready at once.
    pub ready_max: u32,
    /// When that was reached.
    pub progress_at: Time,
}

/// A seat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeatRow {
    /// The present attempt.
    pub attempt: Attempt,
    /// Attempts in a row that were lost soon after they began.
    pub losses: u32,
    /// Whether its next task goes first.
    pub readmit: bool,
    /// Since when its endpoint is out of the feed for good.
    pub draining: Option<Time>,
    /// Its task, while it has one.
    pub task: Option<Uid>,
    /// Since when it waits, backs off (until) or is placed.
    pub since: Time,
    /// Where it stands.
    pub stage: SeatWord,
}

/// Where a seat stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeatWord {
    /// It gets a task at `since`.
    BackingOff,
    /// Its task waits since `since`.
    Waiting,
    /// Its task was admitted at `since`; its placement has a row of its own.
    Placed,
}

impl SeatRow {
    /// A seat whose task waits.
    pub fn waiting(attempt: Attempt, task: Uid, since: Time, losses: u32) -> SeatRow {
        SeatRow {
            attempt,
            losses,
            readmit: false,
            draining: None,
            task: Some(task),
            since,
            stage: SeatWord::Waiting,
        }
    }

    /// A seat's text: `r3/0`.
    pub fn unit(revision: u32, index: Index) -> String {
        format!("{}/{index}", plan::app::group_name(revision))
    }

    /// The Revision and index of a seat's text.
    pub fn parse_unit(unit: &str) -> Option<(u32, Index)> {
        let (revision, index) = unit.strip_prefix('r')?.split_once('/')?;
        Some((revision.parse().ok()?, index.parse().ok()?))
    }
}
