//! What a back end promises. Every one passes the same suite (`tests/it/contract.rs`).

use crate::drafts::Draft;
use crate::{StoreError, TenantPath};
use base::Digest;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::SystemTime;
use tokio::io::AsyncRead;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes of content, in order.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Content as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// When it was kept; never later than now by more than the clocks differ.
    pub kept_at: SystemTime,
}

/// Keeps whole content under digests.
pub(crate) trait Backend: Send + Sync {
    /// Whether the back end can be reached and written to, as far as reading shows it.
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Keeps a draft. Visible whole once this returns, and before that not at all, whatever dies meanwhile. Content
    /// that is there already stays as it is and is as young as new.
    fn keep<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
        draft: Draft,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The content's bytes, and how many; `None` where there is none.
    fn read<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<(u64, Reader)>, StoreError>>;

    /// How many bytes content has; `None` where there is none.
    fn size<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// The file of this machine that is the content, where the back end has files.
    fn file(&self, project: &TenantPath, digest: &Digest) -> Option<PathBuf>;

    /// Projects that may have content, in no order. Names that are none of ours are left out.
    fn projects(&self) -> BoxFuture<'_, Result<Vec<TenantPath>, StoreError>>;

    /// What is kept in one of a project's 256 parts (see [`crate::shard`]), in no order.
    fn list<'a>(
        &'a self,
        project: &'a TenantPath,
        shard: u8,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>>;

    /// Removes content; what is not there is no error.
    fn remove<'a>(
        &'a self,
        project: &'a TenantPath,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}
