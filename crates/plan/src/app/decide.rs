//! provisional
use super::*;
use base::Time;
/// Decides what happens next for an App.
pub fn plan_app(input: &AppInput, _now: Time) -> AppPlan {
    AppPlan {
        actions: Vec::new(),
        status: AppStatusPlan {
            phase: AppPhase::Progressing,
            reason: crate::Reason::new(crate::ReasonCode::RollingOut, "rolls out"),
            ready: 0,
            revisions: Default::default(),
            progress: input.progress,
            last_failure: None,
        },
        wake: None,
    }
}
