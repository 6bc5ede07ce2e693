//! A request's body on its way to one of several replicas.

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// A request's body that can be offered to another replica as long as nobody began to read it.
#[derive(Clone, Debug)]
pub(crate) struct Once(Arc<Mutex<Begun>>);

#[derive(Debug)]
struct Begun {
    body: Incoming,
    begun: bool,
}

impl Once {
    /// Nobody has read it yet.
    pub(crate) fn new(body: Incoming) -> Once {
        Once(Arc::new(Mutex::new(Begun { body, begun: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        // Only one side reads at a time; a panic there ends the request.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody began to read it.
    pub(crate) fn has_begun(&self) -> bool {
        self.lock().begun
    }
}

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut begun = self.lock();
        begun.begun = true;
        Pin::new(&mut begun.body).poll_frame(ctx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
