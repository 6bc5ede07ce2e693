//! The small parent of every program, and the files it shares with an engine.
//!
//! `moonshot-shim` owns a program's pipes, numbers its output, spools it to disk, stops it when
//! asked and writes how it ended. It outlives the server: an engine that comes back finds everything
//! in the run's directory. This library is the other half: the engine reads and writes the same
//! files with it. The files are versioned ([`record::VERSION`], the magic of a spool segment), with
//! golden copies under `tests/golden`.
//!
//! ```text
//! <run>/started   who runs this run: made once, before the program exists; a second shim gives up
//! <run>/running   the program's pid, once it exists
//! <run>/ctl       a FIFO: any byte makes the shim read `stop`
//! <run>/stop      the engine asks the program to end
//! <run>/exit      how it ended
//! <spool>/*.seg   numbered output, shared by the runs of one replica
//! ```
//!
//! What it deliberately does not do: restart (the engine starts a new run), probe, prepare files,
//! make cgroups, or speak to a network.
//!
//! Read [`record`], then [`frame`] and [`spool`]; the program itself starts in `main.rs`.

pub mod frame;
pub mod identity;
pub mod record;
pub mod spool;
pub mod variables;
