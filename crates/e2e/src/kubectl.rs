//! The cluster under test, as its administrator sees it: `cargo xtask test cluster` starts one and says where it is.

use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// What `kubectl` says to these arguments and this input; it must succeed.
///
/// # Panics
/// Where it does not, with what it said.
#[track_caller]
pub fn kubectl(args: &[&str], input: &str) -> String {
    let program = std::env::var("KUBECTL").expect("`cargo xtask test cluster` sets KUBECTL");
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The text of a kubeconfig with the rights of a service account, and no others.
///
/// # Panics
/// Where there is no such account.
#[track_caller]
pub fn kubeconfig_of(account: &str, namespace: &str) -> String {
    let token = kubectl(&["create", "token", account, "-n", namespace], "");
    let text = kubectl(&["config", "view", "--raw", "--minify", "-o", "json"], "");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["users"][0]["user"] = json!({"token": token.trim()});
    config.to_string()
}
