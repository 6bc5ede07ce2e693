//! Secret files: made once, readable by their owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a secret file, or makes it with what `make` returns. Two processes that start at once agree.
pub fn read_or_make(path: &Path, make: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut made = OpenOptions::new();
    made.write(true).create_new(true).mode(0o600);
    // Written beside its place and linked there, so that nobody reads half of it.
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    if !path.exists() {
        let mut file = made.open(&draft)?;
        file.write_all(&make())?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        if let Err(error) = linked
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
    }
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// 32 random bytes.
pub fn random() -> Vec<u8> {
    let mut bytes = vec![0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/key");
        let first = read_or_make(&path, random).unwrap();
        assert_eq!(read_or_make(&path, random).unwrap(), first);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }
}
