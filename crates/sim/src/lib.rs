//! Virtual time over the real scheduler: traces, scenarios, replay and what-if.
//!
//! Everything here is repeatable: randomness comes from a seed that is an argument, time is virtual,
//! and the only clock is the stopwatch that measures how long decisions took.
//! Start with [`cli`], which names every command, then [`openb`].

pub mod bench;
pub mod cli;
pub mod openb;
pub mod philly;

mod cells;
mod data;
mod dice;
mod flat;

pub use data::{DataError, data_dir};
pub use dice::Dice;
