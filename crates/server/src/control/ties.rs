//! What Jobs keep between attempts ties them to nodes: the engine is asked when an attempt begins to wait for its place.

use super::Control;
use super::job_context::JobContext;
use super::rows::JobRows;
use engine::EngineError;
use plan::{Restart, Stage, UnitKey};

/// Adds what the engine says to the wishes of a unit's task.
pub fn tie(control: &Control, context: &JobContext, unit: &UnitKey, task: &mut sched::TaskSpec) {
    let Some(keeps) = context.keeps(unit) else {
        return;
    };
    // What is refused was said by `refused`, of the Job as a whole.
    let ties = control.engine.ties(&keeps).unwrap_or_default();
    for group in &mut task.groups {
        group.node_selector.extend(ties.clone());
    }
}

/// Why what a Job wants to keep cannot be kept, where nothing of it was tried yet.
pub fn refused(control: &Control, context: &JobContext, rows: &JobRows) -> Option<String> {
    let is_untried = rows.units.values().all(|unit| unit.task().is_none());
    let holds_nothing = rows
        .placements
        .iter()
        .all(|placement| matches!(placement.stage, Stage::Released(_)));
    if !is_untried || !holds_nothing {
        return None;
    }
    let unit = match context.spec.restart {
        Restart::Index { .. } => UnitKey::Index(base::Index(0)),
        Restart::Gang | Restart::Rank => UnitKey::Gang,
    };
    match control.engine.ties(&context.keeps(&unit)?) {
        Err(error @ EngineError::Unsupported { .. }) => Some(error.to_string()),
        // Whatever else it says will be said again.
        Ok(_) | Err(_) => None,
    }
}
