//! What a Secret says about a repository: a token or password for `https`, a key for `ssh`. It is opened here and
//! nowhere shown.

use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::seal;
use api::common::GitSource;
use db::{objects, versions};
use std::collections::BTreeMap;

/// How to prove who asks.
pub(super) enum Credentials {
    /// For `https`.
    Password { username: String, password: String },
    /// For `ssh`: a private key, and which hosts are known by which keys.
    Key { key: String, known_hosts: String },
}

/// Opens the Secret that a source names, if it does.
pub(super) async fn open(
    platform: &Platform,
    project: &str,
    path: &str,
    source: &GitSource,
) -> Result<Option<Credentials>, UseError> {
    let refuse = |message: String| UseError::field(format!("{path}.secret"), message);
    let Some(name) = &source.secret else {
        return Ok(None);
    };
    let Some(object) = objects::read(&platform.db, "Secret", project, name).await? else {
        let message = format!("names secret `{name}`, which does not exist in project `{project}`");
        return Err(refuse(message));
    };
    let version = object.status["version"]
        .as_u64()
        .and_then(|version| u32::try_from(version).ok())
        .unwrap_or(1);
    let sealed = versions::secret(&platform.db, object.uid, version).await?;
    let sealed = sealed.ok_or_else(|| refuse(format!("names secret `{name}`, which is empty")))?;
    let entries = seal::open(&platform.key, object.uid, version, &sealed)
        .map_err(|error| UseError::internal("a secret cannot be opened", error))?;
    credentials(&source.url, name, entries)
        .map(Some)
        .map_err(refuse)
}

fn credentials(
    url: &str,
    name: &str,
    mut entries: BTreeMap<String, Vec<u8>>,
) -> Result<Credentials, String> {
    let mut text = |entry: &str| {
        let bytes = entries.remove(entry)?;
        let text = String::from_utf8(bytes).ok()?;
        Some(text).filter(|text| !text.contains('\0'))
    };
    if url.starts_with("ssh://") {
        let missing = |entry: &str| format!("names secret `{name}`, which has no entry `{entry}`");
        let key = text("ssh-privatekey").ok_or_else(|| missing("ssh-privatekey"))?;
        let known_hosts = text("known_hosts").ok_or_else(|| {
            missing("known_hosts") + "; `ssh-keyscan HOST` prints what belongs there"
        })?;
        return Ok(Credentials::Key { key, known_hosts });
    }
    let password = text("password").or_else(|| text("token")).ok_or_else(|| {
        format!("names secret `{name}`, which has no entry `password` or `token`")
    })?;
    let username = text("username").unwrap_or_else(|| "git".to_owned());
    let is_line = |text: &str| !text.chars().any(char::is_control);
    let (username, password) = (username.trim().to_owned(), password.trim().to_owned());
    if !is_line(&username) || !is_line(&password) || username.contains(':') {
        return Err(format!(
            "names secret `{name}`, whose entries are not one line each"
        ));
    }
    Ok(Credentials::Password { username, password })
}
