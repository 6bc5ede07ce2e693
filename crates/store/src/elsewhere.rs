//! Files from elsewhere, fetched once: of a bucket of any S3 service, or one file by HTTP. What they weigh is bounded, and
//! names of a stranger's bucket never lead out of the destination. Who may ask, and where, is the caller's to know.

mod unpacked;

pub use unpacked::unpacked;

use crate::StoreError;
use crate::error::io;
use crate::s3::{prepare, service};
use futures_util::{Stream, StreamExt, TryStreamExt};
use opendal::{ErrorKind, Operator};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Files of one fetch.
const FILES_MAX: usize = 10_000;
/// For a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Characters of an answer that an error repeats.
const QUOTED_MAX: usize = 200;

/// Who asks. Its `Debug` shows nothing secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// Anybody.
    #[default]
    Nobody,
    /// An S3 key.
    Key {
        /// Its name.
        id: String,
        /// Its secret.
        secret: String,
        /// For a key that ends.
        session: Option<String>,
    },
    /// `Authorization: Bearer`.
    Token(String),
    /// `Authorization: Basic`.
    Password {
        /// Who.
        username: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Nobody => "Nobody",
            Login::Key { .. } => "Key(hidden)",
            Login::Token(_) => "Token(hidden)",
            Login::Password { .. } => "Password(hidden)",
        })
    }
}

/// A bucket's part.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The bucket.
    pub bucket: String,
    /// A key, or what keys begin with, without slashes at the ends.
    pub path: String,
    /// `https://s3.example.org`; `None` is Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region; `None` is `us-east-1`.
    pub region: Option<String>,
    /// Who asks.
    pub login: Login,
}

/// Why files cannot be fetched: the end of a sentence about where they are.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There are none.
    #[error("there is nothing")]
    Nothing,
    /// More than allowed.
    #[error("it holds more than {0} bytes")]
    TooLarge(u64),
    /// More files than allowed.
    #[error("it holds more than {FILES_MAX} files")]
    TooMany,
    /// A name that is no place below a directory.
    #[error("it holds `{0}`, which is no name of a file here")]
    Name(String),
    /// The other side said no, or cannot be reached.
    #[error("{0}")]
    Refused(String),
    /// This machine cannot keep it.
    #[error(transparent)]
    Here(#[from] StoreError),
}

/// Fetches an object under the last part of its key, or all whose keys begin with `path/`, into a directory that exists.
pub async fn objects(from: &Objects, into: &Path, bytes_max: u64) -> Result<(), FetchError> {
    let (region, endpoint) = (from.region.as_deref(), from.endpoint.as_deref());
    // The server's own keys are for its own bucket.
    let builder = service(&from.bucket, region, endpoint)
        .disable_config_load()
        .disable_ec2_metadata();
    let builder = match &from.login {
        Login::Key {
            id,
            secret,
            session,
        } => {
            let builder = builder.access_key_id(id).secret_access_key(secret);
            match session {
                Some(session) => builder.session_token(session),
                None => builder,
            }
        }
        _ => builder.skip_signature(),
    };
    let bucket = Operator::new(builder).map_err(refused)?;
    let mut left = bytes_max;
    let below = format!("{}/", from.path);
    let mut n_files = 0;
    // Whoever may read an object may not always list.
    let listed = match bucket.lister_with(&below).recursive(true).await {
        Ok(mut entries) => loop {
            let entry = match entries.try_next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break Ok(()),
                Err(error) => break Err(refused(error)),
            };
            let name = entry.path().strip_prefix(&below).unwrap_or_default();
            if name.is_empty() || name.ends_with('/') {
                continue;
            }
            n_files += 1;
            if n_files > FILES_MAX {
                return Err(FetchError::TooMany);
            }
            let file = inside(into, name)?;
            object(&bucket, entry.path(), &file, &mut left, bytes_max).await?;
        },
        Err(error) => Err(refused(error)),
    };
    if n_files > 0 {
        return listed;
    }
    let name = from.path.rsplit('/').next().unwrap_or_default();
    let file = inside(into, name)?;
    let fetched = object(&bucket, &from.path, &file, &mut left, bytes_max).await;
    match fetched {
        Err(FetchError::Nothing) => listed.and(fetched),
        fetched => fetched,
    }
}

async fn object(
    bucket: &Operator,
    key: &str,
    into: &Path,
    left: &mut u64,
    bytes_max: u64,
) -> Result<(), FetchError> {
    let reader = bucket.reader(key).await.map_err(refused)?;
    let bytes = reader.into_bytes_stream(..).await.map_err(refused)?;
    let bytes = bytes.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::Nothing,
        _ => FetchError::Refused(said(&error.to_string())),
    });
    write(bytes, into, left, bytes_max).await
}

/// Fetches one file by HTTP under `name`, into a directory that exists. `may` says which addresses redirects may lead to.
pub async fn http(
    url: &str,
    login: &Login,
    may: impl Fn(&str) -> bool + Send + Sync + 'static,
    (into, name): (&Path, &str),
    bytes_max: u64,
) -> Result<(), FetchError> {
    prepare();
    let redirects = reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("it leads on and on")
        } else if !may(attempt.url().as_str()) {
            attempt.error("it leads to where the server does not fetch from")
        } else {
            attempt.follow()
        }
    });
    let client = reqwest::Client::builder()
        .redirect(redirects)
        .connect_timeout(CONNECT)
        .build()
        .map_err(unreached)?;
    let request = client.get(url);
    let request = match login {
        Login::Token(token) => request.bearer_auth(token),
        Login::Password { username, password } => request.basic_auth(username, Some(password)),
        Login::Nobody | Login::Key { .. } => request,
    };
    let response = request.send().await.map_err(unreached)?;
    let status = response.status();
    if status.as_u16() == 404 {
        return Err(FetchError::Nothing);
    }
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        let text: String = text.trim().chars().take(QUOTED_MAX).collect();
        return Err(FetchError::Refused(format!(
            "the answer is {status}: {text}"
        )));
    }
    if response.content_length().is_some_and(|n| n > bytes_max) {
        return Err(FetchError::TooLarge(bytes_max));
    }
    let bytes = response.bytes_stream().map_err(unreached);
    write(bytes, &inside(into, name)?, &mut { bytes_max }, bytes_max).await
}

async fn write<B: AsRef<[u8]>>(
    bytes: impl Stream<Item = Result<B, FetchError>>,
    into: &Path,
    left: &mut u64,
    bytes_max: u64,
) -> Result<(), FetchError> {
    if let Some(parent) = into.parent() {
        let made = tokio::fs::create_dir_all(parent).await;
        made.map_err(io("make", parent))?;
    }
    let failed = io("write", into);
    let mut file = tokio::fs::File::create(into).await.map_err(&failed)?;
    let mut bytes = std::pin::pin!(bytes);
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk?;
        let chunk = chunk.as_ref();
        let rest = left.checked_sub(chunk.len() as u64);
        *left = rest.ok_or(FetchError::TooLarge(bytes_max))?;
        file.write_all(chunk).await.map_err(&failed)?;
    }
    Ok(file.flush().await.map_err(&failed)?)
}

/// A place below a directory.
fn inside(dir: &Path, name: &str) -> Result<PathBuf, FetchError> {
    let name = Path::new(name);
    let mut parts = name.components();
    if name.as_os_str().is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Err(FetchError::Name(name.display().to_string()));
    }
    Ok(dir.join(name))
}

fn refused(error: opendal::Error) -> FetchError {
    match error.kind() {
        ErrorKind::NotFound => FetchError::Nothing,
        _ => FetchError::Refused(said(&error.to_string())),
    }
}

/// What the service said, without what was sent.
fn said(text: &str) -> String {
    first_line(text.split_once(" => ").map_or(text, |(_, said)| said))
}

fn unreached(error: reqwest::Error) -> FetchError {
    // The innermost cause is what a person can do something about.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    FetchError::Refused(first_line(&cause.to_string()))
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(QUOTED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let dir = Path::new("/d");
        assert_eq!(inside(dir, "a/b").unwrap(), Path::new("/d/a/b"));
        for name in ["", "..", "a/../../b", "/etc/passwd"] {
            assert!(inside(dir, name).is_err(), "{name}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let login = Login::Key {
            id: "id".to_owned(),
            secret: "hush".to_owned(),
            session: None,
        };
        assert!(!format!("{login:?}").contains("hush"));
    }
}
