//! provisional
use super::*;
use base::Time;
/// Decides what happens next for a Job.
pub fn plan_job(input: &JobInput, _now: Time) -> JobPlan {
    JobPlan {
        actions: Vec::new(),
        status: JobStatusPlan {
            phase: JobPhase::Queued,
            reason: crate::Reason::new(crate::ReasonCode::WaitingForCapacity, "waits"),
            started: input.started,
            units: UnitCounts::default(),
            failures: Vec::new(),
        },
        wake: None,
    }
}
