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
//! Read [`input`], then [`output`], then the decisions.

mod decide;
mod input;
mod output;

pub use decide::plan_app;
pub use input::{
    AppInput, DRAIN, PROGRESS_DEADLINE, Progress, RevisionInput, Rollout, SeatStage, SeatState,
    Traffic, group_name,
};
pub use output::{AppAction, AppPhase, AppPlan, AppStatusPlan, RevisionCounts};
