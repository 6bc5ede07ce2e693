//! Dependencies that no source file names. A crate's name appears in its sources as a path
//! (`serde_json::…`), in a `use`, or in a derive; one that appears nowhere is only compile time.

use crate::sh::{self, Done, Failure};
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::path::Path;

/// Needed without being named, with the reason.
const SILENT: &[(&str, &str, &str)] = &[(
    "serve",
    "tonic-prost",
    "what is made of the .proto files names it",
)];

/// Fails with every dependency that is declared and not used.
pub(crate) fn check() -> Done {
    let metadata = MetadataCommand::new()
        .manifest_path(sh::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let mut unused = Vec::new();
    for package in &metadata.packages {
        let dir = package
            .manifest_path
            .parent()
            .expect("a manifest lies in a folder")
            .as_std_path();
        let mut sources = String::new();
        let mut tests = String::new();
        read_sources(&dir.join("src"), &mut sources)?;
        read_sources(&dir.join("tests"), &mut tests)?;
        read_sources(&dir.join("benches"), &mut tests)?;
        read_sources(&dir.join("examples"), &mut tests)?;
        if let Ok(build) = std::fs::read_to_string(dir.join("build.rs")) {
            sources.push_str(&build);
        }
        for dependency in &package.dependencies {
            let name = dependency.rename.as_deref().unwrap_or(&dependency.name);
            let silent = SILENT
                .iter()
                .any(|(of, crate_name, _)| *of == package.name.as_str() && *crate_name == name);
            // Dev-dependencies may be used by unit tests inside `src`.
            let used = match dependency.kind {
                DependencyKind::Normal => names(&sources, name),
                _ => names(&sources, name) || names(&tests, name),
            };
            if !used && !silent {
                unused.push(format!(
                    "`{}` declares `{name}` and does not use it",
                    package.name
                ));
            }
        }
    }
    if unused.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(unused.join("\n")))
    }
}

/// Whether `name` stands in the text as a word of code.
fn names(text: &str, name: &str) -> bool {
    let word = name.replace('-', "_");
    text.match_indices(&word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after)
    })
}

fn read_sources(dir: &Path, text: &mut String) -> Done {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_sources(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).map_err(|error| {
                Failure::new(format!("cannot read {}: {error}", path.display()))
            })?;
            // Comments do not use anything.
            text.extend(
                source
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .flat_map(|line| [line, "\n"]),
            );
        }
    }
    Ok(())
}
