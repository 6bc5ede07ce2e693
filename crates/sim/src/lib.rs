//! Virtual time over the real scheduler: traces, scenarios, replay and what-if.
//!
//! Everything here is repeatable: randomness comes from a seed that is an argument, time is virtual,
//! and the only clock is the stopwatch that measures how long decisions took.
//! Start with [`cli`], which names every command, then [`life`], which lives through what happens, and
//! [`policy`], who decides.

pub mod bench;
pub mod cli;

pub mod dlrm;
pub mod openb;
pub mod philly;
pub mod tidal;

pub mod change;
pub mod life;
pub mod scenario;
pub mod whatif;

pub mod plain;
pub mod policies;
pub mod policy;

pub mod specs;

pub mod waits;

mod cells;
mod chart;
mod data;
mod dice;

pub use data::{DataError, data_dir};
pub use dice::Dice;
