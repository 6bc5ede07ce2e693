//! Content from a seed, files below a directory, and a check of everything that is kept.

use base::Digest;
pub(crate) use e2e::Dice;
use e2e::s3::S3Server;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use store::{S3Config, Store, TenantPath};
use tokio::io::AsyncReadExt;

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len.div_ceil(8))
        .flat_map(|_| dice.below(u64::MAX).to_le_bytes())
        .take(len)
        .collect()
}

/// The digest that content must get.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// All files below a directory, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every kept file is whole: its name is the digest of its bytes. How many there are.
pub(crate) fn assert_whole(root: &Path) -> usize {
    let kept = files(&root.join("projects"));
    for path in &kept {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(
            digest(&std::fs::read(path).unwrap()).hex(),
            name,
            "{}",
            path.display()
        );
    }
    kept.len()
}

/// All bytes of content, checked by the store.
pub(crate) async fn read_all(
    store: &Store,
    project: &TenantPath,
    digest: &Digest,
) -> std::io::Result<Vec<u8>> {
    let read = store.read(project, digest).await;
    let (size, mut reader) = read.map_err(std::io::Error::other)?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await?;
    assert_eq!(bytes.len() as u64, size);
    Ok(bytes)
}

/// The bucket of a server in this process.
pub(crate) fn config(server: &S3Server, prefix: &str) -> S3Config {
    let mut config = S3Config::parse(&format!("s3://bucket/{prefix}")).unwrap();
    config.endpoint = Some(server.endpoint().to_owned());
    config.credentials = Some(e2e::s3::credentials());
    config
}
