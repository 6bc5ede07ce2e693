//! Apps: what serves.
//!
//! An App has Revisions, and each Revision has *seats*. A seat is one replica: it has a scheduler
//! task of its own, and once admitted a placement. The engine restarts what fails in place, so a
//! seat gets a new attempt only when its place is lost.
//!
//! ```text
//!   AddSeat ──► waiting ──(admitted)──► placed ──Drain──► draining ──Stop──► released ──RemoveSeat──► no row
//!                  ▲                       │
//!                Submit ◄── backing off ◄──┴── ReplaceSeat (its node or process was lost)
//! ```
//! Rules, in short:
//! - Seats are added and taken by ready counts, within surge and unavailable (`rollout`).
//! - A seat that lost its place is placed again under the same index, first in its queue. One that the
//!   scheduler evicts is drained and goes; the count then asks for a new one, which queues.
//! - The target is promoted once all its replicas were ready at once while it takes all traffic. If it
//!   makes no progress (one more ready than ever, or a new seat) for the deadline, it is rolled back to the last promoted Revision; without one it
//!   stays, degraded, and goes on trying. Time in which replicas wait for capacity counts.
//! - A drained seat is out of the feed first, then waits `drain`, then is asked to stop.
//!
//! Read `input`, then `output`, then `decide`.

mod input;
mod output;

mod decide;
mod rollout;
mod status;
mod view;

pub use decide::plan_app;
pub use input::{
    AppInput, DRAIN, PROGRESS_DEADLINE, Progress, RevisionInput, Rollout, SeatStage, SeatState,
    Traffic, group_name,
};
pub use output::{AppAction, AppPhase, AppPlan, AppStatusPlan, RevisionCounts};
