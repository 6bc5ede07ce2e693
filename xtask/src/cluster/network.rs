//! The node's network: a bridge whose pods reach each other and the node, and nothing else. Kernel settings that are changed
//! are written down first and put back by [`remove`].

use super::layout::{BRIDGE, KWOK_PODS, Layout, SERVICES, failed};
use crate::sh::{self, Done, Failure};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// What is needed, and what the kubelet changes by itself (no value).
const SETTINGS: &[(&str, Option<&str>)] = &[
    ("net/ipv4/ip_forward", Some("1")),
    ("net/bridge/bridge-nf-call-iptables", Some("1")),
    ("kernel/panic", None),
    ("kernel/panic_on_oops", None),
    ("vm/overcommit_memory", None),
];
/// Tables of nft that this cluster, its enforcer and kube-proxy make.
const TABLES: &[&str] = &[
    "inet moonshot",
    "inet moonshot-netpol",
    "ip kube-proxy",
    "ip6 kube-proxy",
];

/// Makes it.
pub(super) fn make(layout: &Layout) -> Done {
    let mut before = String::new();
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/{name}");
        let Ok(found) = fs::read_to_string(&path) else {
            continue;
        };
        before.push_str(&format!("{name} {}\n", found.trim()));
        if let Some(value) = value {
            fs::write(&path, value).map_err(|error| failed(path.as_ref(), &error))?;
        }
    }
    let kept = layout.dir.join("sysctls");
    fs::write(&kept, before).map_err(|error| failed(&kept, &error))?;
    let address = format!("{}/24", layout.address());
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["addr", "replace", &address, "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    // From the node to Services: never by way of the default route.
    ip(&["route", "replace", SERVICES, "dev", BRIDGE])?;
    ip(&["route", "replace", "blackhole", KWOK_PODS])?;
    nft(&format!(
        "table inet moonshot {{
  chain forward {{
    type filter hook forward priority filter - 20
    iifname \"{BRIDGE}\" oifname != \"{BRIDGE}\" reject
    oifname \"{BRIDGE}\" iifname != \"{BRIDGE}\" drop
  }}
}}
"
    ))
}

/// Removes it. What is not there is no error.
pub(super) fn remove(layout: &Layout) {
    quietly("ip", &["link", "del", BRIDGE]);
    quietly("ip", &["route", "del", "blackhole", KWOK_PODS]);
    for table in TABLES {
        let mut words = vec!["delete", "table"];
        words.extend(table.split(' '));
        quietly("nft", &words);
    }
    let before = fs::read_to_string(layout.dir.join("sysctls")).unwrap_or_default();
    for line in before.lines() {
        if let Some((name, value)) = line.split_once(' ')
            && let Err(error) = fs::write(format!("/proc/sys/{name}"), value)
        {
            sh::say(&format!("cannot set {name} back to {value}: {error}"));
        }
    }
}

fn ip(args: &[&str]) -> Done {
    sh::run(&mut sh::command("ip", args))
}

fn nft(rules: &str) -> Done {
    let start = |error: std::io::Error| Failure::new(format!("cannot run nft: {error}"));
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(rules.as_bytes()).map_err(start)?;
    }
    let status = nft.wait().map_err(start)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("nft refused its rules: {status}")))
    }
}

fn quietly(program: &str, args: &[&str]) {
    // Removing what is not there fails, and that is what was wanted.
    let _ = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
