//! What this program can be besides a command line: the server, the gateway, and `up` and `down`, which
//! start and stop both on this machine.

pub(crate) mod database;
pub(crate) mod down;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod kubernetes;
pub(crate) mod quickstart;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod settings_text;
pub(crate) mod store;
pub(crate) mod up;
