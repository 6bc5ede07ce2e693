//! The model server: a directory of models in, predictions over the network out.
//!
//! ```text
//!   requests ─ http ─┐ (io: I/O threads)                loader thread
//!              grpc ─▼                                        │ scan · load · warm · check
//!                 models ◄── table of ready versions ─────────┘
//!                    │
//!                  pool: a queue for each version, workers take what waits, merged to batches
//!                    │
//!                 runtime (trait): trees, tensorflow, onnx; isolated: one of the latter in a worker process
//! ```
//!
//! Start with [`Config`] and [`Server`]. [`repository`] says which versions a directory wants, [`models`] holds
//! them and swaps them, [`traffic`] shares requests among several of one model, [`residency`] decides who stays in memory where they do not all fit, [`pool`] queues and runs, [`runtime`] is what a model format must do, `http/` and
//! `grpc/` speak TensorFlow Serving's APIs and the Open Inference Protocol, [`runtimes`] fetches libraries.
//!
//! What it does not do: train, store models, or route between servers.

pub mod config;
mod error;
mod examples;
mod grpc;
mod http;
mod infer;
mod io;
mod loader;
mod metrics;
mod models;
mod pool;
mod proto;
mod recent;
mod records;
mod repository;
mod residency;
pub mod runtime;
pub mod runtimes;
mod server;
pub mod tensor;
mod tensor_proto;
mod traffic;

pub use config::Config;
pub use error::ServeError;
pub use runtime::work;
pub use server::{Server, StartError};
