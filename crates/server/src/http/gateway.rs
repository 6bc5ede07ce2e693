//! The gateway's feed: the whole route table as server-sent events, sent anew when it changes.

use super::{Known, Refusal, Shared};
use crate::auth::{Verb, authorize};
use crate::platform::Platform;
use crate::usecase::route_table;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base::Seq;
use db::feed as changes;
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Changes that come together are sent together.
const COALESCE: Duration = Duration::from_millis(20);
/// Other servers' writes are not announced here: the feed is looked at this often.
const PERIOD: Duration = Duration::from_millis(500);
/// Tokens end by themselves and are revoked on other servers: the table is made anew at least this often.
const RENEW: Duration = Duration::from_secs(5);
/// Feed entries looked at once; where there are more, the table is made anew.
const BATCH: u32 = 500;

/// What a gateway has been sent, and up to where the feed is known not to concern it.
struct Follower {
    platform: Arc<Platform>,
    sent: Option<serde_json::Value>,
    seq: Seq,
    routes: watch::Receiver<u64>,
}

pub(crate) async fn feed(
    State(platform): Shared,
    Known(caller): Known,
) -> Result<Response, Refusal> {
    authorize(&caller.actor, Verb::Administer, "")
        .map_err(|error| Refusal(error, caller.request.clone()))?;
    let start = Follower {
        routes: platform.routes.subscribe(),
        platform,
        sent: None,
        seq: Seq(0),
    };
    let events = stream::unfold(start, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<Event, Infallible>(event), follower))
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(2)))
        .into_response())
}

impl Follower {
    /// The next table that differs from the last; `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            // The position first: what is written while the table is made is looked at afterwards.
            let seq = *self.platform.db.head().borrow();
            match route_table::snapshot(&self.platform).await {
                Ok(table) if self.sent.as_ref() != Some(&table) => {
                    let event = Event::default().json_data(&table).ok()?;
                    self.seq = seq;
                    self.sent = Some(table);
                    return Some(event);
                }
                Ok(_) => self.seq = seq,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the route table now"
                ),
            }
            self.wait().await?;
        }
    }

    /// Until the table may differ.
    async fn wait(&mut self) -> Option<()> {
        let renew = Instant::now() + RENEW;
        let mut head = self.platform.db.head();
        loop {
            let poked = tokio::select! {
                changed = head.changed() => { changed.ok()?; false }
                () = tokio::time::sleep(PERIOD) => false,
                changed = self.routes.changed() => { changed.ok()?; true }
                () = self.platform.stop.cancelled() => return None,
            };
            tokio::time::sleep(COALESCE).await;
            if poked || Instant::now() >= renew || self.concerns().await {
                return Some(());
            }
        }
    }

    /// Whether the feed tells of an App since the last look.
    async fn concerns(&mut self) -> bool {
        match changes::since(&self.platform.db, self.seq, BATCH).await {
            Ok(changes) => {
                self.seq = changes.last().map_or(self.seq, |last| last.seq);
                changes.len() >= BATCH as usize || changes.iter().any(|change| change.kind == "App")
            }
            // Too far behind, or the database is away: making the table says which.
            Err(_) => true,
        }
    }
}
