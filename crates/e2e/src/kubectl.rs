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
    let said = try_kubectl(args, input);
    said.unwrap_or_else(|said| panic!("kubectl {args:?}: {said}"))
}

/// The same where it may fail: what it said then.
///
/// # Panics
/// Where it cannot be started.
pub fn try_kubectl(args: &[&str], input: &str) -> Result<String, String> {
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
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
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
