//! Content of a bucket as files of this machine, for whoever unpacks it. Bounded: what was used longest ago goes.

use crate::error::io;
use crate::{StoreError, TenantPath};
use base::Digest;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The most bytes at rest. What is fetched at the moment comes on top.
const BYTES_MAX: u64 = 20 << 30;
/// What was used so recently stays: somebody may be about to open it.
const IN_USE: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    bytes_max: u64,
}

impl Cache {
    pub(crate) fn open(root: PathBuf) -> Result<Cache, StoreError> {
        std::fs::create_dir_all(&root).map_err(io("make", &root))?;
        Ok(Cache {
            root,
            bytes_max: BYTES_MAX,
        })
    }

    /// The file, if it is there; it is then in use.
    pub(crate) fn get(&self, project: &TenantPath, digest: &Digest) -> Option<PathBuf> {
        let path = self.root.join(project.key(digest));
        let file = std::fs::File::options().append(true).open(&path).ok()?;
        file.set_modified(SystemTime::now()).ok()?;
        Some(path)
    }

    /// Where a file belongs; its directory is made, and room for it.
    pub(crate) fn place(
        &self,
        project: &TenantPath,
        digest: &Digest,
        size: u64,
    ) -> Result<PathBuf, StoreError> {
        self.evict(size, SystemTime::now())?;
        let path = self.root.join(project.key(digest));
        let parent = path.parent().expect("content lies in a directory");
        std::fs::create_dir_all(parent).map_err(io("make", parent))?;
        Ok(path)
    }

    fn evict(&self, size: u64, now: SystemTime) -> Result<(), StoreError> {
        let mut files = Vec::new();
        collect(&self.root, &mut files).map_err(io("list", &self.root))?;
        files.sort();
        let mut total = files.iter().map(|(_, size, _)| size).sum::<u64>() + size;
        for (used, size, path) in files {
            let is_in_use = now.duration_since(used).is_ok_and(|age| age < IN_USE);
            if total <= self.bytes_max || is_in_use {
                break;
            }
            std::fs::remove_file(&path).map_err(io("remove", &path))?;
            total -= size;
        }
        Ok(())
    }
}

fn collect(dir: &Path, files: &mut Vec<(SystemTime, u64, PathBuf)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_and_what_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache {
            bytes_max: 25,
            ..Cache::open(root.path().to_owned()).unwrap()
        };
        let project = TenantPath::new("p").unwrap();
        let now = SystemTime::now();
        let put = |n: u8, minutes: u64| {
            let path = cache.root.join(project.key(&Digest([n; 32])));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, [0; 10]).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(60 * minutes))
                .unwrap();
        };
        put(1, 40);
        put(2, 60);
        put(3, 1);
        cache.evict(5, now).unwrap();
        let is_there = |n: u8| cache.root.join(project.key(&Digest([n; 32]))).exists();
        assert_eq!([1, 2, 3].map(is_there), [true, false, true]);
        cache.evict(100, now).unwrap();
        assert_eq!([1, 2, 3].map(is_there), [false, false, true]);
    }
}
