//! The contract of the control database: every case runs on SQLite and on PostgreSQL.

#![expect(
    clippy::disallowed_methods,
    reason = "concurrent callers are tasks here, and each case waits for its own"
)]

mod both;

mod access;
mod backup;
mod blobs;
mod check;
mod events;
mod feed;
mod leases;
mod migrations;
mod objects;
mod placements;
mod postgres;
mod sample;
mod sqlite;
mod writes;
