//! Makes Rust of the messages under `proto/`, without a `protoc` on the machine.

use prost::Message as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "error_codes.proto",
        "tensorflow.proto",
        "serving.proto",
        "inference.proto",
        "health.proto",
    ];
    let set = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // For reflection.
    std::fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        // Strings and contents of tensors stay where the message's bytes are.
        .bytes(".")
        .compile_fds(set)?;
    Ok(())
}
