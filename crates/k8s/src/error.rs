//! Failed calls of the cluster's API as the port speaks of them.

use engine::EngineError;

/// A failed call, with what was tried.
pub(crate) fn failed(operation: impl Into<String>, error: kube::Error) -> EngineError {
    EngineError::Failed {
        operation: operation.into(),
        source: Box::new(error),
    }
}

/// The status code of an answer.
pub(crate) fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the object is not there (any more).
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    status(error) == Some(404)
}

/// Whether it changed meanwhile, or is there already.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    status(error) == Some(409)
}
