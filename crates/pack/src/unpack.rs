//! One file into a directory, in one pass: bounds, containment and the digest are checked while it is read.

use crate::guard::{Guard, Refused};
use crate::{NAME_BYTES_MAX, PackError, io, leaves, of_archive};
use base::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path};

/// What an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of its files.
    pub bytes: u64,
    /// The most entries.
    pub entries: usize,
}

impl Limits {
    /// At most these bytes, and [`crate::ENTRIES_MAX`] entries.
    pub fn bytes(bytes: u64) -> Limits {
        Limits {
            bytes,
            entries: crate::ENTRIES_MAX,
        }
    }
}

/// Unpacks into a directory that exists. With a digest, an archive that is not the wanted one is an error. After an
/// error the destination holds a part: whoever calls removes it.
pub fn unpack(
    from: &Path,
    into: &Path,
    limits: Limits,
    wanted: Option<&Digest>,
) -> Result<(), PackError> {
    let file = File::open(from).map_err(io("read", from))?;
    let hashing = Hashing {
        file,
        hash: Sha256::new(),
    };
    let decoder = zstd::Decoder::with_buffer(BufReader::new(hashing)).map_err(io("read", from))?;
    let mut archive = tar::Archive::new(Guard::new(decoder, limits.entries));
    archive.set_preserve_ownerships(false);
    let unpacked = entries(&mut archive, from, into, limits.bytes);
    if let Some(wanted) = wanted {
        // A damaged archive is told as such, whatever the damage looked like.
        let mut rest = archive.into_inner().into_inner().finish();
        std::io::copy(&mut rest, &mut std::io::sink()).map_err(io("read", from))?;
        let found = Digest(rest.into_inner().hash.finalize().into());
        if *wanted != found {
            return Err(PackError::Differs {
                wanted: *wanted,
                found,
            });
        }
    }
    unpacked
}

/// Unpacks a tar as other programs make them: plain, or compressed by gzip or zstd, which its first bytes tell. Otherwise as
/// [`unpack`].
pub fn unpack_any(from: &Path, into: &Path, limits: Limits) -> Result<(), PackError> {
    let failed = io("read", from);
    let mut file = BufReader::new(File::open(from).map_err(&failed)?);
    let first = file.fill_buf().map_err(&failed)?;
    let decoder: Box<dyn Read> = match first {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::with_buffer(file).map_err(&failed)?)
        }
        _ => Box::new(file),
    };
    let mut archive = tar::Archive::new(Guard::new(decoder, limits.entries));
    archive.set_preserve_ownerships(false);
    entries(&mut archive, from, into, limits.bytes)
}

fn entries<R: Read>(
    archive: &mut tar::Archive<Guard<R>>,
    from: &Path,
    into: &Path,
    limit: u64,
) -> Result<(), PackError> {
    let failed = of_archive(from);
    let mut total: u64 = 0;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let kind = entry.header().entry_type();
        let plain = matches!(
            kind,
            tar::EntryType::Regular | tar::EntryType::Directory | tar::EntryType::Symlink
        );
        let link = entry.link_name().map_err(failed)?;
        let is_long = path.as_os_str().len() > NAME_BYTES_MAX;
        if !inside || !plain || is_long || link.is_some_and(|target| leaves(&path, &target)) {
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
        match entry.unpack_in(into) {
            Ok(true) => {}
            Ok(false) => return Err(PackError::Entry(path)),
            Err(error) if Refused::of(&error).is_some() => return Err(failed(error)),
            Err(error) => return Err(io("unpack into", into)(error)),
        }
    }
    Ok(())
}

/// A file that is hashed as it is read.
struct Hashing {
    file: File,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(into)?;
        self.hash.update(&into[..n]);
        Ok(n)
    }
}
