//! Bytes: logs of replicas, outputs of Jobs, uploads.

use super::{Known, Refusal, Shared};
use crate::auth::{Verb, authorize};
use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::{Caller, content, read};
use api::Kind;
use api::answer::{Blob, LogFrame, LogStream};
use api::job::JobStatus;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base::{Digest, Span, Time, Uid};
use futures_util::{StreamExt, TryStreamExt, stream};
use logs::{Logs, Position, ReplicaLog};
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use store::TenantPath;

/// Bytes of content sent at once.
const PIECE: usize = 64 << 10;
/// Lines of `tail` at most.
const TAIL_MAX: usize = 100_000;
/// While following, new replicas and the object's end are looked for after this: a program that just wrote often ends …
const PERIOD: Duration = Duration::from_millis(20);
/// … and then less and less often, while nothing is written.
const PERIOD_MAX: Duration = Duration::from_millis(250);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LogQuery {
    group: Option<String>,
    index: Option<u32>,
    attempt: Option<u32>,
    previous: bool,
    follow: bool,
    tail: Option<usize>,
    since: Option<String>,
    timestamps: bool,
    prefix: bool,
    format: Option<String>,
}

pub(crate) async fn job_logs(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Path<(String, String)>,
    query: Query<LogQuery>,
) -> Result<Response, Refusal> {
    let logs = logs_of(platform, &caller, Kind::Job, &project, &name, query.0).await;
    logs.map_err(|error| Refusal(error, caller.request))
}

pub(crate) async fn app_logs(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name)): Path<(String, String)>,
    query: Query<LogQuery>,
) -> Result<Response, Refusal> {
    let logs = logs_of(platform, &caller, Kind::App, &project, &name, query.0).await;
    logs.map_err(|error| Refusal(error, caller.request))
}

async fn logs_of(
    platform: Arc<Platform>,
    caller: &Caller,
    kind: Kind,
    project: &str,
    name: &str,
    query: LogQuery,
) -> Result<Response, UseError> {
    let object = read::stored(&platform, &caller.actor, kind, project, name).await?;
    let since = query
        .since
        .as_deref()
        .map(|text| since(text, platform.clock.now()))
        .transpose()?;
    let json = match query.format.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            return Err(UseError::field(
                "format",
                format!("is `{other}`; choose `text` or `json`"),
            ));
        }
    };
    let mut reader = Reader {
        logs: platform.logs.clone(),
        platform,
        project: project.to_owned(),
        owner: object.uid,
        query,
        since,
        json,
        positions: BTreeMap::new(),
        lines: VecDeque::new(),
        ended: false,
        partial: BTreeMap::new(),
    };
    reader
        .fill()
        .map_err(|source| UseError::internal("logs cannot be read", source))?;
    if let Some(tail) = reader.query.tail {
        let extra = reader.lines.len().saturating_sub(tail.min(TAIL_MAX));
        reader.lines.drain(..extra);
    }
    let media = if json {
        "application/x-ndjson"
    } else {
        "text/plain; charset=utf-8"
    };
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<Bytes, std::io::Error>(chunk), reader))
    });
    Ok((
        [
            (header::CONTENT_TYPE, media),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        Body::from_stream(chunks),
    )
        .into_response())
}

fn since(text: &str, now: Time) -> Result<Time, UseError> {
    if let Ok(time) = text.parse::<Time>() {
        return Ok(time);
    }
    let span: Result<Span, _> = text.parse();
    span.map(|span| now - span).map_err(|_| {
        UseError::field(
            "since",
            format!("is `{text}`; write a time or a duration such as `10m`"),
        )
    })
}

/// Reads the logs of an object's replicas, merged by time, as whole lines.
struct Reader {
    platform: Arc<Platform>,
    logs: Logs,
    project: String,
    owner: Uid,
    query: LogQuery,
    since: Option<Time>,
    json: bool,
    positions: BTreeMap<ReplicaLog, Position>,
    lines: VecDeque<Vec<u8>>,
    ended: bool,
    /// The unfinished last line of each replica's stream.
    partial: BTreeMap<(ReplicaLog, logs::Stream), Vec<u8>>,
}

impl Reader {
    /// The next piece of the answer.
    async fn next(&mut self) -> Option<Bytes> {
        let mut changed = self.logs.changed();
        let mut pause = PERIOD;
        loop {
            if !self.lines.is_empty() {
                let all: Vec<u8> = self.lines.drain(..).flatten().collect();
                return Some(Bytes::from(all));
            }
            if self.ended {
                let rest = self.rest();
                return (!rest.is_empty()).then(|| Bytes::from(rest));
            }
            // The order matters: what was written before the end was seen is read after it.
            let over = !self.query.follow || self.is_over().await;
            if let Err(error) = self.fill() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "logs cannot be read on"
                );
                return None;
            }
            self.ended = over;
            if self.lines.is_empty() && !over {
                tokio::select! {
                    changed = changed.changed() => changed.ok()?,
                    () = tokio::time::sleep(pause) => pause = PERIOD_MAX.min(pause * 2),
                    () = self.platform.stop.cancelled() => return None,
                }
            }
        }
    }

    async fn is_over(&self) -> bool {
        match db::objects::read_by_uid(&self.platform.db, self.owner).await {
            Ok(Some(object)) => object.finished_at.is_some(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Unfinished last lines, at the end.
    fn rest(&mut self) -> Vec<u8> {
        let partial = std::mem::take(&mut self.partial);
        let time = self.platform.clock.now();
        partial
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .flat_map(|((log, _), text)| self.line(&log, time, &text))
            .collect()
    }

    fn fill(&mut self) -> Result<(), logs::LogError> {
        let mut fresh = Vec::new();
        for log in self.wanted()? {
            let from = self.positions.get(&log).copied().unwrap_or_default();
            let (frames, to) = self.logs.read(&self.project, &log, from)?;
            self.positions.insert(log.clone(), to);
            let since = self.since;
            // Within a replica the order is that of numbers, also where the machine's clock was set back.
            let mut latest = Time::from_ms(i64::MIN);
            for frame in frames {
                latest = latest.max(frame.time);
                if since.is_none_or(|at| frame.time >= at) {
                    fresh.push((latest, log.clone(), frame));
                }
            }
        }
        // Between replicas by time.
        fresh.sort_by_key(|(time, _, _)| *time);
        for (_, log, frame) in fresh {
            if self.json {
                self.lines.push_back(json_line(&log, &frame));
                continue;
            }
            let key = (log.clone(), frame.stream);
            let mut text = self.partial.remove(&key).unwrap_or_default();
            text.extend(&frame.bytes);
            let mut pieces = text.split(|byte| *byte == b'\n').peekable();
            let mut lines = Vec::new();
            let mut last = Vec::new();
            while let Some(piece) = pieces.next() {
                if pieces.peek().is_some() {
                    lines.push(self.line(&log, frame.time, piece));
                } else {
                    last = piece.to_vec();
                }
            }
            self.lines.extend(lines);
            self.partial.insert(key, last);
        }
        Ok(())
    }

    /// The logs that the query is about: of each replica the newest attempt, unless it says otherwise.
    fn wanted(&self) -> Result<Vec<ReplicaLog>, logs::LogError> {
        let query = &self.query;
        let all = self.logs.replicas(&self.project, self.owner)?;
        let of_query = all.into_iter().filter(|log| {
            query.group.as_ref().is_none_or(|group| *group == log.group)
                && query.index.is_none_or(|index| index == log.index.0)
        });
        let mut by_replica: BTreeMap<(String, u32), Vec<ReplicaLog>> = BTreeMap::new();
        for log in of_query {
            by_replica
                .entry((log.group.clone(), log.index.0))
                .or_default()
                .push(log);
        }
        let mut wanted = Vec::new();
        for mut attempts in by_replica.into_values() {
            attempts.sort_by_key(|log| log.attempt);
            let back = usize::from(query.previous);
            match query.attempt {
                Some(attempt) => {
                    wanted.extend(attempts.into_iter().filter(|log| log.attempt.0 == attempt))
                }
                // A follower stays with what it began: an older attempt's last lines come before the newer one's.
                None if query.follow => {
                    let begun = attempts
                        .iter()
                        .position(|log| self.positions.contains_key(log));
                    let from = begun.unwrap_or(attempts.len().saturating_sub(1));
                    wanted.extend(attempts.into_iter().skip(from));
                }
                None => wanted.extend(
                    attempts
                        .len()
                        .checked_sub(1 + back)
                        .map(|at| attempts.swap_remove(at)),
                ),
            }
        }
        Ok(wanted)
    }

    fn line(&self, log: &ReplicaLog, time: Time, text: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(text.len() + 40);
        if self.query.prefix {
            line.extend(format!("{}/{} | ", log.group, log.index).into_bytes());
        }
        if self.query.timestamps {
            line.extend(format!("{time} ").into_bytes());
        }
        line.extend(text);
        line.push(b'\n');
        line
    }
}

fn json_line(log: &ReplicaLog, frame: &logs::Frame) -> Vec<u8> {
    let value = LogFrame {
        group: log.group.clone(),
        index: log.index.0,
        attempt: log.attempt.0,
        stream: match frame.stream {
            logs::Stream::Stdout => LogStream::Stdout,
            logs::Stream::Stderr => LogStream::Stderr,
            logs::Stream::Note => LogStream::System,
        },
        seq: frame.seq.0,
        time: frame.time,
        text: String::from_utf8_lossy(&frame.bytes).into_owned(),
    };
    let mut line = serde_json::to_vec(&value).expect("a frame is JSON");
    line.push(b'\n');
    line
}

pub(crate) async fn job_output(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, name, output)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let work = async {
        let object = read::stored(&platform, &caller.actor, Kind::Job, &project, &name).await?;
        let status: JobStatus = serde_json::from_value(object.status).unwrap_or_default();
        let found = status.outputs.iter().find(|kept| kept.name == output);
        let kept = found.ok_or_else(|| UseError::not_found("Output", &project, &output))?;
        blob(&platform, &project, &kept.digest, "application/zstd").await
    };
    work.await
        .map_err(|error: UseError| Refusal(error, caller.request.clone()))
}

pub(crate) async fn get_blob(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, digest)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let work = async {
        authorize(&caller.actor, Verb::Read, &project)?;
        let digest: Digest = digest
            .parse()
            .map_err(|error: base::id::NotADigest| UseError::field("digest", error.to_string()))?;
        blob(&platform, &project, &digest, "application/octet-stream").await
    };
    work.await
        .map_err(|error: UseError| Refusal(error, caller.request.clone()))
}

/// Says whether content can be had, and keeps it for a while: its next holder is about to come.
pub(crate) async fn head_blob(
    State(platform): Shared,
    Known(caller): Known,
    Path((project, digest)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let work = async {
        authorize(&caller.actor, Verb::Read, &project)?;
        let digest: Digest = digest
            .parse()
            .map_err(|error: base::id::NotADigest| UseError::field("digest", error.to_string()))?;
        if !content::touch(&platform.db, &project, digest).await? {
            let missing = content::from_store(store::StoreError::Missing(digest));
            return Err(missing);
        }
        let tenant = TenantPath::new(&project).map_err(content::from_store)?;
        let size = platform.store.size(&tenant, &digest).await;
        let size = size.map_err(content::from_store)?;
        Ok([(header::CONTENT_LENGTH, size.to_string())].into_response())
    };
    work.await
        .map_err(|error: UseError| Refusal(error, caller.request.clone()))
}

async fn blob(
    platform: &Platform,
    project: &str,
    digest: &Digest,
    media: &str,
) -> Result<Response, UseError> {
    let tenant = TenantPath::new(project).map_err(content::from_store)?;
    let read = platform.store.read(&tenant, digest).await;
    let (size, reader) = read.map_err(content::from_store)?;
    // Damaged content breaks the answer off at its end: the client sees that something is missing.
    let body = Body::from_stream(tokio_util::io::ReaderStream::with_capacity(reader, PIECE));
    let headers = [
        (header::CONTENT_TYPE, media.to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
    ];
    Ok((headers, body).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BlobQuery {
    digest: Option<String>,
}

pub(crate) async fn put_blob(
    State(platform): Shared,
    Known(caller): Known,
    Path(project): Path<String>,
    query: Query<BlobQuery>,
    request: Request,
) -> Result<Json<Blob>, Refusal> {
    let work = async {
        authorize(&caller.actor, Verb::Write, &project)?;
        let wanted = match &query.digest {
            Some(text) => Some(text.parse().map_err(|error: base::id::NotADigest| {
                UseError::field("digest", error.to_string())
            })?),
            None => None,
        };
        let size = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = request
            .into_body()
            .into_data_stream()
            .map_err(std::io::Error::other)
            .boxed();
        let reader = tokio_util::io::StreamReader::new(bytes);
        let (db, store) = (&platform.db, &platform.store);
        let kept = content::put(db, store, &project, reader, size, wanted).await?;
        Ok(Blob {
            digest: kept.digest,
            size: kept.size,
        })
    };
    work.await
        .map(Json)
        .map_err(|error: UseError| Refusal(error, caller.request.clone()))
}
