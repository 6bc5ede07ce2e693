//! Checkpoints that survive attempts, until their owner is gone.

use crate::layout::{GONE_PREFIX, Layout};
use base::Uid;
use std::io;

/// Owners that have a directory.
pub(crate) fn owners(layout: &Layout) -> io::Result<Vec<Uid>> {
    let entries = match std::fs::read_dir(layout.all_checkpoints()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut owners = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        // What a killed engine had begun to remove is still the owner's.
        let name = name.strip_prefix(GONE_PREFIX).unwrap_or(&name);
        owners.extend(name.parse::<Uid>().ok());
    }
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}

/// Removes an owner's directory. It has another name first: nothing finds half of it.
pub(crate) fn remove(layout: &Layout, owner: Uid) -> io::Result<()> {
    let gone_already = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    let dir = layout.all_checkpoints().join(owner.to_string());
    let gone = layout
        .all_checkpoints()
        .join(format!("{GONE_PREFIX}{owner}"));
    gone_already(std::fs::remove_dir_all(&gone))?;
    gone_already(std::fs::rename(&dir, &gone))?;
    gone_already(std::fs::remove_dir_all(&gone))
}
