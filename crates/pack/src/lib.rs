//! Directories as one file: a tar, compressed with zstd, the same bytes for the same content (sorted names, no
//! times or owners). Code, outputs and models travel and are kept in this form; whoever uploads them with
//! another program may use any tar without sparse files.
//!
//! Unpacking is for bytes of strangers: it leaves the destination under no circumstances, and what an archive
//! may hold is bounded in bytes, entries and lengths of names. It keeps no owners and no special modes.
//!
//! Read [`pack()`], then [`unpack()`]; `guard` holds the bounds that the tar reader does not have.

mod guard;
mod pack;
mod read;
mod unpack;

pub use pack::{pack, pack_files};
pub use read::read_file;
pub use unpack::{Limits, unpack, unpack_any};

use std::path::{Component, Path, PathBuf};

/// The most entries of an archive, in and out.
pub const ENTRIES_MAX: usize = 1_000_000;
/// The longest path of an entry and target of a link, in bytes: Linux' `PATH_MAX`.
pub const NAME_BYTES_MAX: usize = 4_096;

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
    /// It holds more entries than allowed.
    #[error("`{path}` holds more than {limit} files and directories")]
    TooMany {
        /// Which directory or archive.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// An entry would leave the destination, or is neither file, directory nor link.
    #[error("entry `{0}` is not a file, directory or link inside the archive")]
    Entry(PathBuf),
    /// A link leads out of the directory: what it means elsewhere is not what it means here.
    #[error(
        "link `{path}` points to `{target}`, outside of the directory; copy what it points to, or leave it out"
    )]
    Link {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// The archive is not the one that was asked for.
    #[error("the archive has digest {found}, not {wanted}: it is damaged")]
    Differs {
        /// As asked for.
        wanted: base::Digest,
        /// As read.
        found: base::Digest,
    },
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

impl PackError {
    /// Whether the disk is full: then the archive is not to blame.
    pub fn is_full(&self) -> bool {
        matches!(self, PackError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }
}

fn io(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> PackError + use<> {
    let path = path.to_owned();
    move |source| PackError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

/// What an error while an archive is read means.
fn of_archive(from: &Path) -> impl Fn(std::io::Error) -> PackError + Copy {
    move |error| match guard::Refused::of(&error) {
        Some(guard::Refused::TooMany(limit)) => PackError::TooMany {
            path: from.to_owned(),
            limit,
        },
        Some(guard::Refused::Entry(name)) => PackError::Entry(name.into()),
        None => io("read", from)(error),
    }
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
mod tests;
