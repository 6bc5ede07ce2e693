//! Output of replicas, line by line or as frames.

use crate::error::ClientError;
use crate::http::{Client, SILENCE_MAX};
use crate::objects::about;
use crate::sse::Parser;
use api::answer::LogFrame;
use api::kind::Kind;
use api::routes::Method;
use std::collections::VecDeque;
use tokio::time::timeout;

/// Which output.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// The group, or the Revision (`r3`) of an App.
    pub group: Option<String>,
    /// The rank or seat.
    pub index: Option<u32>,
    /// Which try.
    pub attempt: Option<u32>,
    /// The try before the newest.
    pub previous: bool,
    /// Stay until the object is over.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u32>,
    /// Only after this time, or within this duration.
    pub since: Option<String>,
}

/// Frames of output as they come.
#[derive(Debug)]
pub struct Logs {
    client: Client,
    response: reqwest::Response,
    parser: Parser,
    ready: VecDeque<LogFrame>,
    done: bool,
}

impl Client {
    /// Opens the output of a Job's or an App's replicas as frames.
    pub async fn logs(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
        query: &LogQuery,
    ) -> Result<Logs, ClientError> {
        let mut request = self
            .request(Method::Get, &about(kind, project, name, "logs"))
            .header("Accept", "text/event-stream")
            .query(&[("follow", query.follow), ("previous", query.previous)])
            .query(&[("format", "json")]);
        let words = [
            ("group", query.group.as_deref()),
            ("since", query.since.as_deref()),
        ];
        for (name, value) in words {
            if let Some(value) = value {
                request = request.query(&[(name, value)]);
            }
        }
        for (name, value) in [
            ("index", query.index),
            ("attempt", query.attempt),
            ("tail", query.tail),
        ] {
            if let Some(value) = value {
                request = request.query(&[(name, value)]);
            }
        }
        let response = self.good(request).await?;
        Ok(Logs {
            client: self.clone(),
            response,
            parser: Parser::default(),
            ready: VecDeque::new(),
            done: false,
        })
    }
}

impl Logs {
    /// The next frame; `None` at the end. It may be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<LogFrame>, ClientError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            if self.done {
                return Ok(None);
            }
            let Ok(chunk) = timeout(SILENCE_MAX.as_std(), self.response.chunk()).await else {
                return Err(self.client.not_understood("no sign of life on the stream"));
            };
            let Some(chunk) = chunk.map_err(|source| self.client.failed(source))? else {
                self.done = true;
                continue;
            };
            let mut events = Vec::new();
            self.parser
                .push(&chunk, &mut events)
                .map_err(|error| self.client.not_understood(error))?;
            for event in events {
                if event.event == "end" {
                    self.done = true;
                    continue;
                }
                let frame = serde_json::from_str(&event.data)
                    .map_err(|error| self.client.not_understood(error))?;
                self.ready.push_back(frame);
            }
        }
    }
}
