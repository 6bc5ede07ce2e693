//! The observer: asks the engine what changed, keeps it at hand for the planners, and tells them whom it
//! concerns. Nodes go into the database.

use super::{Control, ControlError, node_reports};
use base::Span;
use engine::{Cursor, Observation};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long the engine may hold a question before it answers that nothing changed.
const WAIT: Span = Span::from_secs(5);
/// How often it is looked which nodes are silent for too long, also while the engine says nothing.
const FENCE_EVERY: Duration = Duration::from_secs(1);
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
    let mut fencing = tokio::time::interval(FENCE_EVERY.min(control.node_lost_after.as_std() / 2));
    loop {
        // What a fenced node holds is known only from an observation of everything.
        let from = cursor.filter(|_| !control.hearing.must_list());
        let seen = tokio::select! {
            seen = control.engine.observe(from, WAIT) => seen,
            _ = fencing.tick() => {
                fence(&control);
                continue;
            }
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

/// Gives up nodes that are silent for too long: whoever had replicas there is looked at.
fn fence(control: &Control) {
    for node in control
        .hearing
        .fence(control.node_lost_after, Instant::now())
    {
        tracing::warn!(
            node,
            after = %control.node_lost_after,
            "a node does not answer; it is fenced"
        );
        for uid in control.sights.fence(&node) {
            match control.kinds.of(uid) {
                Some(super::OwnerKind::Job) => control.jobs.add(uid),
                Some(super::OwnerKind::App) => control.apps.add(uid),
                // Kubernetes itself removes pods of a node that is lost.
                Some(super::OwnerKind::Pods) => {}
                // Nobody's: there is no row to release.
                None => {}
            }
        }
    }
}

async fn take(control: &Control, observation: &Observation) -> Result<(), ControlError> {
    let mut missing = observation.nodes_gone.clone();
    if observation.complete {
        let nodes = observation.nodes.iter();
        let listed: HashSet<&str> = nodes.map(|node| node.name.as_str()).collect();
        let known = node_reports::names(control).await?;
        missing.extend(
            known
                .into_iter()
                .filter(|name| !listed.contains(name.as_str())),
        );
    }
    node_reports::write(control, &observation.nodes).await?;
    for name in &missing {
        node_reports::missing(control, name).await?;
    }
    control.foreign.observe(observation);
    let changed = control.sights.observe(observation);
    control.hearing.observed(
        &observation.nodes,
        &missing,
        observation.complete,
        Instant::now(),
    );
    // A uid belongs to a Job or to an App: the other's controller finds nothing and forgets it.
    for uid in changed {
        match control.kinds.of(uid) {
            Some(super::OwnerKind::Job) => control.jobs.add(uid),
            Some(super::OwnerKind::App) => control.apps.add(uid),
            // They have no replicas.
            Some(super::OwnerKind::Pods) => {}
            None => control.adopt(uid).await?,
        }
    }
    Ok(())
}
