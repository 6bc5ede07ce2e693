//! Tests on a real cluster with a node: `cargo xtask test cluster` starts one and names it by `KUBECONFIG`.

mod bench;
mod chart;
mod contract;
mod faults;
mod files;
mod isolation;
mod rights;
mod role;
mod volumes;
