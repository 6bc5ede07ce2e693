//! Content in a directory of this machine, or of a file system that several servers mount.
//!
//! ```text
//! drafts/                          see `drafts`
//! projects/<project>/ab/abcd…      content, named by its digest
//! ```

use crate::backend::{Backend, BoxFuture, Entry, Reader};
use crate::drafts::Draft;
use crate::error::io;
use crate::{StoreError, TenantPath};
use base::Digest;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// See the module.
pub(crate) struct Directory {
    projects: PathBuf,
}

impl Directory {
    pub(crate) fn open(root: &Path) -> Result<Directory, StoreError> {
        let projects = root.join("projects");
        std::fs::create_dir_all(&projects).map_err(io("make", &projects))?;
        Ok(Directory { projects })
    }

    fn place(&self, project: &TenantPath, digest: &Digest) -> PathBuf {
        self.projects.join(project.key(digest))
    }
}

impl Backend for Directory {
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn keep<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
        draft: Draft,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let place = self.place(project, digest);
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || keep(&place, draft)).await;
            work.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        })
    }

    fn read<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<(u64, Reader)>, StoreError>> {
        let place = self.place(project, digest);
        Box::pin(async move {
            let file = match tokio::fs::File::open(&place).await {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(io("read", &place)(error)),
            };
            let size = file.metadata().await.map_err(io("read", &place))?.len();
            Ok(Some((size, Box::pin(file) as Reader)))
        })
    }

    fn size<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        let place = self.place(project, digest);
        Box::pin(async move {
            match tokio::fs::metadata(&place).await {
                Ok(meta) => Ok(Some(meta.len())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(io("read", &place)(error)),
            }
        })
    }

    fn file(&self, project: &TenantPath, digest: &Digest) -> Option<PathBuf> {
        Some(self.place(project, digest))
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<TenantPath>, StoreError>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let entries = std::fs::read_dir(&self.projects).map_err(io("list", &self.projects))?;
            for entry in entries {
                let name = entry.map_err(io("list", &self.projects))?.file_name();
                found.extend(TenantPath::new(&name.to_string_lossy()).ok());
            }
            Ok(found)
        })
    }

    fn list<'a>(
        &'a self,
        project: &'a TenantPath,
        shard: u8,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        let dir = self
            .projects
            .join(project.project())
            .join(format!("{shard:02x}"));
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || list(&dir)).await;
            work.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        })
    }

    fn remove<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let place = self.place(project, digest);
        Box::pin(async move {
            match tokio::fs::remove_file(&place).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(io("remove", &place)(error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }
}

fn keep(place: &Path, draft: Draft) -> Result<(), StoreError> {
    match File::options().append(true).open(place) {
        // Written by this store, so whole: the same content is kept once.
        Ok(kept) => {
            return kept
                .set_modified(SystemTime::now())
                .map_err(io("refresh", place));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io("open", place)(error)),
    }
    let parent = place.parent().expect("content lies in a directory");
    std::fs::create_dir_all(parent).map_err(io("make", parent))?;
    draft.path.persist(place).map_err(|error| StoreError::Io {
        operation: "keep",
        path: place.to_owned(),
        source: error.error,
    })?;
    // The name too shall outlive a power failure.
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(io("keep the name in", parent))
}

fn list(dir: &Path) -> Result<Vec<Entry>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
            continue;
        };
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(io("list", dir)(error)),
        };
        found.push(Entry {
            digest,
            size: meta.len(),
            kept_at: meta.modified().map_err(io("list", dir))?,
        });
    }
    Ok(found)
}
