//! Directories as one file: a tar, compressed with zstd, the same bytes for the same content (sorted names, no
//! times or owners). Unpacking leaves the destination under no circumstances.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Component, Path, PathBuf};

/// Compression: quick, for files that travel once.
const LEVEL: i32 = 3;

/// Why a directory could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It holds more bytes than allowed.
    #[error("`{path}` holds more than {limit} bytes")]
    TooLarge {
        /// Which directory.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// An entry would leave the destination, or is neither file, directory nor link.
    #[error("entry `{0}` is not a file, directory or link inside the archive")]
    Entry(PathBuf),
    /// The disk refused, or the archive is damaged.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

fn io(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> PackError + use<> {
    let path = path.to_owned();
    move |source| PackError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

/// Packs a file (under its own name) or the content of a directory; the bytes of its files.
pub fn pack(from: &Path, into: &Path, limit: u64) -> Result<u64, PackError> {
    let mut entries = Vec::new();
    if from.is_dir() {
        walk(from, Path::new(""), &mut entries)?;
    } else {
        entries.push(PathBuf::from(from.file_name().unwrap_or_default()));
    }
    let base = if from.is_dir() {
        from
    } else {
        from.parent().unwrap_or(Path::new(""))
    };
    pack_files(base, &entries, into, limit)
}

/// Packs these paths, relative to `base`.
pub fn pack_files(
    base: &Path,
    entries: &[PathBuf],
    into: &Path,
    limit: u64,
) -> Result<u64, PackError> {
    let mut sorted: Vec<&PathBuf> = entries.iter().collect();
    sorted.sort();
    let file = File::create(into).map_err(io("write", into))?;
    let encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(io("write", into))?;
    let mut tar = tar::Builder::new(encoder);
    let mut total = 0;
    for relative in sorted {
        let path = base.join(relative);
        let meta = path.symlink_metadata().map_err(io("read", &path))?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        header.set_mode(if mode & 0o111 == 0 { 0o644 } else { 0o755 });
        if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(io("read", &path))?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, relative, target)
                .map_err(io("pack", &path))?;
        } else if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, relative, std::io::empty())
                .map_err(io("pack", &path))?;
        } else if meta.is_file() {
            total += meta.len();
            if total > limit {
                return Err(PackError::TooLarge {
                    path: base.to_owned(),
                    limit,
                });
            }
            header.set_size(meta.len());
            // A file that grows while it is packed is cut at the size that was announced.
            let content = File::open(&path)
                .map_err(io("read", &path))?
                .take(meta.len());
            tar.append_data(&mut header, relative, content)
                .map_err(io("pack", &path))?;
        }
    }
    let encoder = tar.into_inner().map_err(io("write", into))?;
    encoder.finish().map_err(io("write", into))?;
    Ok(total)
}

fn walk(base: &Path, relative: &Path, entries: &mut Vec<PathBuf>) -> Result<(), PackError> {
    let dir = base.join(relative);
    for entry in std::fs::read_dir(&dir).map_err(io("read", &dir))? {
        let entry = entry.map_err(io("read", &dir))?;
        let path = relative.join(entry.file_name());
        let kind = entry.file_type().map_err(io("read", &dir))?;
        entries.push(path.clone());
        if kind.is_dir() {
            walk(base, &path, entries)?;
        }
    }
    Ok(())
}

/// Unpacks into a directory, at most `limit` bytes of files.
pub fn unpack(from: &Path, into: &Path, limit: u64) -> Result<(), PackError> {
    let file = File::open(from).map_err(io("read", from))?;
    let decoder = zstd::Decoder::new(BufReader::new(file)).map_err(io("read", from))?;
    let mut archive = tar::Archive::new(decoder);
    archive.set_preserve_ownerships(false);
    let mut total: u64 = 0;
    for entry in archive.entries().map_err(io("read", from))? {
        let mut entry = entry.map_err(io("read", from))?;
        let path = entry.path().map_err(io("read", from))?.into_owned();
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let kind = entry.header().entry_type();
        let plain = matches!(
            kind,
            tar::EntryType::Regular | tar::EntryType::Directory | tar::EntryType::Symlink
        );
        let link = entry.link_name().map_err(io("read", from))?;
        if !inside || !plain || link.is_some_and(|target| leaves(&path, &target)) {
            return Err(PackError::Entry(path));
        }
        total = total.saturating_add(entry.size());
        if total > limit {
            return Err(PackError::TooLarge {
                path: into.to_owned(),
                limit,
            });
        }
        // `unpack_in` also refuses paths that lead through a link out of the destination.
        if !entry.unpack_in(into).map_err(io("unpack into", into))? {
            return Err(PackError::Entry(path));
        }
    }
    Ok(())
}

/// Whether a link at `path` points out of the archive: what is read through it would be somebody else's.
fn leaves(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
            Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_back_and_the_same_content_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::create_dir_all(from.join("sub")).unwrap();
        std::fs::write(from.join("sub/b.txt"), "b").unwrap();
        std::fs::write(from.join("a.txt"), "aa").unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        assert_eq!(pack(&from, &one, 100).unwrap(), 3);
        pack(&from, &two, 100).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        unpack(&one, &into, 100).unwrap();
        assert_eq!(
            std::fs::read_to_string(into.join("sub/b.txt")).unwrap(),
            "b"
        );
        assert!(matches!(
            pack(&from, &two, 2),
            Err(PackError::TooLarge { .. })
        ));
        assert!(matches!(
            unpack(&one, &into, 2),
            Err(PackError::TooLarge { .. })
        ));
    }

    #[test]
    fn links_stay_inside() {
        let leaves = |path: &str, target: &str| super::leaves(Path::new(path), Path::new(target));
        assert!(
            !leaves("a/link", "../b")
                && !leaves("link", "b/../c")
                && !leaves("a/b/link", "../../c")
        );
        assert!(
            leaves("link", "/etc/passwd") && leaves("link", "../b") && leaves("a/link", "../../b")
        );
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let dir = tempfile::tempdir().unwrap();
        let evil = dir.path().join("evil");
        for name in ["../out.txt", "/abs.txt", "a/../../out.txt"] {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(1);
            header.set_cksum();
            let mut tar =
                tar::Builder::new(zstd::Encoder::new(File::create(&evil).unwrap(), 1).unwrap());
            tar.append(&header, &b"x"[..]).unwrap();
            tar.into_inner().unwrap().finish().unwrap();
            let into = dir.path().join("into");
            std::fs::create_dir_all(&into).unwrap();
            assert!(unpack(&evil, &into, 100).is_err(), "{name}");
        }
        assert!(!dir.path().join("out.txt").exists());
    }
}
