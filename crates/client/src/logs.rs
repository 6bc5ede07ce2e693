//! Output of replicas: as frames to follow, or as text to print.

use crate::error::ClientError;
use crate::http::Client;
use crate::objects::about;
use api::answer::LogFrame;
use api::kind::Kind;
use api::routes::Method;
use reqwest::{RequestBuilder, Response};

/// The most bytes of one frame as JSON.
const FRAME_BYTES_MAX: usize = 8 << 20;

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

/// Frames of output as they come. A quiet program sends none: only the connection's end ends this.
#[derive(Debug)]
pub struct Logs {
    client: Client,
    response: Response,
    buffer: Vec<u8>,
    /// How far the buffer has been searched for the end of a line.
    searched: usize,
}

/// Output as text.
#[derive(Debug)]
pub struct LogText {
    client: Client,
    response: Response,
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
        let request = self
            .log_request(kind, project, name, query)
            .query(&[("format", "json")]);
        let response = self.good(request).await?;
        Ok(Logs {
            client: self.clone(),
            response,
            buffer: Vec::new(),
            searched: 0,
        })
    }

    /// Opens the output of a Job's or an App's replicas as text, merged by time; with `prefix` each line
    /// begins with its replica, with `timestamps` with its time.
    pub async fn log_text(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
        query: &LogQuery,
        prefix: bool,
        timestamps: bool,
    ) -> Result<LogText, ClientError> {
        let request = self
            .log_request(kind, project, name, query)
            .query(&[("prefix", prefix), ("timestamps", timestamps)]);
        Ok(LogText {
            client: self.clone(),
            response: self.good(request).await?,
        })
    }

    fn log_request(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
        query: &LogQuery,
    ) -> RequestBuilder {
        let mut request = self
            .request(Method::Get, &about(kind, project, name, "logs"))
            .query(&[("follow", query.follow), ("previous", query.previous)]);
        for (name, value) in [
            ("group", query.group.as_deref()),
            ("since", query.since.as_deref()),
        ] {
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
        request
    }
}

impl Logs {
    /// The next frame; `None` at the end. It may be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<LogFrame>, ClientError> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.client.not_understood(error));
            }
            self.searched = self.buffer.len();
            if self.searched > FRAME_BYTES_MAX {
                return Err(self.client.not_understood("a frame without end"));
            }
            match self
                .response
                .chunk()
                .await
                .map_err(|source| self.client.failed(source))?
            {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => return Err(self.client.not_understood("the stream ends within a frame")),
            }
        }
    }
}

impl LogText {
    /// The next piece; `None` at the end. It may be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let chunk = self
            .response
            .chunk()
            .await
            .map_err(|source| self.client.failed(source))?;
        Ok(chunk.map(|chunk| chunk.to_vec()))
    }
}
