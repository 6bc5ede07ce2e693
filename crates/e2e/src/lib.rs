//! Starts the real `moonshot` and speaks to it as a person does: through its command line.
//!
//! The binary is built by `cargo xtask test` and named by `MOONSHOT_BIN`; each [`Installation`] has a
//! data directory and ports of its own, so tests run side by side.

pub mod as_nobody;
pub mod dice;
pub mod git;
pub mod installation;
pub mod kubectl;
pub mod postgres;
pub mod python;
pub mod quickstart;
pub mod s3;
pub mod storage;
pub mod tree_models;
pub mod wait;

pub use dice::Dice;
pub use installation::{Installation, Output, ask, ask_with, free_ports, moonshot};
pub use kubectl::{kubeconfig_of, kubectl, try_kubectl};
pub use postgres::Postgres;
pub use python::{python, python_and};
pub use storage::Storage;
pub use wait::{eventually, eventually_ok, eventually_some};
