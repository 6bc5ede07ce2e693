//! Bytes to and from the store: code, outputs, models.

use crate::error::ClientError;
use crate::http::{Client, SILENCE_MAX};
use crate::objects::path;
use api::answer::Blob;
use api::kind::Kind;
use api::routes::Method;
use base::{Code, Digest};
use futures_util::TryStreamExt;
use reqwest::{Body, Response};
use std::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

/// Bytes of one piece of an upload.
const PIECE: usize = 256 << 10;

/// Told how many bytes have gone, in all.
pub type Progress = Box<dyn FnMut(u64) + Send + Sync>;

impl Client {
    /// Whether content is kept.
    pub async fn has_blob(&self, project: &str, digest: &Digest) -> Result<bool, ClientError> {
        let digest = digest.to_string();
        match self
            .done(self.request(Method::Head, &["v1", "projects", project, "blobs", &digest]))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Code::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a file. With a digest, other content is refused.
    pub async fn upload(
        &self,
        project: &str,
        file: &Path,
        digest: Option<&Digest>,
        mut progress: Progress,
    ) -> Result<Blob, ClientError> {
        let local = |source| ClientError::Local {
            what: format!("read `{}`", file.display()),
            source,
        };
        let opened = File::open(file).await.map_err(local)?;
        let size = opened.metadata().await.map_err(local)?.len();
        let mut sent = 0;
        let stream = ReaderStream::with_capacity(opened, PIECE).inspect_ok(move |piece| {
            sent += piece.len() as u64;
            progress(sent);
        });
        let mut request = self
            .request(Method::Put, &["v1", "projects", project, "blobs"])
            .header("Content-Length", size)
            .header("Content-Type", "application/octet-stream")
            .body(Body::wrap_stream(stream));
        if let Some(digest) = digest {
            request = request.query(&[("digest", digest.to_string())]);
        }
        let response = self.good(request).await?;
        response.json().await.map_err(|source| self.failed(source))
    }

    /// Downloads kept content; returns its bytes' number.
    pub async fn download(
        &self,
        project: &str,
        digest: &Digest,
        into: impl AsyncWrite + Unpin,
        progress: Progress,
    ) -> Result<u64, ClientError> {
        let digest = digest.to_string();
        let request = self.request(Method::Get, &["v1", "projects", project, "blobs", &digest]);
        self.transfer(self.good(request).await?, into, progress)
            .await
    }

    /// Downloads a Job's output as tar, compressed with zstd; returns its bytes' number.
    pub async fn download_output(
        &self,
        project: &str,
        job: &str,
        output: &str,
        into: impl AsyncWrite + Unpin,
        progress: Progress,
    ) -> Result<u64, ClientError> {
        let mut path = path(Kind::Job, project, Some(job));
        path.extend(["outputs", output]);
        self.transfer(
            self.good(self.request(Method::Get, &path)).await?,
            into,
            progress,
        )
        .await
    }

    async fn transfer(
        &self,
        mut response: Response,
        mut into: impl AsyncWrite + Unpin,
        mut progress: Progress,
    ) -> Result<u64, ClientError> {
        let local = |source| ClientError::Local {
            what: "write what was downloaded".to_owned(),
            source,
        };
        let mut received = 0;
        loop {
            let Ok(chunk) = timeout(SILENCE_MAX.as_std(), response.chunk()).await else {
                return Err(self.not_understood("the download stands still"));
            };
            let Some(chunk) = chunk.map_err(|source| self.failed(source))? else {
                break;
            };
            into.write_all(&chunk).await.map_err(local)?;
            received += chunk.len() as u64;
            progress(received);
        }
        into.flush().await.map_err(local)?;
        Ok(received)
    }
}
