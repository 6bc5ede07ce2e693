//! Keeps the table fresh: reads the server's stream of snapshots, swaps the table whole, and keeps the last
//! snapshot on disk. While the server is away the last table stays.

use crate::table::{Snapshot, Table};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between attempts to reach the server, growing up to the last.
const RETRY: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// The largest snapshot.
const SNAPSHOT_MAX: usize = 64 << 20;
/// The server sends a comment every 2 s; a stream that is silent for longer is dead, and another server is asked.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// Where the table comes from.
#[derive(Clone)]
pub struct Source {
    /// The servers that run now, as `127.0.0.1:7070`; each has the whole table.
    pub servers: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The token to send.
    pub token: String,
    /// Where the last snapshot is kept.
    pub file: PathBuf,
}

/// The table that was kept, if there is one.
pub fn kept(file: &Path) -> Option<Table> {
    let bytes = std::fs::read(file).ok()?;
    let snapshot: Snapshot = serde_json::from_slice(&bytes).ok()?;
    (snapshot.version == 1).then(|| Table::new(snapshot, None))
}

/// Follows the server until `stop`.
pub async fn follow(
    source: Source,
    table: watch::Sender<Option<Arc<Table>>>,
    stop: CancellationToken,
) {
    let (mut failures, mut turn) = (0, 0_usize);
    while !stop.is_cancelled() {
        let servers = (source.servers)();
        let server = servers.get(turn % servers.len().max(1)).cloned();
        turn = turn.wrapping_add(1);
        let server = server.unwrap_or_default();
        let ended = tokio::select! {
            ended = read(&server, &source, &table, &mut failures) => ended,
            () = stop.cancelled() => break,
        };
        tracing::info!(server, reason = %ended, "the feed ended; the table stays as it is");
        let delay = RETRY[failures.min(RETRY.len() - 1)];
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => break,
        }
    }
}

async fn read(
    server: &str,
    source: &Source,
    table: &watch::Sender<Option<Arc<Table>>>,
    failures: &mut usize,
) -> String {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{server}/v1/gateway/feed"))
        .header(header::AUTHORIZATION, format!("Bearer {}", source.token))
        .header(header::ACCEPT, "text/event-stream")
        .body(Empty::new());
    let request = match request {
        Ok(request) => request,
        Err(error) => return format!("the feed's address is wrong: {error}"),
    };
    let response = match client.request(request).await {
        Ok(response) if response.status().is_success() => response,
        Ok(response) => return format!("the server answered {}", response.status()),
        Err(error) => return format!("the server cannot be reached: {error}"),
    };
    let mut body = response.into_body();
    let mut text = Vec::new();
    loop {
        let frame = match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(None) => return "the server closed it".to_owned(),
            Err(_) => return "the server went silent".to_owned(),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        text.extend_from_slice(&data);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            if let Some(snapshot) = snapshot(&event) {
                *failures = 0;
                keep(&source.file, &snapshot);
                table.send_modify(|held| {
                    let fresh = Table::new(snapshot, held.as_deref());
                    tracing::debug!(routes = fresh.len(), "table swapped");
                    *held = Some(Arc::new(fresh));
                });
            }
        }
        if text.len() > SNAPSHOT_MAX {
            return format!("a snapshot has more than {SNAPSHOT_MAX} bytes");
        }
    }
}

/// The snapshot of one server-sent event.
fn snapshot(event: &[u8]) -> Option<Snapshot> {
    let text = std::str::from_utf8(event).ok()?;
    let data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim_start)
        .collect();
    let snapshot: Snapshot = serde_json::from_str(&data.join("\n")).ok()?;
    (snapshot.version == 1).then_some(snapshot)
}

/// Written beside its place and renamed: a crash leaves the old one.
fn keep(file: &Path, snapshot: &Snapshot) {
    let draft = file.with_extension("new");
    let written = serde_json::to_vec(snapshot)
        .map_err(std::io::Error::other)
        .and_then(|bytes| std::fs::write(&draft, bytes))
        .and_then(|()| std::fs::rename(&draft, file));
    if let Err(error) = written {
        tracing::warn!(%error, file = %file.display(), "the route table could not be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_comments_are_not() {
        assert!(snapshot(b": heartbeat\n\n").is_none());
        assert!(snapshot(b"data: {\"version\":2,\"routes\":[]}\n\n").is_none());
        assert_eq!(
            snapshot(b"id: 1\ndata: {\"version\":1,\"routes\":[]}\n\n"),
            Some(Snapshot {
                version: 1,
                routes: Vec::new()
            })
        );
    }
}
