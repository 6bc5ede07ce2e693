//! The words every other crate speaks: ids, quantities, time, ranges of addresses, error codes.
//!
//! Plain data over `std`; no I/O, no clock, no randomness. Where a type crosses a process
//! boundary it delegates its serde form to a string or an integer by hand, so that this crate
//! compiles in a second and everything else can depend on it.
//!
//! Start with [`id`], then [`quantity`] and [`time`].

pub mod id;
pub mod name;
pub mod net;
pub mod quantity;
pub mod resources;
pub mod time;

mod code;
mod wire;

pub use code::{Code, Retry};
pub use id::{Attempt, Digest, Epoch, Generation, Index, Seq, Uid, hex};
pub use net::Net;
pub use quantity::{Bytes, MilliCpu};
pub use resources::Resources;
pub use time::{Span, Time};
