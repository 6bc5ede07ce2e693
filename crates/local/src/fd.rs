//! Waiting for descriptors that tokio has no type for: pidfds and terminals.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Registers an owned descriptor with the runtime.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        unsafe_code,
        reason = "tokio cannot express that a descriptor is owned in its bound"
    )]
    // SAFETY: an `OwnedFd` stays open, and stays the same descriptor, until it is dropped, and
    // `AsyncFd` takes it off the runtime before that.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(io::Error::from)
}
