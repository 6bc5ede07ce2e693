//! A model that is served without a program of one's own.

use base::Span;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model and how it is served. The model server of this platform runs it: TensorFlow Serving's REST API and the Open Inference
/// Protocol, on the port `http`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServedModel {
    /// `model://NAME@VERSION`, `model://NAME` (the newest when it is first named, then what Jobs deliver), or `job://JOB/OUTPUT`. Files
    /// from elsewhere: `s3://BUCKET/PATH`, `https://HOST/PATH`, and `file:///PATH` where the server allows it; they are fetched when
    /// the URI is first named, and kept.
    pub uri: String,
    /// The Secret that says who asks for files from elsewhere. `s3`: entries `access-key-id`, `secret-access-key`, and where they are needed
    /// `session-token`, `endpoint`, `region`. `https`: `token`, or `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What it is called in URLs: `/v1/models/NAME`. Default: the Model's name, or the Job's, or the last part of the path that is more than
    /// a number, without its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Further versions of the same Model, for requests that name one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<u32>,
    /// How requests are run together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<BatchingSpec>,
    /// How long a request may wait and run. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub timeout: Option<Span>,
    /// Threads that run the model. Default: as many as `resources.cpu`, rounded up, else one for each CPU of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
}

/// How requests are run together. A free thread takes what waits; nothing waits for company.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchingSpec {
    /// The most rows that are run together. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u32>,
    /// The most requests that wait; further ones get 429. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<u32>,
}

/// What [`ServedModel::uri`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSource<'a> {
    /// A Model of the project; without a version its newest.
    Model {
        /// The Model.
        name: &'a str,
        /// From 1.
        version: Option<u32>,
    },
    /// What a Job left.
    Job {
        /// The Job.
        name: &'a str,
        /// The name of its output.
        output: &'a str,
    },
    /// Files from elsewhere.
    Elsewhere {
        /// Of `s3`, `https`, `http` or `file`.
        url: &'a str,
    },
}

impl<'a> ModelSource<'a> {
    /// The Model's name, or the Job's, or what a path suggests.
    pub fn name(&self) -> &'a str {
        match self {
            ModelSource::Model { name, .. } | ModelSource::Job { name, .. } => name,
            ModelSource::Elsewhere { url } => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
                let part = path.rsplit('/').find(|part| !is_number(part));
                let part = part.unwrap_or_default();
                part.split_once('.').map_or(part, |(name, _)| name)
            }
        }
    }
}

/// What is wrong with where files are, as the rest of a sentence.
fn elsewhere<'a>(uri: &'a str, scheme: &str, rest: &str) -> Result<ModelSource<'a>, String> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if uri.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a blank; write it as `%20`".to_owned());
    }
    if host.contains('@') {
        return Err("has a user or a password, which everybody who sees the App would see; put them into a Secret and name it in `secret`".to_owned());
    }
    if scheme == "file" && !host.is_empty() {
        return Err(format!("has host `{host}`; write `file:///PATH`"));
    }
    if path.trim_matches('/').is_empty() || (scheme != "file" && host.is_empty()) {
        let form = match scheme {
            "s3" => "s3://BUCKET/PATH",
            "file" => "file:///PATH",
            _ => "https://HOST/PATH",
        };
        return Err(format!("is `{uri}`; write `{form}`"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err("has `..` in its path".to_owned());
    }
    Ok(ModelSource::Elsewhere { url: uri })
}

impl ServedModel {
    /// What `uri` names; else what is wrong with it, as the rest of a sentence about it.
    pub fn source(&self) -> Result<ModelSource<'_>, String> {
        let uri = self.uri.as_str();
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err(format!(
                "is `{uri}`; write `model://NAME`, `model://NAME@VERSION`, `job://JOB/OUTPUT`, `s3://BUCKET/PATH` or `https://HOST/PATH`"
            ));
        };
        match (scheme, rest.split_once('@'), rest.split_once('/')) {
            ("model", None, None) if !rest.is_empty() => Ok(ModelSource::Model {
                name: rest,
                version: None,
            }),
            ("model", Some((name, version)), None) if !name.is_empty() => {
                let number = version.parse().ok().filter(|number| *number > 0);
                let version = number.ok_or_else(|| {
                    format!("has version `{version}`; a number from 1 is expected")
                })?;
                Ok(ModelSource::Model {
                    name,
                    version: Some(version),
                })
            }
            ("job", _, Some((name, output))) if !name.is_empty() && !output.is_empty() => {
                Ok(ModelSource::Job { name, output })
            }
            ("model", ..) => Err(format!("is `{uri}`; write `model://NAME@VERSION`")),
            ("job", ..) => Err(format!("is `{uri}`; write `job://JOB/OUTPUT`")),
            ("s3" | "https" | "http" | "file", ..) => elsewhere(uri, scheme, rest),
            _ => Err(format!(
                "has the scheme `{scheme}`; `model`, `job`, `s3`, `https` and `file` are known. Files from elsewhere become a Model by \
                 `moonshot model push NAME PATH`, then write `model://NAME`"
            )),
        }
    }

    /// What it is called in URLs.
    pub fn name(&self) -> &str {
        match (&self.name, self.source()) {
            (Some(name), _) => name,
            (None, Ok(source)) => source.name(),
            (None, Err(_)) => "model",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(uri: &str) -> ServedModel {
        ServedModel {
            uri: uri.to_owned(),
            ..ServedModel::default()
        }
    }

    #[test]
    fn what_is_named_is_read() {
        let newest = served("model://flights");
        let (name, version) = ("flights", None);
        assert_eq!(newest.source(), Ok(ModelSource::Model { name, version }));
        assert_eq!(newest.name(), "flights");
        let version = Some(3);
        assert_eq!(
            served("model://flights@3").source(),
            Ok(ModelSource::Model { name, version })
        );
        let (name, output) = ("train", "model");
        assert_eq!(
            served("job://train/model").source(),
            Ok(ModelSource::Job { name, output })
        );
    }

    #[test]
    fn what_is_not_known_is_told_with_what_is() {
        for (uri, told) in [
            ("flights", "model://NAME"),
            ("model://", "NAME@VERSION"),
            ("model://flights@0", "a number from 1"),
            ("model://flights@new", "`new`"),
            ("model://a/b", "NAME@VERSION"),
            ("job://train", "JOB/OUTPUT"),
            ("gs://bucket/model", "moonshot model push"),
            ("s3://bucket", "s3://BUCKET/PATH"),
            ("https:///m.json", "https://HOST/PATH"),
            ("https://me:hush@h/m.json", "in `secret`"),
            ("file://h/m.json", "file:///PATH"),
            ("file:///a/../b", "`..`"),
            ("https://h/a b", "%20"),
        ] {
            let why = served(uri).source().unwrap_err();
            assert!(why.contains(told), "{uri}: {why}");
            assert!(!why.contains("hush"), "{why}");
        }
    }

    #[test]
    fn files_from_elsewhere_are_called_by_their_path() {
        for (uri, name) in [
            ("s3://bucket/models/flights/3", "flights"),
            ("s3://bucket/models/flights/", "flights"),
            ("https://h/a/flights.json", "flights"),
            (
                "https://h/a/flights.tar.gz?X-Amz-Signature=a/b.c",
                "flights",
            ),
            ("file:///models/late", "late"),
        ] {
            let served = served(uri);
            assert_eq!(served.source(), Ok(ModelSource::Elsewhere { url: uri }));
            assert_eq!(served.name(), name, "{uri}");
        }
    }
}
