//! What was fetched, as a directory that a model server can load from.

use pack::{Limits, PackError};
use std::path::{Path, PathBuf};

/// From what was found, a directory that the model server can load from: of an archive its content, without a directory that
/// holds all the rest; a lone file as `model.ENDING`. `own` does not exist yet.
pub fn unpacked(found: &Path, own: &Path, bytes_max: u64) -> Result<PathBuf, PackError> {
    let io = |source| PackError::Io {
        operation: "unpack",
        path: found.to_owned(),
        source,
    };
    let lone = if found.is_file() {
        Some(found.to_owned())
    } else {
        only_entry(found)
            .map_err(io)?
            .filter(|entry| entry.is_file())
    };
    let Some(lone) = lone else {
        return Ok(found.to_owned());
    };
    std::fs::create_dir(own).map_err(io)?;
    let name = lone.file_name().unwrap_or_default().to_string_lossy();
    let endings = [".tar", ".tar.gz", ".tgz", ".tar.zst"];
    if endings.iter().any(|ending| name.ends_with(ending)) {
        pack::unpack_any(&lone, own, Limits::bytes(bytes_max))?;
        let inner = only_entry(own).map_err(io)?;
        return Ok(match inner.filter(|inner| inner.is_dir()) {
            Some(inner) => inner,
            None => own.to_owned(),
        });
    }
    let name = match name.rsplit_once('.') {
        Some((_, ending @ ("json" | "ubj" | "txt" | "onnx"))) => format!("model.{ending}"),
        _ => name.into_owned(),
    };
    let named = own.join(name);
    // Another file system, or one that is not ours: then it is copied.
    if std::fs::hard_link(&lone, &named).is_err() {
        std::fs::copy(&lone, &named).map_err(io)?;
    }
    Ok(own.to_owned())
}

/// What a directory holds, where it holds one thing only.
fn only_entry(dir: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut entries = std::fs::read_dir(dir)?;
    let first = entries.next().transpose()?;
    Ok(match entries.next() {
        None => first.map(|entry| entry.path()),
        Some(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_becomes_a_directory_to_load_from() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("one")).unwrap();
        std::fs::write(at("one/flights-2013.json"), b"{}").unwrap();
        let own = unpacked(&at("one"), &at("own1"), 1 << 20).unwrap();
        assert_eq!(std::fs::read(own.join("model.json")).unwrap(), b"{}");

        std::fs::create_dir_all(at("saved/flights/variables")).unwrap();
        std::fs::write(at("saved/flights/saved_model.pb"), b"pb").unwrap();
        std::fs::write(at("saved/steps.json"), b"{}").unwrap();
        assert_eq!(
            unpacked(&at("saved"), &at("own2"), 1 << 20).unwrap(),
            at("saved")
        );

        let tar = std::process::Command::new("tar")
            .args(["-czf", "m.tar.gz", "-C", "saved", "flights"])
            .current_dir(dir.path())
            .status();
        assert!(tar.unwrap().success());
        let own = unpacked(&at("m.tar.gz"), &at("own3"), 1 << 20).unwrap();
        assert!(own.join("saved_model.pb").is_file() && own.ends_with("flights"));
        let small = unpacked(&at("m.tar.gz"), &at("own4"), 1);
        assert!(small.is_err_and(|error| error.to_string().contains("more than 1 bytes")));
    }
}
