//! Content-addressed bytes: code, outputs, models. Each project has a place of its own; content is found by its
//! SHA-256 and never changes. Two back ends keep it: a directory, and a bucket of an S3 service.
//!
//! [`TenantPath`] is the only way to a byte: a project's name that could leave its place is refused when it is
//! made. Content is written to a draft on this machine first and appears whole or not at all; its digest is
//! checked when it is read.
//!
//! What it does not know: who needs which content, and how much a project may keep. The server's database does,
//! and tells it what to remove.
//!
//! Read [`Store`], then `backend` (what a back end promises), then `directory` and `s3`.

mod backend;
mod cache;
mod checked;
mod directory;
mod drafts;
pub mod elsewhere;
mod error;
mod path;
mod s3;
mod store;

pub use backend::{Entry, Reader};
pub use error::StoreError;
pub use path::{TenantPath, shard};
pub use s3::S3Config;
pub use store::{Kept, Store};
