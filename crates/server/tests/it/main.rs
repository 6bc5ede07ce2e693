//! The server over its real database and loops, with an engine in memory whose programs do what their command
//! says: `exit N` ends at once, `serve` becomes ready and stays.

mod api;
mod engine;
mod garbage;
mod jobs;
mod models;
mod nodes;
mod projects;
mod promises;
mod queues;
mod routes;
mod server;
