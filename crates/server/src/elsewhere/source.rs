//! What a URI and the entries of a Secret mean together, and which places are allowed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use store::elsewhere::{Login, Objects};

/// Where files are.
#[derive(Debug)]
pub(super) enum Source {
    Objects(Objects),
    Http { url: String, login: Login },
    File(PathBuf),
}

/// Reads both; else which field is wrong, and how.
pub(super) fn read(
    url: &str,
    mut entries: BTreeMap<String, Vec<u8>>,
    allowed: &[String],
) -> Result<Source, (&'static str, String)> {
    let mut entry = |name: &str| -> Result<Option<String>, (&'static str, String)> {
        let Some(bytes) = entries.remove(name) else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).ok();
        let text = text.map(|text| text.trim().to_owned());
        match text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control)) {
            Some(text) => Ok(Some(text)),
            None => Err((
                "secret",
                format!("has an entry `{name}` that is not one line of text"),
            )),
        }
    };
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let source = match scheme {
        "s3" => {
            let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
            let login = match (entry("access-key-id")?, entry("secret-access-key")?) {
                (Some(id), Some(secret)) => Login::Key {
                    id,
                    secret,
                    session: entry("session-token")?,
                },
                (None, None) => Login::Nobody,
                _ => {
                    let both = "needs both entries, `access-key-id` and `secret-access-key`";
                    return Err(("secret", both.to_owned()));
                }
            };
            Source::Objects(Objects {
                bucket: bucket.to_owned(),
                path: path.trim_matches('/').to_owned(),
                endpoint: entry("endpoint")?,
                region: entry("region")?,
                login,
            })
        }
        "file" => Source::File(PathBuf::from(rest)),
        _ => {
            let login = match (entry("token")?, entry("username")?, entry("password")?) {
                (Some(token), None, None) => Login::Token(token),
                (None, username, Some(password)) => Login::Password {
                    username: username.unwrap_or_default(),
                    password,
                },
                (None, None, None) => Login::Nobody,
                _ => {
                    let either = "needs either the entry `token`, or `username` and `password`";
                    return Err(("secret", either.to_owned()));
                }
            };
            Source::Http {
                url: url.to_owned(),
                login,
            }
        }
    };
    let place = match &source {
        Source::Objects(objects) => objects.endpoint.as_deref(),
        Source::Http { .. } | Source::File(_) => Some(url),
    };
    match place.filter(|place| !is_allowed(place, allowed)) {
        None => Ok(source),
        Some(place) if scheme == "s3" => Err((
            "secret",
            format!(
                "has the endpoint `{place}`, which does not begin with `https://`; whoever runs the server can name it in MOONSHOT_MODEL_SOURCES"
            ),
        )),
        Some(_) => Err((
            "uri",
            format!(
                "has the scheme `{scheme}`, and this server does not read such places; whoever runs it can name them in MOONSHOT_MODEL_SOURCES. \
                 Files of your own machine become a Model by `moonshot model push NAME PATH`"
            ),
        )),
    }
}

/// Whether the server fetches from there: `https` always, other places below those that its settings name.
pub(super) fn is_allowed(place: &str, allowed: &[String]) -> bool {
    let place = without_query(place);
    place.starts_with("https://")
        || allowed.iter().any(|known| {
            let known = known.trim_end_matches('/');
            let rest = place.strip_prefix(known);
            !known.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// What the last part of a path calls the file.
pub(super) fn file_name(url: &str) -> &str {
    let path = without_query(url).trim_end_matches('/');
    path.rsplit('/').next().unwrap_or_default()
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn only_https_needs_no_permission() {
        let allowed = [
            "file:///models".to_owned(),
            "http://127.0.0.1:9000/".to_owned(),
            String::new(),
        ];
        for (place, is) in [
            ("https://h/m.json", true),
            ("file:///models/a", true),
            ("file:///models", true),
            ("file:///models-of-others/a", false),
            ("file:///etc/passwd", false),
            ("http://127.0.0.1:9000/a?b", true),
            ("http://127.0.0.1:90001/a", false),
            ("http://127.0.0.1:9000.example.org/a", false),
            ("http://h/a", false),
        ] {
            assert_eq!(is_allowed(place, &allowed), is, "{place}");
        }
    }

    #[test]
    fn a_secret_says_who_asks() {
        let s3 = |pairs| read("s3://b/models/flights/", entries(pairs), &[]);
        let Ok(Source::Objects(objects)) = s3(&[
            ("access-key-id", "id\n"),
            ("secret-access-key", "hush"),
            ("endpoint", "https://s3.example.org"),
        ]) else {
            panic!("it is whole");
        };
        assert_eq!(
            (objects.bucket.as_str(), objects.path.as_str()),
            ("b", "models/flights")
        );
        assert!(matches!(objects.login, Login::Key { ref id, .. } if id == "id"));
        let (field, why) = s3(&[("access-key-id", "id")]).unwrap_err();
        assert!(
            field == "secret" && why.contains("secret-access-key"),
            "{why}"
        );
        let (field, why) = s3(&[("endpoint", "http://169.254.169.254")]).unwrap_err();
        assert!(
            field == "secret" && why.contains("MOONSHOT_MODEL_SOURCES"),
            "{why}"
        );
        let (field, why) = read("file:///etc/passwd", entries(&[]), &[]).unwrap_err();
        assert!(
            field == "uri" && why.contains("moonshot model push"),
            "{why}"
        );
        let web = read(
            "https://h/m",
            entries(&[("token", "a"), ("password", "b")]),
            &[],
        );
        assert_eq!(web.unwrap_err().0, "secret");
        let two_lines = read("https://h/m", entries(&[("token", "a\nb")]), &[]);
        assert!(two_lines.unwrap_err().1.contains("one line"));
    }
}
