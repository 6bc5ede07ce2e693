//! One small file out of an archive, without unpacking it.

use crate::guard::Guard;
use crate::{ENTRIES_MAX, PackError, io, of_archive};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// The content of the file with this path, or `None` where the archive has no such file. One of more than `limit` bytes
/// is an error.
pub fn read_file(from: &Path, wanted: &Path, limit: u64) -> Result<Option<Vec<u8>>, PackError> {
    let file = File::open(from).map_err(io("read", from))?;
    let decoder = zstd::Decoder::with_buffer(BufReader::new(file)).map_err(io("read", from))?;
    let mut archive = tar::Archive::new(Guard::new(decoder, ENTRIES_MAX));
    let failed = of_archive(from);
    let plain = |path: &Path| -> PathBuf {
        let parts = path.components();
        parts.filter(|part| *part != Component::CurDir).collect()
    };
    let wanted = plain(wanted);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        if !is_file || plain(&entry.path().map_err(failed)?) != wanted {
            continue;
        }
        if entry.size() > limit {
            return Err(PackError::TooLarge {
                path: wanted,
                limit,
            });
        }
        let mut content = Vec::new();
        entry
            .take(limit)
            .read_to_end(&mut content)
            .map_err(failed)?;
        return Ok(Some(content));
    }
    Ok(None)
}
