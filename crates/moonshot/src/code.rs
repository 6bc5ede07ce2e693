//! The code of a Job or an App: a directory, packed, uploaded, named by its digest.

use crate::exit::Failure;
use crate::session::Session;
use base::Digest;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The most bytes of a directory that is uploaded.
pub(crate) const CODE_BYTES_MAX: u64 = 512 << 20;
/// The most bytes of a model that is pushed from here.
const MODEL_BYTES_MAX: u64 = 64 << 30;
/// Names whose like no program needs from its author's machine.
const NEVER: [&str; 3] = [".git", "__pycache__", ".venv"];

/// A packed directory on this machine.
pub(crate) struct Packed {
    file: NamedTempFile,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Packs a directory without what `.moonshotignore` and `.gitignore` name.
pub(crate) fn pack(dir: &Path) -> Result<Packed, Failure> {
    let entries = entries(dir)?;
    let file = NamedTempFile::new().map_err(Failure::local("make a temporary file"))?;
    pack::pack_files(dir, &entries, file.path(), CODE_BYTES_MAX)
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let (digest, size) = digest(file.path())?;
    Ok(Packed { file, digest, size })
}

/// Packs a file or a whole directory, with nothing ignored.
pub(crate) fn pack_any(path: &Path) -> Result<Packed, Failure> {
    let file = NamedTempFile::new().map_err(Failure::local("make a temporary file"))?;
    pack::pack(path, file.path(), MODEL_BYTES_MAX)
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let (digest, size) = digest(file.path())?;
    Ok(Packed { file, digest, size })
}

/// Uploads what was packed, unless the server has it.
pub(crate) async fn upload(
    session: &Session,
    packed: &Packed,
    what: &'static str,
) -> Result<(), Failure> {
    if session
        .client
        .has_blob(&session.project, &packed.digest)
        .await?
    {
        return Ok(());
    }
    let bar = progress(session.out.progress, packed.size, what);
    let shown = bar.clone();
    let progress = Box::new(move |sent| shown.set_position(sent));
    session
        .client
        .upload(
            &session.project,
            packed.file.path(),
            Some(&packed.digest),
            progress,
        )
        .await?;
    bar.finish_and_clear();
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress(show: bool, size: u64, what: &'static str) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style).with_message(what)
}

/// Files, links and directories to pack, relative to the directory, within the bound.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !dir.is_dir() {
        return Err(Failure::Failed(format!(
            "`{}` is not a directory",
            dir.display()
        )));
    }
    let walk = ignore::WalkBuilder::new(dir)
        .hidden(false)
        .parents(false)
        .git_global(false)
        .require_git(false)
        .add_custom_ignore_filename(".moonshotignore")
        .filter_entry(|entry| !NEVER.iter().any(|never| entry.file_name() == *never))
        .build();
    let mut entries = Vec::new();
    let mut sizes: Vec<(u64, PathBuf)> = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| {
            Failure::Failed(format!("cannot read `{}`: {error}", dir.display()))
        })?;
        let Ok(relative) = entry.path().strip_prefix(dir) else {
            continue;
        };
        if relative.as_os_str().is_empty() {
            continue;
        }
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            sizes.push((
                entry.metadata().map_or(0, |metadata| metadata.len()),
                relative.to_owned(),
            ));
        }
        entries.push(relative.to_owned());
    }
    let total: u64 = sizes.iter().map(|(size, _)| size).sum();
    if total > CODE_BYTES_MAX {
        return Err(Failure::Failed(too_large(dir, total, sizes)));
    }
    Ok(entries)
}

fn too_large(dir: &Path, total: u64, mut sizes: Vec<(u64, PathBuf)>) -> String {
    sizes.sort_by(|a, b| b.cmp(a));
    let largest: Vec<String> = sizes
        .iter()
        .take(3)
        .map(|(size, path)| format!("`{}` ({} MiB)", path.display(), size >> 20))
        .collect();
    format!(
        "`{}` holds {} MiB; at most {} MiB are uploaded as code. Name what the program does not need in `.moonshotignore`; the largest are {}",
        dir.display(),
        total >> 20,
        CODE_BYTES_MAX >> 20,
        largest.join(", ")
    )
}

fn digest(path: &Path) -> Result<(Digest, u64), Failure> {
    let failed = |error| Failure::local("read the packed code")(error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let n = file.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok((Digest(hash.finalize().into()), size));
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    #[test]
    fn what_is_ignored_stays_here() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                (".moonshotignore", "data/\n"),
                (".gitignore", "*.log\n"),
                ("train.py", ""),
                (".hidden", ""),
                ("data/big", ""),
                ("a.log", ""),
                ("sub/.moonshotignore", "!*.log\nx\n"),
                ("sub/b.log", ""),
                ("sub/x", ""),
                (".git/config", ""),
                ("__pycache__/t.pyc", ""),
            ],
        );
        let mut found: Vec<String> = entries(dir.path())
            .unwrap()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                ".gitignore",
                ".hidden",
                ".moonshotignore",
                "sub",
                "sub/.moonshotignore",
                "sub/b.log",
                "train.py"
            ]
        );
    }

    #[test]
    fn the_same_directory_has_the_same_digest() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("a.py", "1"), ("b/c.py", "2")]);
        let one = pack(dir.path()).unwrap();
        assert_eq!(pack(dir.path()).unwrap().digest, one.digest);
        write(dir.path(), &[("a.py", "3")]);
        assert_ne!(pack(dir.path()).unwrap().digest, one.digest);
    }

    #[test]
    fn a_directory_over_the_bound_is_refused_with_the_largest() {
        let dir = tempfile::tempdir().unwrap();
        // Sparse: it has a size and no bytes.
        for (name, mib) in [("huge.bin", 500), ("large.bin", 20), ("small.py", 0)] {
            File::create(dir.path().join(name))
                .unwrap()
                .set_len(mib << 20)
                .unwrap();
        }
        let error = pack(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains("holds 520 MiB; at most 512 MiB")
                && error.contains("`huge.bin` (500 MiB), `large.bin` (20 MiB)"),
            "{error}"
        );
        assert!(pack(&dir.path().join("small.py")).is_err());
    }
}
