//! A directory into one file.

use crate::{ENTRIES_MAX, NAME_BYTES_MAX, PackError, io, leaves};
use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

/// Compression: quick, for files that travel once.
const LEVEL: i32 = 3;

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

/// Packs these paths, relative to `base`; the bytes of their files. A link that names a place below `base` by its
/// absolute path is packed as a relative one.
pub fn pack_files(
    base: &Path,
    entries: &[PathBuf],
    into: &Path,
    limit: u64,
) -> Result<u64, PackError> {
    if entries.len() > ENTRIES_MAX {
        return Err(PackError::TooMany {
            path: base.to_owned(),
            limit: ENTRIES_MAX,
        });
    }
    let mut sorted: Vec<&PathBuf> = entries.iter().collect();
    sorted.sort();
    let file = File::create(into).map_err(io("write", into))?;
    let encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(io("write", into))?;
    let mut tar = tar::Builder::new(encoder);
    let mut total = 0;
    for relative in sorted {
        if relative.as_os_str().len() > NAME_BYTES_MAX {
            return Err(PackError::Entry(relative.clone()));
        }
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
            let target = inside(base, relative, target)?;
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
            // A file that grows while it is packed is cut at the size that was announced; one that shrinks is filled
            // up: the archive would be unreadable otherwise.
            let content = File::open(&path)
                .map_err(io("read", &path))?
                .chain(std::io::repeat(0))
                .take(meta.len());
            tar.append_data(&mut header, relative, content)
                .map_err(io("pack", &path))?;
        }
    }
    let encoder = tar.into_inner().map_err(io("write", into))?;
    let mut file = encoder.finish().map_err(io("write", into))?;
    std::io::Write::flush(&mut file).map_err(io("write", into))?;
    Ok(total)
}

/// The link's target as it holds anywhere, if it does.
fn inside(base: &Path, link: &Path, target: PathBuf) -> Result<PathBuf, PackError> {
    let relative = match target.strip_prefix(base) {
        Ok(below) if target.is_absolute() => {
            let up = link.components().count().saturating_sub(1);
            std::iter::repeat_n(Path::new(".."), up)
                .collect::<PathBuf>()
                .join(below)
        }
        Ok(_) | Err(_) => target,
    };
    if leaves(link, &relative) {
        return Err(PackError::Link {
            path: link.to_owned(),
            target: relative,
        });
    }
    Ok(relative)
}

fn walk(base: &Path, relative: &Path, entries: &mut Vec<PathBuf>) -> Result<(), PackError> {
    let dir = base.join(relative);
    for entry in std::fs::read_dir(&dir).map_err(io("read", &dir))? {
        let entry = entry.map_err(io("read", &dir))?;
        let path = relative.join(entry.file_name());
        let kind = entry.file_type().map_err(io("read", &dir))?;
        if entries.len() >= ENTRIES_MAX {
            return Err(PackError::TooMany {
                path: base.to_owned(),
                limit: ENTRIES_MAX,
            });
        }
        entries.push(path.clone());
        if kind.is_dir() {
            walk(base, &path, entries)?;
        }
    }
    Ok(())
}
