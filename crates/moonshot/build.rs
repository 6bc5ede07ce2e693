//! Puts the static shim beside the sources, so that it can be embedded: the file that `MOONSHOT_SHIM` names (xtask
//! builds it), or an empty one.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=MOONSHOT_SHIM");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("shim");
    match std::env::var_os("MOONSHOT_SHIM") {
        Some(shim) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&shim).display());
            std::fs::copy(&shim, &out).expect("MOONSHOT_SHIM names a file");
        }
        None => std::fs::write(&out, b"").expect("OUT_DIR can be written"),
    }
}
