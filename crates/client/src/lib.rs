//! Typed client of the Moonshot API. The only crate that names an HTTP client.
//!
//! It sends requests and reads answers; it repeats nothing by itself but a broken stream, which it
//! resumes where it ended. Every error says what kind it is ([`ClientError::code`]) and whether to try
//! again. Start with [`Client`].

mod actions;
mod blobs;
mod error;
mod http;
mod logs;
mod objects;
mod platform;
mod socket;
mod sse;
mod watch;

pub use blobs::Progress;
pub use error::ClientError;
pub use http::{Client, Config};
pub use logs::{LogQuery, LogText, Logs};
pub use objects::{ApplyOptions, ListQuery, Page};
pub use platform::AppAnswer;
pub use socket::{ExecReceiver, ExecSender, ExecTarget, PortReceiver, PortSender};
pub use watch::{Watch, WatchQuery};
