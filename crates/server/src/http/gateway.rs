//! The gateway's feed: the whole route table as server-sent events, sent anew when it changes.

use super::{Known, Refusal, Shared};
use crate::auth::{Verb, authorize};
use crate::usecase::route_table;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;

/// Changes that come together are sent together.
const COALESCE: Duration = Duration::from_millis(20);
/// A table is compared at least this often.
const PERIOD: Duration = Duration::from_millis(500);

pub(crate) async fn feed(
    State(platform): Shared,
    Known(caller): Known,
) -> Result<Response, Refusal> {
    authorize(&caller.actor, Verb::Administer, "")
        .map_err(|error| Refusal(error, caller.request.clone()))?;
    let start = (platform, None::<serde_json::Value>);
    let events = stream::unfold(start, |(platform, mut sent)| async move {
        let mut head = platform.db.head();
        loop {
            match route_table::snapshot(&platform).await {
                Ok(table) if sent.as_ref() != Some(&table) => {
                    let event = Event::default().json_data(&table).ok()?;
                    sent = Some(table);
                    return Some((Ok::<Event, Infallible>(event), (platform, sent)));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the route table now"
                ),
            }
            tokio::select! {
                changed = head.changed() => changed.ok()?,
                () = platform.routes.wait(PERIOD) => {}
                () = platform.stop.cancelled() => return None,
            }
            tokio::time::sleep(COALESCE).await;
        }
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
        .into_response())
}
