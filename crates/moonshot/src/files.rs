//! Manifests from `-f FILE|DIR|-`: read, and their directories of code uploaded.

use crate::code;
use crate::exit::Failure;
use crate::session::Session;
use api::manifest::{self, Document, Format, MANIFEST_BYTES_MAX};
use api::problem::FIELD_ERRORS_MAX;
use api::{FieldError, Object, Problem};
use client::{ApplyOptions, ClientError};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// One manifest.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// As messages name it.
    pub(crate) name: String,
    /// What `code.dir` is relative to.
    dir: PathBuf,
    bytes: Vec<u8>,
    format: Format,
}

/// Reads every file that `-f` names.
pub(crate) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let bytes = bounded(&mut std::io::stdin().lock(), "standard input")?;
            sources.push(Source {
                name: "standard input".to_owned(),
                dir: PathBuf::from("."),
                format: guess(&bytes),
                bytes,
            });
        } else if path.is_dir() {
            let mut found = Vec::new();
            list(path, recursive, &mut found)?;
            found.sort();
            if found.is_empty() {
                return Err(Failure::NotFound(format!(
                    "there is no `.yaml`, `.yml` or `.json` file in `{}`",
                    path.display()
                )));
            }
            for file in &found {
                sources.push(read_file(file)?);
            }
        } else {
            sources.push(read_file(path)?);
        }
    }
    Ok(sources)
}

fn list(dir: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::local(format!("read `{}`", dir.display()))(error);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if recursive {
                list(&path, recursive, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Source, Failure> {
    let name = path.display().to_string();
    let mut file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotFound(format!("there is no file `{name}`")),
        _ => Failure::local(format!("read `{name}`"))(error),
    })?;
    let bytes = bounded(&mut file, &name)?;
    let format = if path.extension().is_some_and(|ext| ext == "json") {
        Format::Json
    } else {
        Format::Yaml
    };
    Ok(Source {
        name,
        dir: path
            .parent()
            .map_or_else(|| PathBuf::from("."), Path::to_owned),
        bytes,
        format,
    })
}

/// One byte more than is allowed, so that the reader of the manifest can say that it is too long.
fn bounded(from: &mut dyn Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(MANIFEST_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Failure::local(format!("read `{name}`")))?;
    Ok(bytes)
}

fn guess(bytes: &[u8]) -> Format {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() => {
            Format::Json
        }
        Some(_) | None => Format::Yaml,
    }
}

impl Source {
    /// The documents, only their envelopes checked.
    pub(crate) fn documents(&self) -> Result<Vec<Document>, Failure> {
        manifest::parse(&self.bytes, self.format).map_err(|problem| self.not_valid(&problem))
    }

    /// The server's or our own words about this manifest.
    fn not_valid(&self, problem: &Problem) -> Failure {
        let name = &self.name;
        // From the top of the file to its end.
        let mut errors: Vec<&FieldError> = problem.errors.iter().collect();
        errors.sort_by_key(|error| (error.line, error.column));
        Failure::Invalid(match errors.as_slice() {
            // Text that is no YAML at all has no field.
            [one] if one.field.is_empty() => format!("{name}: {}", problem.detail),
            [] => format!("{name}: {}", problem.detail),
            [one] => format!("{name}: {one}"),
            many => {
                let lines: String = many.iter().map(|error| format!("\n  {error}")).collect();
                let least = if many.len() == FIELD_ERRORS_MAX {
                    "at least "
                } else {
                    ""
                };
                format!("{name}: {least}{} errors{lines}", many.len())
            }
        })
    }

    /// The objects, with uploaded code in place of directories.
    pub(crate) async fn objects(
        &self,
        session: &Session,
        dry_run: bool,
    ) -> Result<Vec<Object>, Failure> {
        let prepared = self.prepare(session, dry_run).await?;
        Ok(prepared
            .documents
            .into_iter()
            .map(|document| document.object)
            .collect())
    }

    /// What to send: the manifest as it is, or with uploaded code in place of directories.
    async fn prepare(&self, session: &Session, dry_run: bool) -> Result<Prepared, Failure> {
        let mut documents = self.documents()?;
        let mut uploaded = false;
        for document in &mut documents {
            for code in code_sources(&mut document.object.spec) {
                let Some(dir) = code["dir"].as_str() else {
                    continue;
                };
                let packed = code::pack(&self.dir.join(dir))?;
                // A dry run leaves nothing behind.
                if !dry_run {
                    code::upload(session, &packed, "uploading the code").await?;
                }
                *code = serde_json::json!({ "digest": packed.digest });
                uploaded = true;
            }
        }
        if !uploaded {
            return Ok(Prepared {
                bytes: self.bytes.clone(),
                format: self.format,
                documents,
            });
        }
        let objects: Vec<&Object> = documents.iter().map(|document| &document.object).collect();
        let bytes =
            serde_json::to_vec(&objects).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Prepared {
            bytes,
            format: Format::Json,
            documents,
        })
    }

    /// Sends the manifest; errors name this file, line and column.
    pub(crate) async fn apply(
        &self,
        session: &Session,
        options: &ApplyOptions,
    ) -> Result<Vec<api::answer::ApplyResult>, Failure> {
        let prepared = self.prepare(session, options.dry_run).await?;
        match session
            .client
            .apply_manifest(prepared.bytes, prepared.format, options)
            .await
        {
            Ok(answer) => Ok(answer.results),
            Err(ClientError::Refused(mut problem)) if !problem.errors.is_empty() => {
                for error in &mut problem.errors {
                    locate(error, &prepared.documents);
                }
                Err(self.not_valid(&problem))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A manifest ready to be sent.
struct Prepared {
    bytes: Vec<u8>,
    format: Format,
    documents: Vec<Document>,
}

/// Every `code` of a spec: a Job's own, its groups', an App's template's.
fn code_sources(spec: &mut Value) -> Vec<&mut Value> {
    let mut found = Vec::new();
    let Value::Object(fields) = spec else {
        return found;
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("code", code) => found.push(code),
            ("template", Value::Object(template)) => found.extend(template.get_mut("code")),
            ("groups", Value::Array(groups)) => {
                found.extend(groups.iter_mut().filter_map(|group| group.get_mut("code")))
            }
            _ => {}
        }
    }
    found
}

/// The server saw JSON without lines: they are looked up here.
fn locate(error: &mut FieldError, documents: &[Document]) {
    if error.line.is_some() {
        return;
    }
    let numbered = error
        .field
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]."));
    let (at, field) = match numbered {
        Some((at, field)) => (at.parse().unwrap_or(0), field.to_owned()),
        None if documents.len() == 1 => (0, error.field.clone()),
        // Of which document it is, the server's message alone says.
        None => return,
    };
    let Some(document) = documents.get(at) else {
        return;
    };
    let mut one = [FieldError {
        field,
        ..error.clone()
    }];
    document.locate(&mut one);
    error.line = one[0].line;
    error.column = one[0].column;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn directories_and_files() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "d.txt", "sub/e.yaml"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        let names = |recursive| -> Vec<String> {
            let sources = read(&[dir.path().to_owned()], recursive).unwrap();
            sources
                .iter()
                .map(|source| source.name.rsplit('/').next().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(false), ["a.yml", "b.yaml", "c.json"]);
        assert_eq!(names(true), ["a.yml", "b.yaml", "c.json", "e.yaml"]);
        let missing = read(&[dir.path().join("x.yaml")], false).unwrap_err();
        assert_eq!(missing.exit_code(), 3);
    }

    #[test]
    fn errors_name_the_file() {
        let source = Source {
            name: "job.yaml".to_owned(),
            dir: PathBuf::new(),
            bytes: b"kind: Job\n".to_vec(),
            format: Format::Yaml,
        };
        let error = source.documents().unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert_eq!(
            error.to_string(),
            "job.yaml: 2 errors\n  line 1, column 1: apiVersion: is missing; write `moonshot/v1`\n  line 1, column 1: metadata: is missing; at least `metadata.name` is needed"
        );
    }

    #[test]
    fn every_code_is_found() {
        let mut spec = json!({"code": 1, "groups": [{"code": 2}, {}], "template": {"code": 3}, "env": [{"code": 4}]});
        let found: Vec<Value> = code_sources(&mut spec)
            .iter()
            .map(|code| (**code).clone())
            .collect();
        assert_eq!(found, [json!(1), json!(2), json!(3)]);
    }

    #[test]
    fn errors_of_the_server_get_their_lines() {
        let text = "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  command: [x]\n  queue: Q\n";
        let documents = manifest::parse(text.as_bytes(), Format::Yaml).unwrap();
        for field in ["spec.queue", "[0].spec.queue"] {
            let mut error = FieldError::new(field, "x");
            locate(&mut error, &documents);
            assert_eq!(
                (error.line, error.column, error.field.as_str()),
                (Some(6), Some(3), field)
            );
        }
    }

    #[test]
    fn json_on_standard_input_is_seen() {
        assert_eq!(guess(b" {\"a\": 1}"), Format::Json);
        assert_eq!(guess(b"{a: 1}"), Format::Yaml);
        assert_eq!(guess(b""), Format::Yaml);
    }
}
