//! A reader that fails at the end when what it read is not what its name says.

use crate::backend::Reader;
use base::Digest;
use sha2::{Digest as _, Sha256};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// See the module.
pub(crate) struct Checked {
    inner: Reader,
    hash: Sha256,
    wanted: Digest,
}

impl Checked {
    pub(crate) fn new(inner: Reader, wanted: Digest) -> Checked {
        Checked {
            inner,
            hash: Sha256::new(),
            wanted,
        }
    }
}

impl AsyncRead for Checked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let asked = into.remaining() > 0;
        ready!(self.inner.as_mut().poll_read(cx, into))?;
        let read = &into.filled()[before..];
        if !read.is_empty() || !asked {
            self.hash.update(read);
            return Poll::Ready(Ok(()));
        }
        let found = Digest(self.hash.clone().finalize().into());
        if found == self.wanted {
            return Poll::Ready(Ok(()));
        }
        let text = format!("content {} is damaged: it reads as {found}", self.wanted);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)))
    }
}
