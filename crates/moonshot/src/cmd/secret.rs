//! `secret`: make, list and look at Secrets. Their values are never shown.

use crate::age;
use crate::exit::Failure;
use crate::session::Session;
use crate::view::{self, Options};
use api::{Kind, Object};
use client::ListQuery;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Make a Secret, or a new version of it.
    Create {
        /// Its name.
        name: String,
        /// An entry: `KEY=VALUE`. Other users of this machine may see it; prefer a file or `-`. May be repeated.
        #[arg(long, value_name = "KEY=VALUE")]
        from_literal: Vec<String>,
        /// An entry from a file: `KEY=FILE`, or `FILE` under its own name; `KEY=-` reads standard input. May be repeated.
        #[arg(long, value_name = "KEY=FILE")]
        from_file: Vec<String>,
    },
    /// The Secrets of the project, without values.
    List,
}

pub(crate) async fn run(session: &Session, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create {
            name,
            from_literal,
            from_file,
        } => {
            let spec = spec(&from_literal, &from_file)?;
            let object = Object {
                api_version: api::meta::API_VERSION.to_owned(),
                kind: Kind::Secret.as_str().to_owned(),
                metadata: api::Metadata {
                    name: name.clone(),
                    project: session.project.clone(),
                    ..api::Metadata::default()
                },
                spec,
                status: None,
            };
            session.client.apply(&object, Kind::Secret, None).await?;
            session.out.line(format!("secret/{name} applied"))
        }
        Verb::List => {
            let query = ListQuery {
                project: Some(session.project.clone()),
                ..ListQuery::default()
            };
            let secrets = session
                .client
                .list::<Object>(Kind::Secret, &query, 10_000)
                .await?;
            let options = Options {
                wide: false,
                projects: false,
                labels: false,
                now: age::now(),
            };
            session
                .out
                .table(&view::objects(Kind::Secret, &secrets.items, options))
        }
    }
}

fn spec(literals: &[String], files: &[String]) -> Result<Value, Failure> {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for literal in literals {
        // The text itself may hold the value: it is not repeated in the error.
        let (key, value) = literal
            .split_once('=')
            .ok_or_else(|| Failure::Usage("write `--from-literal KEY=VALUE`".to_owned()))?;
        data.insert(key.to_owned(), json!(value));
    }
    for file in files {
        let (key, path) = match file.split_once('=') {
            Some((key, path)) => (key.to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(file);
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                (name.to_owned(), path)
            }
        };
        let bytes = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(Failure::local("read standard input"))?;
            bytes
        } else {
            std::fs::read(&path).map_err(Failure::local(format!("read `{}`", path.display())))?
        };
        match String::from_utf8(bytes) {
            Ok(text) => data.insert(key, json!(text)),
            Err(error) => binary.insert(key, json!(base64(error.as_bytes()))),
        };
    }
    if data.is_empty() && binary.is_empty() {
        return Err(Failure::Usage(
            "a Secret needs an entry: `--from-literal KEY=VALUE` or `--from-file KEY=FILE`"
                .to_owned(),
        ));
    }
    let mut spec = Map::new();
    for (field, entries) in [("data", data), ("binaryData", binary)] {
        if !entries.is_empty() {
            spec.insert(field.to_owned(), Value::Object(entries));
        }
    }
    Ok(Value::Object(spec))
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() {
                char::from(ALPHABET[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_vectors() {
        for (text, expect) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), expect);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn entries() {
        let dir = tempfile::tempdir().unwrap();
        let (text, bytes) = (dir.path().join("a.txt"), dir.path().join("b"));
        std::fs::write(&text, "x\n").unwrap();
        std::fs::write(&bytes, [0xff]).unwrap();
        let found = spec(
            &["k=v=w".to_owned()],
            &[
                text.display().to_string(),
                format!("bin={}", bytes.display()),
            ],
        )
        .unwrap();
        assert_eq!(
            found,
            json!({"data": {"k": "v=w", "a.txt": "x\n"}, "binaryData": {"bin": "/w=="}})
        );
        let error = spec(&["hunter2".to_owned()], &[]).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(spec(&[], &[]).is_err());
    }
}
