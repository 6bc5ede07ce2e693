//! Changes as they happen, resumed after a break.

use crate::error::ClientError;
use crate::http::{Client, SILENCE_MAX};
use crate::sse::Parser;
use api::answer::Change;
use api::kind::Kind;
use api::routes::Method;
use base::{Code, Span};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The first pause after a break; it doubles up to [`PAUSE_MAX`].
const PAUSE: Span = Span::from_ms(200);
const PAUSE_MAX: Span = Span::from_secs(5);

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchQuery {
    /// Only these kinds; empty means all.
    pub kinds: Vec<Kind>,
    /// Only this project.
    pub project: Option<String>,
    /// Begin after this feed position; `None` begins now.
    pub from: Option<u64>,
}

/// A stream of changes. It reconnects by itself while the server is away; what it cannot heal (a position
/// that is no longer kept: [`Code::Gone`]; a refusal) it returns.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    query: WatchQuery,
    response: Option<reqwest::Response>,
    parser: Parser,
    ready: VecDeque<(u64, Change)>,
    pause: Span,
}

impl Client {
    /// Opens a stream of changes; nothing is sent before [`Watch::next`].
    pub fn watch(&self, query: WatchQuery) -> Watch {
        Watch {
            client: self.clone(),
            query,
            response: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            pause: PAUSE,
        }
    }
}

impl Watch {
    /// The next change. It may be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> Result<Change, ClientError> {
        loop {
            if let Some((position, change)) = self.ready.pop_front() {
                self.query.from = Some(position);
                self.pause = PAUSE;
                return Ok(change);
            }
            match self.read().await {
                Ok(()) => {}
                Err(error) if matches!(error.code(), Code::Unavailable | Code::Timeout) => {
                    self.response = None;
                    let pause = self.pause;
                    self.pause = Span::from_ms((pause.as_ms() * 2).min(PAUSE_MAX.as_ms()));
                    sleep(pause.as_std()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what comes next into `ready`; connects first where needed.
    async fn read(&mut self) -> Result<(), ClientError> {
        let Some(response) = &mut self.response else {
            self.response = Some(self.connect().await?);
            self.parser = Parser::default();
            return Ok(());
        };
        let silence: Duration = SILENCE_MAX.as_std();
        let chunk = match timeout(silence, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|source| self.client.failed(source))?,
            // As if it had ended: connect anew.
            Err(_) => None,
        };
        let Some(chunk) = chunk else {
            self.response = None;
            sleep(self.pause.as_std()).await;
            return Ok(());
        };
        let mut events = Vec::new();
        self.parser
            .push(&chunk, &mut events)
            .map_err(|error| self.client.not_understood(error))?;
        for event in events {
            let position = event
                .id
                .parse()
                .map_err(|_| self.client.not_understood("an event without a position"))?;
            let change = serde_json::from_str(&event.data)
                .map_err(|error| self.client.not_understood(error))?;
            self.ready.push_back((position, change));
        }
        Ok(())
    }

    async fn connect(&self) -> Result<reqwest::Response, ClientError> {
        let mut request = self
            .client
            .request(Method::Get, &["v1", "watch"])
            .header("Accept", "text/event-stream");
        if !self.query.kinds.is_empty() {
            let kinds: Vec<&str> = self.query.kinds.iter().map(|kind| kind.as_str()).collect();
            request = request.query(&[("kinds", kinds.join(","))]);
        }
        if let Some(project) = &self.query.project {
            request = request.query(&[("project", project)]);
        }
        if let Some(from) = self.query.from {
            request = request.query(&[("resourceVersion", from)]);
        }
        self.client.good(request).await
    }
}
