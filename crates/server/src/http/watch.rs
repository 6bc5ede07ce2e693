//! Changes as server-sent events: one stream, resumable by its event ids, which are feed positions.

use super::{Known, Refusal, Shared};
use crate::auth::{Actor, Verb, authorize};
use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::wire;
use api::answer::{Change, ChangeOp};
use api::{Kind, Metadata, Object as Wire};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base::Seq;
use db::{Db, events, feed, objects};
use futures_util::stream;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Feed entries read at once.
const BATCH: u32 = 500;
/// A comment is sent this often, so that lost connections are noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Other servers' writes are not announced here.
const PERIOD: Duration = Duration::from_millis(500);

/// Which changes.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) project: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WatchQuery {
    kinds: String,
    project: Option<String>,
    resource_version: Option<u64>,
}

pub(crate) async fn watch(
    State(platform): Shared,
    Known(caller): Known,
    query: Query<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let work = async {
        let words = query
            .kinds
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let kinds = words
            .map(|word| {
                Kind::find(word).ok_or_else(|| {
                    UseError::field("kinds", format!("names `{word}`, which does not exist"))
                })
            })
            .collect::<Result<Vec<Kind>, UseError>>()?;
        let kinds = if kinds.is_empty() {
            Kind::ALL.to_vec()
        } else {
            kinds
        };
        let resumed = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let filter = Filter {
            kinds,
            project: query.project.clone(),
        };
        stream(
            &platform,
            &caller.actor,
            filter,
            resumed.or(query.resource_version),
        )
        .await
    };
    work.await
        .map_err(|error| Refusal(error, caller.request.clone()))
}

struct Follower {
    platform: Arc<Platform>,
    actor: Actor,
    filter: Filter,
    seq: Seq,
    ready: VecDeque<Event>,
}

/// The stream from a position on, or from now.
pub(crate) async fn stream(
    platform: &Arc<Platform>,
    actor: &Actor,
    filter: Filter,
    from: Option<u64>,
) -> Result<Response, UseError> {
    authorize(actor, Verb::Read, filter.project.as_deref().unwrap_or(""))?;
    let seq = match from {
        Some(seq) => {
            // A position that is no longer kept is told before the stream begins.
            feed::since(&platform.db, Seq(seq), 1).await?;
            Seq(seq)
        }
        None => feed::head(&platform.db).await?,
    };
    let follower = Follower {
        platform: Arc::clone(platform),
        actor: actor.clone(),
        filter,
        seq,
        ready: VecDeque::new(),
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<Event, Infallible>(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

impl Follower {
    /// The next event; the stream ends when the client is too far behind and must list again, or the server stops.
    async fn next(&mut self) -> Option<Event> {
        let mut head = self.platform.db.head();
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let changes = match feed::since(&self.platform.db, self.seq, BATCH).await {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::debug!(%error, "a watch ends");
                    return None;
                }
            };
            if changes.is_empty() {
                tokio::select! {
                    changed = head.changed() => changed.ok()?,
                    () = tokio::time::sleep(PERIOD) => {}
                    () = self.platform.stop.cancelled() => return None,
                }
                continue;
            }
            for change in changes {
                self.seq = change.seq;
                if let Some(event) = self.event(&change).await {
                    self.ready.push_back(event);
                }
            }
        }
    }

    async fn event(&self, change: &db::Change) -> Option<Event> {
        let kind = Kind::find(&change.kind)?;
        let wanted = self.filter.kinds.contains(&kind)
            && self
                .filter
                .project
                .as_ref()
                .is_none_or(|project| *project == change.project)
            && authorize(&self.actor, Verb::Read, &change.project).is_ok();
        if !wanted {
            return None;
        }
        let present = if change.op == db::Op::Delete {
            None
        } else {
            shown(&self.platform.db, kind, change).await
        };
        let value = match present {
            Some(object) => Change {
                op: ChangeOp::Put,
                object,
            },
            None => Change {
                op: ChangeOp::Delete,
                object: gone(change),
            },
        };
        Event::default()
            .id(change.seq.to_string())
            .json_data(&value)
            .ok()
    }
}

async fn shown(db: &Db, kind: Kind, change: &db::Change) -> Option<Wire> {
    if kind == Kind::Event {
        return events::read(db, change.uid)
            .await
            .ok()?
            .map(|event| wire::event(&event));
    }
    objects::read_by_uid(db, change.uid)
        .await
        .ok()?
        .map(|object| wire::object(&object))
}

fn gone(change: &db::Change) -> Wire {
    Wire {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: change.kind.clone(),
        metadata: Metadata {
            name: change.name.clone(),
            project: change.project.clone(),
            uid: Some(change.uid),
            resource_version: Some(change.seq.0),
            ..Metadata::default()
        },
        spec: serde_json::Value::Null,
        status: None,
    }
}
