//! Content in a bucket of an S3 service.
//!
//! ```text
//! <prefix>/projects/<project>/ab/abcd…      content, named by its digest
//! ```
//!
//! An object appears when its upload is complete: one request for small content, a multipart upload for large.
//! What a killed server had uploaded of a large one is not visible; the bucket's lifecycle rule
//! `AbortIncompleteMultipartUpload` frees its space.

use crate::backend::{Backend, BoxFuture, Entry, Reader};
use crate::drafts::Draft;
use crate::error::io;
use crate::{StoreError, TenantPath};
use base::Digest;
use futures_util::{StreamExt, TryStreamExt};
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::services::S3;
use opendal::{ErrorKind, Operator};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::Semaphore;

/// Bytes of one part of a multipart upload; smaller content goes in one request. 10,000 parts, the most that S3
/// allows, are 156 GiB: more than the largest output.
const PART: usize = 16 << 20;
/// Parts of one upload that are under way at once.
const PARTS_AT_ONCE: usize = 2;
/// Uploads at once: with the above at most 192 MiB of memory.
const UPLOADS_AT_ONCE: usize = 4;
/// Bytes of one ranged request when reading.
const READ_PIECE: usize = 8 << 20;
/// The longest that one request may take, and one piece of its body.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Retries of a request that may be repeated: all of ours may. The delay doubles each time.
const RETRIES: usize = 4;
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The most entries of one listing; a part of a project with more is listed again later.
const LIST_MAX: usize = 100_000;

/// Where the bucket is, and who asks. Its `Debug` does not show the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// Before every key, without slashes at the ends; may be empty.
    pub prefix: String,
    /// `https://s3.example.org`; `None` is Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region; `None` takes `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Key id and secret; `None` takes those of the environment: `AWS_ACCESS_KEY_ID` and its like, the profile's
    /// file, the machine's role.
    pub credentials: Option<(String, String)>,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("credentials", &self.credentials.as_ref().map(|_| "hidden"))
            .finish()
    }
}

impl S3Config {
    /// Reads `s3://bucket/prefix`; the rest is left open.
    pub fn parse(location: &str) -> Result<S3Config, StoreError> {
        let refuse = |reason: &str| StoreError::Location {
            location: location.to_owned(),
            reason: reason.to_owned(),
        };
        let rest = location
            .strip_prefix("s3://")
            .ok_or_else(|| refuse("does not begin with `s3://`"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.chars().all(is_good) {
            return Err(refuse(
                "names no bucket: 3 to 63 lower-case letters, digits, `-` and `.` after `s3://`",
            ));
        }
        let prefix = prefix.trim_matches('/');
        let is_plain = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if !prefix.is_empty() && !prefix.split('/').all(is_plain) {
            return Err(refuse(
                "has a prefix of other characters than letters, digits, `-`, `_`, `.` and `/`",
            ));
        }
        Ok(S3Config {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: None,
            credentials: None,
        })
    }
}

/// A bucket of a service; without a region it is in `us-east-1`, without an endpoint Amazon's.
pub(crate) fn service(bucket: &str, region: Option<&str>, endpoint: Option<&str>) -> S3 {
    prepare();
    let builder = S3::default()
        .bucket(bucket)
        .region(region.unwrap_or("us-east-1"));
    match endpoint {
        Some(endpoint) => builder.endpoint(endpoint),
        None => builder,
    }
}

/// One TLS for the whole program; whoever came first has chosen it already.
pub(crate) fn prepare() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    opendal_http_transport_reqwest::install_default();
}

/// See the module.
pub(crate) struct Bucket {
    operator: Operator,
    uploads: Semaphore,
}

impl Bucket {
    pub(crate) fn open(config: &S3Config) -> Result<Bucket, StoreError> {
        let region = config.region.clone().or_else(|| {
            let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
            given("AWS_REGION").or_else(|| given("AWS_DEFAULT_REGION"))
        });
        let mut builder = service(
            &config.bucket,
            region.as_deref(),
            config.endpoint.as_deref(),
        )
        .root(&format!("/{}", config.prefix));
        if let Some((id, secret)) = &config.credentials {
            builder = builder
                .access_key_id(id)
                .secret_access_key(secret)
                .disable_config_load()
                .disable_ec2_metadata();
        }
        let operator = Operator::new(builder).map_err(failed("open", &config.bucket))?;
        let timeout = TimeoutLayer::new()
            .with_timeout(TIMEOUT)
            .with_io_timeout(TIMEOUT);
        let retry = RetryLayer::new()
            .with_max_times(RETRIES)
            .with_min_delay(RETRY_AFTER)
            .with_jitter();
        Ok(Bucket {
            operator: operator.layer(timeout).layer(retry),
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
        })
    }
}

fn key(project: &TenantPath, digest: &Digest) -> String {
    format!("projects/{}", project.key(digest))
}

fn failed(operation: &'static str, key: &str) -> impl Fn(opendal::Error) -> StoreError + use<> {
    let key = key.to_owned();
    move |source| StoreError::S3 {
        operation,
        key: key.clone(),
        source: Box::new(source),
    }
}

impl Backend for Bucket {
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let listed = self.operator.lister("projects/").await;
            let first = match listed {
                Ok(mut lister) => lister.try_next().await.map(drop),
                Err(error) => Err(error),
            };
            match first {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(failed("list", "projects/")(error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }

    fn keep<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
        draft: Draft,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let key = key(project, digest);
            let _turn = self
                .uploads
                .acquire()
                .await
                .expect("the semaphore is never closed");
            // Written anew where it is there already: so it is as young as new.
            let mut file = tokio::fs::File::open(&draft.path)
                .await
                .map_err(io("read", &draft.path))?;
            let mut writer = self
                .operator
                .writer_with(&key)
                .chunk(PART)
                .concurrent(PARTS_AT_ONCE)
                .await
                .map_err(failed("write", &key))?;
            let sent = send(&mut file, &mut writer, &draft, &key).await;
            match sent {
                Ok(()) => writer
                    .close()
                    .await
                    .map(drop)
                    .map_err(failed("complete", &key)),
                Err(error) => {
                    // Only to free the space of its parts; nothing of it is visible.
                    let _ = writer.abort().await;
                    Err(error)
                }
            }
        })
    }

    fn read<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<(u64, Reader)>, StoreError>> {
        Box::pin(async move {
            let key = key(project, digest);
            let Some(size) = self.size(project, digest).await? else {
                return Ok(None);
            };
            let reader = self
                .operator
                .reader_with(&key)
                .chunk(READ_PIECE)
                .await
                .map_err(failed("read", &key))?;
            let stream = reader
                .into_bytes_stream(0..size)
                .await
                .map_err(failed("read", &key))?;
            Ok(Some((size, Box::pin(Pieces::new(stream)) as Reader)))
        })
    }

    fn size<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            let key = key(project, digest);
            match self.operator.stat(&key).await {
                Ok(meta) => Ok(Some(meta.content_length())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed("look for", &key)(error)),
            }
        })
    }

    fn file(&self, _: &TenantPath, _: &Digest) -> Option<PathBuf> {
        None
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<TenantPath>, StoreError>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut lister = match self.operator.lister("projects/").await {
                Ok(lister) => lister,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
                Err(error) => return Err(failed("list", "projects/")(error)),
            };
            while let Some(entry) = lister.next().await {
                let entry = entry.map_err(failed("list", "projects/"))?;
                found.extend(TenantPath::new(entry.name().trim_end_matches('/')).ok());
                if found.len() == LIST_MAX {
                    break;
                }
            }
            Ok(found)
        })
    }

    fn list<'a>(
        &'a self,
        project: &'a TenantPath,
        shard: u8,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        Box::pin(async move {
            let prefix = format!("projects/{}/{shard:02x}/", project.project());
            let mut found = Vec::new();
            let mut lister = match self.operator.lister(&prefix).await {
                Ok(lister) => lister,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
                Err(error) => return Err(failed("list", &prefix)(error)),
            };
            while let Some(entry) = lister.next().await {
                let entry = entry.map_err(failed("list", &prefix))?;
                let Ok(digest) = format!("sha256:{}", entry.name()).parse::<Digest>() else {
                    continue;
                };
                let meta = entry.metadata();
                // Without a time it counts as young: better kept too long than removed too early.
                let kept_at = meta
                    .last_modified()
                    .map_or_else(SystemTime::now, SystemTime::from);
                found.push(Entry {
                    digest,
                    size: meta.content_length(),
                    kept_at,
                });
                if found.len() == LIST_MAX {
                    break;
                }
            }
            Ok(found)
        })
    }

    fn remove<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let key = key(project, digest);
            match self.operator.delete(&key).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(failed("remove", &key)(error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }
}

/// Sends a draft part by part.
async fn send(
    file: &mut tokio::fs::File,
    writer: &mut opendal::Writer,
    draft: &Draft,
    key: &str,
) -> Result<(), StoreError> {
    let mut left = draft.size;
    loop {
        let len = usize::try_from(left).unwrap_or(PART).min(PART);
        let mut part = vec![0; len];
        file.read_exact(&mut part)
            .await
            .map_err(io("read", &draft.path))?;
        writer.write(part).await.map_err(failed("write", key))?;
        left -= len as u64;
        if left == 0 {
            return Ok(());
        }
    }
}

/// A stream of pieces as a reader.
struct Pieces<S, B> {
    stream: S,
    piece: Option<B>,
    at: usize,
}

impl<S, B> Pieces<S, B> {
    fn new(stream: S) -> Pieces<S, B> {
        Pieces {
            stream,
            piece: None,
            at: 0,
        }
    }
}

impl<S, B> AsyncRead for Pieces<S, B>
where
    S: futures_util::Stream<Item = std::io::Result<B>> + Unpin,
    B: AsRef<[u8]> + Unpin,
{
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        loop {
            let this = &mut *self;
            if let Some(piece) = &this.piece {
                let rest = &piece.as_ref()[this.at..];
                if !rest.is_empty() {
                    let n = rest.len().min(into.remaining());
                    into.put_slice(&rest[..n]);
                    this.at += n;
                    return std::task::Poll::Ready(Ok(()));
                }
            }
            match std::task::ready!(this.stream.poll_next_unpin(cx)) {
                Some(piece) => {
                    this.piece = Some(piece?);
                    this.at = 0;
                }
                None => return std::task::Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_and_wrong_ones_are_told() {
        let config = S3Config::parse("s3://models.example/team/a/").unwrap();
        assert_eq!(
            (config.bucket.as_str(), config.prefix.as_str()),
            ("models.example", "team/a")
        );
        assert_eq!(S3Config::parse("s3://bucket").unwrap().prefix, "");
        for wrong in [
            "s3://",
            "s3://ab",
            "s3://Bucket",
            "s3://a/b",
            "s3://bucket/a//b",
            "s3://bucket/../x",
            "gs://bucket",
        ] {
            let error = S3Config::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let mut config = S3Config::parse("s3://bucket").unwrap();
        config.credentials = Some(("id-of-key".to_owned(), "very-secret".to_owned()));
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("very-secret") && !shown.contains("id-of-key"),
            "{shown}"
        );
    }
}
