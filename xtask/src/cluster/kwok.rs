//! Simulated nodes: kwok keeps them Ready and lets their pods run, without a machine behind them.

use super::build::Programs;
use super::layout::{Layout, failed};
use super::process::await_that;
use crate::sh::{self, Done};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Nodes in one rack.
const RACK: usize = 16;
/// The label that tells simulated nodes.
const SELECTOR: &str = "type=kwok";

/// Adds `n` nodes `kwok-0` … with 96 CPUs, 1 TiB and eight GPUs each, and waits until all are Ready.
pub(super) fn add(layout: &Layout, programs: &Programs, n: usize) -> Done {
    let capacity = json!({"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"});
    let nodes: Vec<serde_json::Value> = (0..n)
        .map(|i| {
            let name = format!("kwok-{i}");
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {
                        "type": "kwok",
                        "kubernetes.io/hostname": name,
                        "topology.kubernetes.io/rack": format!("r{}", i / RACK),
                        "topology.kubernetes.io/zone": format!("z{}", i / RACK / RACK),
                        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
                    },
                },
                // Pods that are not meant for them stay away.
                "spec": {"taints": [{"key": "kwok", "effect": "NoSchedule"}]},
                "status": {"allocatable": capacity, "capacity": capacity},
            })
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": nodes});
    let path = layout.dir.join("kwok-nodes.json");
    fs::write(&path, list.to_string()).map_err(|error| failed(&path, &error))?;
    let kubectl = |args: &[&str]| {
        let mut command = programs.command("kubectl");
        command
            .args(args)
            .env("KUBECONFIG", layout.kubeconfig("admin"));
        command
    };
    let mut create = kubectl(&["create", "-f", &path.display().to_string()]);
    create.stdout(std::process::Stdio::null());
    sh::run(&mut create)?;
    let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
    await_that(
        layout,
        "simulated nodes are ready",
        Duration::from_secs(120),
        || {
            sh::read(&mut kubectl(&["get", "nodes", "-l", SELECTOR, "-o", ready])).is_ok_and(
                |said| {
                    said.split_whitespace()
                        .filter(|word| *word == "True")
                        .count()
                        >= n
                },
            )
        },
    )
}
