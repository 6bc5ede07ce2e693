//! What a Secret says about a repository: a token or password for `https`, a key for `ssh`. It is opened here and
//! nowhere shown.

use crate::error::UseError;
use crate::platform::Platform;
use crate::usecase::secret;
use api::common::GitSource;
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
    let Some(name) = &source.secret else {
        return Ok(None);
    };
    let field = format!("{path}.secret");
    let entries = secret::entries(platform, project, name, &field).await?;
    credentials(&source.url, name, entries)
        .map(Some)
        .map_err(|message| UseError::field(field, message))
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
