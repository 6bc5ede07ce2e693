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
//! Rules, in short (each has its place in the files below):
//! - A gang starts all or nothing: nothing is ensured before every seat is there.
//! - Capacity comes back on an observed end or a fenced node, never on a decision.
//! - A gang stops as soon as its success is decided or cannot be reached any more. A member's failure
//!   takes the gang along; with the rule `any`, deciding members may fall one by one.
//! - Indexes of an array fail by themselves, as Kubernetes' `backoffLimitPerIndex` has it: the others
//!   run to their end, and the Job fails after all if one index did. `failed_max` ends it sooner, as
//!   `maxFailedIndexes` does.
//! - Failures are charged by cause ([`RetrySpec`]); what is nobody's fault is bounded by [`FAULTS_MAX`].
//! - A success that is decided stands, whatever is asked afterwards.
//!
//! Read `input`, then `output`, then `decide` with `gang`, `elastic` and `array`; `judge` and
//! `retry` hold the judgements.

mod input;
mod output;

mod array;
mod decide;
mod draft;
mod elastic;
mod ensure;
mod gang;
mod judge;
mod retry;
mod status;
mod view;

pub use decide::plan_job;
pub use input::{
    Backoff, FailedRetry, Finished, GroupSpec, Intent, JobInput, JobPhase, JobSpec, MemberState,
    NotAUnit, Restart, RetrySpec, Success, SuccessRule, Tally, UnitKey, UnitOutcome, UnitSeats,
    UnitStage, UnitState, unit_seats,
};
pub use output::{
    FAILURES_SHOWN_MAX, JobAction, JobPlan, JobStatusPlan, Then, UnitCounts, UnitFailure,
};
pub(crate) use retry::backoff;
pub use retry::{BACKOFF_BASE, BACKOFF_CAP, FAULTS_MAX, STEADY_RUN, describe};
