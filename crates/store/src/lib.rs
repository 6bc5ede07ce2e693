//! Content-addressed bytes: code, outputs, models. Each project has a directory of its own; content is
//! found by its SHA-256 and never changes.
//!
//! [`TenantPath`] is the only way to a file: a project's name that could leave its directory is refused when
//! it is made. [`pack`] turns directories into one file and back.

pub mod pack;

use base::{Code, Digest};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Where a project's bytes are. Made only from a name that is a DNS label, so it cannot leave its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPath(String);

impl TenantPath {
    /// For this project.
    pub fn new(project: &str) -> Result<TenantPath, StoreError> {
        match base::name::check(project) {
            Ok(()) => Ok(TenantPath(project.to_owned())),
            Err(reason) => Err(StoreError::Project {
                project: project.chars().take(80).collect(),
                reason: reason.to_string(),
            }),
        }
    }
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The project's name cannot be a directory.
    #[error("project `{project}` {reason}")]
    Project {
        /// The name.
        project: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such content.
    #[error("content {0} is not kept here")]
    Missing(Digest),
    /// The content is larger than allowed.
    #[error("the content has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// What was sent is not what was announced.
    #[error("the content has digest {found}, not {wanted}")]
    Differs {
        /// As announced.
        wanted: Digest,
        /// As read.
        found: Digest,
    },
    /// The disk refused.
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
    /// A directory could not be packed or unpacked.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
}

impl StoreError {
    /// The kind, for clients.
    pub fn code(&self) -> Code {
        match self {
            StoreError::Project { .. } | StoreError::Differs { .. } => Code::Invalid,
            StoreError::Missing(_) => Code::NotFound,
            StoreError::TooLarge { .. } => Code::Exhausted,
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Code::Exhausted
            }
            StoreError::Io { .. } => Code::Unavailable,
            StoreError::Pack(_) => Code::Invalid,
        }
    }
}

/// All projects' bytes in one directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store in this directory, which is made if it is missing.
    pub fn open(root: PathBuf) -> Result<Store, StoreError> {
        let drafts = root.join("drafts");
        // Drafts of a process that died are of no use.
        if drafts.exists() {
            std::fs::remove_dir_all(&drafts).map_err(io("clear", &drafts))?;
        }
        std::fs::create_dir_all(&drafts).map_err(io("make", &drafts))?;
        Ok(Store { root })
    }

    /// Keeps what a reader gives; at most `limit` bytes. With `wanted` other content is refused. Content that is
    /// kept already is kept once.
    pub async fn put(
        &self,
        project: &TenantPath,
        mut reader: impl AsyncRead + Unpin,
        limit: u64,
        wanted: Option<Digest>,
    ) -> Result<(Digest, u64), StoreError> {
        let draft = tempfile::Builder::new()
            .prefix("put-")
            .tempfile_in(self.root.join("drafts"))
            .map_err(io("make a draft in", &self.root))?;
        let (file, draft) = draft.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let failed = io("write", &draft);
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = reader
                .read(&mut chunk)
                .await
                .map_err(io("read what is sent to", &draft))?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if size > limit {
                return Err(StoreError::TooLarge { limit });
            }
            hash.update(&chunk[..n]);
            file.write_all(&chunk[..n])
                .await
                .map_err(io("write", &draft))?;
        }
        file.flush().await.map_err(io("write", &draft))?;
        file.sync_all().await.map_err(failed)?;
        let found = Digest(hash.finalize().into());
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(StoreError::Differs { wanted, found });
        }
        let place = self.place(project, &found);
        if let Ok(kept) = std::fs::File::options().append(true).open(&place) {
            // Young again: collection must not take it before its new holder is written down.
            kept.set_modified(std::time::SystemTime::now())
                .map_err(io("refresh", &place))?;
        } else {
            let parent = place.parent().expect("content lies in a directory");
            std::fs::create_dir_all(parent).map_err(io("make", parent))?;
            draft.persist(&place).map_err(|error| StoreError::Io {
                operation: "keep",
                path: place.clone(),
                source: error.error,
            })?;
        }
        Ok((found, size))
    }

    /// The file that holds this content.
    pub fn path(&self, project: &TenantPath, digest: &Digest) -> Result<PathBuf, StoreError> {
        let place = self.place(project, digest);
        if place.exists() {
            Ok(place)
        } else {
            Err(StoreError::Missing(*digest))
        }
    }

    /// Packs a file or directory and keeps it; its digest, and the bytes of its files.
    pub async fn keep(
        &self,
        project: &TenantPath,
        path: &Path,
        limit: u64,
    ) -> Result<(Digest, u64), StoreError> {
        let draft = tempfile::Builder::new()
            .prefix("pack-")
            .tempfile_in(self.root.join("drafts"))
            .map_err(io("make a draft in", &self.root))?;
        let (from, into) = (path.to_owned(), draft.path().to_owned());
        let packed = tokio::task::spawn_blocking(move || pack::pack(&from, &into, limit)).await;
        let size = packed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let file = tokio::fs::File::open(draft.path())
            .await
            .map_err(io("read", draft.path()))?;
        let (digest, _) = self.put(project, file, u64::MAX, None).await?;
        Ok((digest, size))
    }

    /// Drops content that nobody in `held` names and that was kept before `older_than` seconds ago; how many.
    pub fn collect(
        &self,
        project: &TenantPath,
        held: &[Digest],
        older_than: std::time::Duration,
    ) -> Result<usize, StoreError> {
        let dir = self.root.join("projects").join(&project.0);
        let mut dropped = 0;
        let Ok(shards) = std::fs::read_dir(&dir) else {
            return Ok(0);
        };
        for entry in shards
            .flatten()
            .filter_map(|shard| std::fs::read_dir(shard.path()).ok())
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
                continue;
            };
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|at| at.elapsed().ok());
            if held.contains(&digest) || age.is_none_or(|age| age < older_than) {
                continue;
            }
            std::fs::remove_file(entry.path()).map_err(io("drop", &entry.path()))?;
            dropped += 1;
        }
        Ok(dropped)
    }

    fn place(&self, project: &TenantPath, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root
            .join("projects")
            .join(&project.0)
            .join(&hex[..2])
            .join(&hex)
    }
}

fn io(operation: &'static str, path: &Path) -> impl Fn(std::io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn content_is_found_by_its_digest_and_kept_once() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned()).unwrap();
        let a = TenantPath::new("a").unwrap();
        let (digest, size) = store.put(&a, &b"hello"[..], 10, None).await.unwrap();
        // `printf hello | sha256sum`
        assert_eq!(
            digest.to_string(),
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(size, 5);
        assert_eq!(
            store
                .put(&a, &b"hello"[..], 10, Some(digest))
                .await
                .unwrap(),
            (digest, 5)
        );
        assert_eq!(
            std::fs::read(store.path(&a, &digest).unwrap()).unwrap(),
            b"hello"
        );
        let b = TenantPath::new("b").unwrap();
        assert!(
            matches!(store.path(&b, &digest), Err(StoreError::Missing(_))),
            "another project does not see it"
        );
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned()).unwrap();
        let a = TenantPath::new("a").unwrap();
        assert!(matches!(
            store.put(&a, &b"hello"[..], 4, None).await,
            Err(StoreError::TooLarge { limit: 4 })
        ));
        let other = Digest([1; 32]);
        assert!(matches!(
            store.put(&a, &b"hello"[..], 9, Some(other)).await,
            Err(StoreError::Differs { .. })
        ));
        assert_eq!(
            std::fs::read_dir(root.path().join("drafts"))
                .unwrap()
                .count(),
            0
        );
        for name in ["", "..", "a/b", "A", "a\0b"] {
            assert!(TenantPath::new(name).is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn collection_drops_only_what_is_old_and_not_held() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned()).unwrap();
        let a = TenantPath::new("a").unwrap();
        let (held, _) = store.put(&a, &b"held"[..], 10, None).await.unwrap();
        let (free, _) = store.put(&a, &b"free"[..], 10, None).await.unwrap();
        assert_eq!(
            store.collect(&a, &[held], Duration::from_secs(60)).unwrap(),
            0,
            "too young"
        );
        assert_eq!(store.collect(&a, &[held], Duration::ZERO).unwrap(), 1);
        assert!(store.path(&a, &held).is_ok() && store.path(&a, &free).is_err());
    }
}
