//! The engine on this machine with real processes, cgroups and files.

mod bench;
mod content;
mod contract;
mod faults;
