//! The observer: asks the engine what changed, keeps it at hand for the planners, and tells them whom it
//! concerns. Nodes go into the database.

use super::{Control, ControlError, platform_objects};
use base::Span;
use engine::{Cursor, Observation};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the engine may hold a question before it answers that nothing changed.
const WAIT: Span = Span::from_secs(5);
/// After a failed question.
const FAILED_DELAY: Duration = Duration::from_millis(500);

/// Asks for everything once, before anything is planned.
pub async fn first(control: &Control) -> Result<Cursor, ControlError> {
    let observation = control.engine.observe(None, Span::ZERO).await?;
    take(control, &observation).await?;
    Ok(observation.cursor)
}

/// The loop.
pub async fn run(control: Arc<Control>, first: Cursor, stop: CancellationToken) {
    let mut cursor = Some(first);
    loop {
        let seen = tokio::select! {
            seen = control.engine.observe(cursor, WAIT) => seen,
            () = stop.cancelled() => break,
        };
        let taken = match seen {
            Ok(observation) => take(&control, &observation)
                .await
                .map(|()| observation.cursor),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(next) => cursor = Some(next),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot observe the engine now"
                );
                // What was in the lost answer is asked for again.
                cursor = None;
                tokio::select! {
                    () = tokio::time::sleep(FAILED_DELAY) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
    }
}

async fn take(control: &Control, observation: &Observation) -> Result<(), ControlError> {
    for node in &observation.nodes {
        platform_objects::node_reported(control, node).await?;
    }
    let changed = control.sights.observe(observation);
    // A uid belongs to a Job or to an App: the other's controller finds nothing and forgets it.
    for uid in changed {
        match control.kinds.of(uid) {
            Some(super::OwnerKind::Job) => control.jobs.add(uid),
            Some(super::OwnerKind::App) => control.apps.add(uid),
            None => control.adopt(uid).await?,
        }
    }
    Ok(())
}
