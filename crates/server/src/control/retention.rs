//! Forgets what is beyond its bounds, a little at a time: feed entries, events, answered requests; and hours of
//! output.

use super::{Control, ControlError};
use db::{DbError, access, events, feed};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(60);
/// Rows of each table that one transaction forgets.
const STEP: u32 = 5_000;

/// The loop.
pub async fn run(control: Arc<Control>, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = stop.cancelled() => break,
        }
        if let Err(error) = forget(&control).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot forget old rows now"
            );
        }
    }
}

async fn forget(control: &Control) -> Result<(), ControlError> {
    let forgotten: Result<u64, DbError> = control
        .db
        .write(Some(control.epoch), |tx| {
            Box::pin(async move {
                let mut n = feed::forget(tx, STEP).await?;
                n += events::forget(tx, STEP).await?;
                n += access::forget(tx, STEP).await?;
                Ok(n)
            })
        })
        .await;
    let n = forgotten?;
    if n > 0 {
        tracing::debug!(rows = n, "forgot old rows");
    }
    let (logs, bounds) = (control.logs.clone(), control.log_bounds);
    let forget = move || logs.forget(bounds.kept.as_std(), bounds.bytes.0);
    match tokio::task::spawn_blocking(forget).await {
        Ok(Ok((0, _))) => {}
        Ok(Ok((hours, bytes))) => tracing::info!(hours, bytes, "dropped old output"),
        Ok(Err(error)) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "old output cannot be dropped now"
        ),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
    Ok(())
}
