//! A newer version of something beside an older one: who answers next ([`turns()`]), what callers saw of each
//! ([`Counts`]), and when the newer one is given up ([`Window`]).
//!
//! The gateway uses it for the Revisions of an App, the model server for the versions of a model. Nothing here knows
//! the time or the network.

mod counts;
mod turns;
mod verdict;

pub use counts::{Counts, Reading};
pub use turns::turns;
pub use verdict::{LOOK, Limits, Window};
