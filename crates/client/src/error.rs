//! What can go wrong between a client and a server.

use api::Problem;
use base::{Code, Retry};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configured server is not a URL.
    #[error("`{0}` is not the URL of a server; write for example `http://127.0.0.1:7070`")]
    BadServer(String),
    /// The configured token or certificate cannot be used.
    #[error("the {0} cannot be used")]
    BadCredential(&'static str),
    /// The HTTP client could not be made.
    #[error("cannot set up the connection")]
    Setup(#[source] reqwest::Error),
    /// No connection.
    #[error(
        "cannot reach `{server}`: is it running? `moonshot up` starts one here, `moonshot context list` shows where this command looks"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("`{server}` did not answer in time")]
    Timeout {
        /// Where.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke in the middle.
    #[error("the connection to `{server}` broke")]
    Broken {
        /// Where.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused, and says why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The answer is not what this client understands.
    #[error("the answer of `{server}` is not understood; is it a Moonshot server of this version?")]
    Answer {
        /// Where.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was to be sent could not be read, or what came could not be written.
    #[error("cannot {what}")]
    Local {
        /// What was being done.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A WebSocket broke.
    #[error("the connection to the replica broke")]
    Socket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
}

impl ClientError {
    /// What kind of failure it is.
    pub fn code(&self) -> Code {
        match self {
            ClientError::BadServer(_) | ClientError::BadCredential(_) => Code::Invalid,
            ClientError::Setup(_) | ClientError::Answer { .. } | ClientError::Local { .. } => {
                Code::Internal
            }
            ClientError::Unreachable { .. }
            | ClientError::Broken { .. }
            | ClientError::Socket(_) => Code::Unavailable,
            ClientError::Timeout { .. } => Code::Timeout,
            ClientError::Refused(problem) => {
                Code::from_word(&problem.code).unwrap_or(Code::Internal)
            }
        }
    }

    /// Whether the same call can succeed later.
    pub fn retry(&self) -> Retry {
        self.code().retry()
    }

    /// The server's own words, where it answered.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            ClientError::Refused(problem) => Some(problem),
            ClientError::BadServer(_)
            | ClientError::BadCredential(_)
            | ClientError::Setup(_)
            | ClientError::Unreachable { .. }
            | ClientError::Timeout { .. }
            | ClientError::Broken { .. }
            | ClientError::Answer { .. }
            | ClientError::Local { .. }
            | ClientError::Socket(_) => None,
        }
    }
}
