//! Desired and observed state in, groups and actions out; pure.
//!
//! `plan` decides what happens next for one Job ([`plan_job`]) or one App ([`plan_app`]). It reads
//! rows and observations that the caller collected, and answers with data: actions that are named by
//! (uid, group, index, attempt), may be repeated, and can be shown to people. It has no clock, no
//! input and no output, and it remembers nothing: whatever must survive is in a row that an action
//! wrote. So a caller that dies anywhere simply asks again.
//!
//! What it deliberately does not do: choose nodes (`sched`), start programs (`engine`), restart a
//! service in place (the engine does, see [`engine::Life`]), or speak to a database (`server`).
//!
//! Start with [`slot`] (what a seat can look like), then [`job`] and [`app`]; [`preset`] knows what
//! each framework's launcher wants to find in its environment.
//!
//! The caller performs a plan's actions in order and stops at the first that fails. After a plan
//! with actions it plans again; a plan without actions says when to look again ([`JobPlan::wake`]).

pub mod app;
pub mod job;
pub mod preset;
pub mod reason;
pub mod slot;

pub use app::{
    AppAction, AppInput, AppPhase, AppPlan, AppStatusPlan, Progress, RevisionCounts, RevisionInput,
    Rollout, SeatStage, SeatState, Traffic, plan_app,
};
pub use job::{
    Backoff, FailedRetry, Finished, GroupSpec, Intent, JobAction, JobInput, JobPhase, JobPlan,
    JobSpec, JobStatusPlan, MemberState, Restart, RetrySpec, Success, SuccessRule, Tally, Then,
    UnitCounts, UnitFailure, UnitKey, UnitOutcome, UnitSeats, UnitStage, UnitState, plan_job,
    unit_seats,
};
pub use preset::{Framework, PortNeed};
pub use reason::{Reason, ReasonCode};
pub use slot::{Placement, Seen, Sight, SlotEnd, Stage, decisive};
