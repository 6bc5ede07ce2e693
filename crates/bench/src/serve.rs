//! `serve.*`: the model server. Requests a second beside the servers that people use today ([`rest`]), the evaluator of
//! trees beside the C libraries ([`trees`]), what the server adds to a call of a library ([`native`]), how soon it is
//! ready ([`start`]), what is left of it under too much load ([`overload`]) and while models change ([`swap`]), models that do not all fit ([`many`]), and
//! what recorded requests are good for ([`warm`]).
//!
//! [`models`] makes models with their own frameworks, [`process`] and [`peers`] start servers, [`load`] is the process
//! that asks, the same for every server.

mod c_graphs;
mod c_trees;
mod grpc;
pub(crate) mod load;
pub(crate) mod many;
mod models;
pub(crate) mod native;
pub(crate) mod overload;
mod peers;
mod process;
pub(crate) mod rest;
pub(crate) mod start;
pub(crate) mod swap;
pub(crate) mod trees;
pub(crate) mod warm;
mod wire;
