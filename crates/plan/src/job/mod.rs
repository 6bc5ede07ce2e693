//! Jobs: what runs to completion.
//!
//! A Job is made of *restart units*. Each unit has one current attempt, each attempt has one
//! scheduler task, and once that is admitted, its members have placements:
//!
//! ```text
//!   new ──Submit──► waiting ──(admitted)──► placed ──EndAttempt──► next attempt, or done
//!    ▲                │                                              │
//!    └───Withdraw─────┘            backing off ◄─────────────────────┘
//! ```
//! The next attempt exists only after every member of the last was released, so there are never two
//! live attempts of one unit.
//!
//! Read [`input`], then [`output`], then the decisions.

mod decide;
mod input;
mod output;

pub use decide::plan_job;
pub use input::{
    Backoff, FailedRetry, Finished, GroupSpec, Intent, JobInput, JobPhase, JobSpec, MemberState,
    Restart, RetrySpec, Success, SuccessRule, Tally, UnitKey, UnitOutcome, UnitSeats, UnitStage,
    UnitState, unit_seats,
};
pub use output::{JobAction, JobPlan, JobStatusPlan, Then, UnitCounts, UnitFailure};
