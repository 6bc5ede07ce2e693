//! The store: drafts, digests and one back end.

use crate::backend::{Backend, Entry, Reader};
use crate::cache::Cache;
use crate::checked::Checked;
use crate::directory::Directory;
use crate::drafts::{Draft, Drafts};
use crate::error::io;
use crate::s3::{Bucket, S3Config};
use crate::{StoreError, TenantPath};
use base::Digest;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// All projects' bytes. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    drafts: Drafts,
    /// Where the back end has no files of this machine.
    cache: Option<Cache>,
}

/// Content that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, as they are kept.
    pub size: u64,
}

impl Store {
    /// A store in this directory, which is made if it is missing.
    pub fn directory(root: &Path) -> Result<Store, StoreError> {
        Ok(Store {
            // Beside the content: a draft becomes content by its name alone.
            drafts: Drafts::open(&root.join("drafts"))?,
            backend: Arc::new(Directory::open(root)?),
            cache: None,
        })
    }

    /// A store in a bucket. Drafts and what was fetched lie in `local`, a directory of this machine.
    pub fn s3(config: &S3Config, local: &Path) -> Result<Store, StoreError> {
        Ok(Store {
            drafts: Drafts::open(&local.join("drafts"))?,
            backend: Arc::new(Bucket::open(config)?),
            cache: Some(Cache::open(local.join("fetched"))?),
        })
    }

    /// Whether the store can be reached.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.backend.check().await
    }

    /// Keeps what a reader gives; at most `limit` bytes. With `wanted` other content is refused. Content that is
    /// kept already is kept once.
    pub async fn put(
        &self,
        project: &TenantPath,
        mut reader: impl AsyncRead + Unpin,
        limit: u64,
        wanted: Option<Digest>,
    ) -> Result<Kept, StoreError> {
        let (file, path) = self.drafts.make()?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let failed = io("write", &path);
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = reader.read(&mut chunk).await.map_err(StoreError::Sender)?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if size > limit {
                return Err(StoreError::TooLarge { limit });
            }
            hash.update(&chunk[..n]);
            file.write_all(&chunk[..n]).await.map_err(&failed)?;
        }
        file.flush().await.map_err(&failed)?;
        file.sync_all().await.map_err(&failed)?;
        let found = Digest(hash.finalize().into());
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(StoreError::Differs { wanted, found });
        }
        let draft = Draft { path, size };
        self.backend.keep(project, &found, draft).await?;
        Ok(Kept {
            digest: found,
            size,
        })
    }

    /// Packs a file or directory of at most `limit` bytes and keeps it, if the archive has at most `room` bytes; what
    /// is kept, and the bytes of its files.
    pub async fn keep(
        &self,
        project: &TenantPath,
        path: &Path,
        limit: u64,
        room: u64,
    ) -> Result<(Kept, u64), StoreError> {
        let draft = self.drafts.make()?;
        let (from, into) = (path.to_owned(), draft.path().to_owned());
        let packed = tokio::task::spawn_blocking(move || pack::pack(&from, &into, limit)).await;
        let of_files =
            packed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let file = tokio::fs::File::open(draft.path())
            .await
            .map_err(io("read", draft.path()))?;
        let kept = self.put(project, file, room, None).await?;
        Ok((kept, of_files))
    }

    /// How many bytes content has.
    pub async fn size(&self, project: &TenantPath, digest: &Digest) -> Result<u64, StoreError> {
        let size = self.backend.size(project, digest).await?;
        size.ok_or(StoreError::Missing(*digest))
    }

    /// The content's bytes, and how many. Reading fails at its end when they are not those that the digest names.
    pub async fn read(
        &self,
        project: &TenantPath,
        digest: &Digest,
    ) -> Result<(u64, Reader), StoreError> {
        let found = self.backend.read(project, digest).await?;
        let (size, reader) = found.ok_or(StoreError::Missing(*digest))?;
        Ok((size, Box::pin(Checked::new(reader, *digest))))
    }

    /// A file of this machine with the content. It is not to be written to, and may go once it was not used for some
    /// minutes. From a bucket it is fetched, and checked; in a directory whoever reads it checks it.
    pub async fn fetch(
        &self,
        project: &TenantPath,
        digest: &Digest,
    ) -> Result<PathBuf, StoreError> {
        let Some(cache) = &self.cache else {
            let file = self.backend.file(project, digest);
            return file
                .filter(|file| file.exists())
                .ok_or(StoreError::Missing(*digest));
        };
        if let Some(path) = cache.get(project, digest) {
            return Ok(path);
        }
        let (size, mut reader) = self.read(project, digest).await?;
        let (cache, whose, which) = (cache.clone(), project.clone(), *digest);
        let make_room = move || cache.place(&whose, &which, size);
        let place = tokio::task::spawn_blocking(make_room).await;
        let place = place.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let (file, draft) = self.drafts.make()?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = reader.read(&mut chunk).await;
            let n = read.map_err(|source| StoreError::S3 {
                operation: "fetch",
                key: digest.to_string(),
                source: Box::new(source),
            })?;
            if n == 0 {
                break;
            }
            file.write_all(&chunk[..n])
                .await
                .map_err(io("write", &draft))?;
        }
        file.flush().await.map_err(io("write", &draft))?;
        draft.persist(&place).map_err(|error| StoreError::Io {
            operation: "keep",
            path: place.clone(),
            source: error.error,
        })?;
        Ok(place)
    }

    /// One small file of packed content; `None` where there is none with this path. One of more than `limit` bytes is an
    /// error.
    pub async fn file_of(
        &self,
        project: &TenantPath,
        digest: &Digest,
        file: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let packed = self.fetch(project, digest).await?;
        let file = file.to_owned();
        let read = tokio::task::spawn_blocking(move || pack::read_file(&packed, &file, limit));
        let read = read.await;
        Ok(read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
    }

    /// A directory of this machine for work on the way. It goes when it is dropped, or after its process is gone.
    pub fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        self.drafts.scratch()
    }

    /// Projects that may have content.
    pub async fn projects(&self) -> Result<Vec<TenantPath>, StoreError> {
        self.backend.projects().await
    }

    /// What is kept in one of a project's 256 parts; see [`crate::shard`].
    pub async fn list(&self, project: &TenantPath, shard: u8) -> Result<Vec<Entry>, StoreError> {
        self.backend.list(project, shard).await
    }

    /// Removes content for good.
    pub async fn remove(&self, project: &TenantPath, digest: &Digest) -> Result<(), StoreError> {
        self.backend.remove(project, digest).await
    }
}
