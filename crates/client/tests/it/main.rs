//! The client against small servers that say exactly what each test needs.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod calls;
mod exec;
mod server;
mod streams;
