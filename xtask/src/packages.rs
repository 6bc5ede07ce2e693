//! Debian packages that the tests need. Root installs them; others are told the command.

use crate::sh::{self, Done, Failure};
use std::path::Path;

/// A package and a file that shows it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("postgresql", "/usr/lib/postgresql/15/bin/initdb"),
    ("chromium", "/usr/bin/chromium"),
    // Chinese characters, for the console's pictures.
    (
        "fonts-wqy-microhei",
        "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    ),
    ("python3-venv", "/usr/share/doc/python3-venv"),
    ("curl", "/usr/bin/curl"),
    ("git", "/usr/bin/git"),
    // Certificates of a server that only tests use.
    ("openssl", "/usr/bin/openssl"),
    ("openmpi-bin", "/usr/bin/mpirun"),
    // A Kubernetes node.
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("busybox-static", "/bin/busybox"),
    ("binutils", "/usr/bin/strip"),
    ("iproute2", "/usr/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
];

/// Makes sure that every package is installed.
pub(crate) fn install() -> Done {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, proof)| !Path::new(proof).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !sh::is_root() {
        return Err(Failure::new(format!(
            "packages are missing; install them with:\n  sudo apt-get install -y {list}"
        )));
    }
    sh::say(&format!("installing {list}"));
    let quiet = ["-qq", "-o", "Dpkg::Use-Pty=0"];
    let apt = |words: &[&str]| {
        let mut command = sh::command("apt-get", quiet.iter().chain(words));
        command.env("DEBIAN_FRONTEND", "noninteractive");
        sh::run(&mut command)
    };
    apt(&["update"])?;
    let install = ["install", "-y", "--no-install-recommends"];
    apt(&install.iter().chain(&missing).copied().collect::<Vec<_>>())
}
