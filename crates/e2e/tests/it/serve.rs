//! `moonshot serve`: the model server by itself.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What a process that serves trees only has for itself, in kB. Its code comes on top, which in a build for tests is several times as
/// large as in a release: the bench `serve.start` measures the whole there.
const OWN_MAX_KB: u64 = 10 * 1024;

#[test]
fn it_serves_a_directory_in_little_memory_and_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../trees/tests/it/golden/xgboost.json"
    );
    std::fs::create_dir_all(dir.path().join("late/1")).unwrap();
    std::fs::copy(golden, dir.path().join("late/1/model.json")).unwrap();
    let mut serve =
        Command::new(std::env::var("MOONSHOT_BIN").expect("MOONSHOT_BIN names the binary"))
            .arg("serve")
            .arg(dir.path())
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let url = line.strip_prefix("serving on ").unwrap().to_owned();
    let curl = |args: &[&str]| {
        let ran = Command::new("curl")
            .args(["--silent", "--max-time", "10"])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let predict = format!("{url}/v1/models/late:predict");
    e2e::eventually("a prediction", std::time::Duration::from_secs(30), || {
        curl(&["--data", "{\"instances\":[[2.04,-2.56,4.0]]}", &predict]).contains("0.81197")
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.id())).unwrap();
    let own = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let own: u64 = own.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(own < OWN_MAX_KB, "{own} kB");
    let pid = rustix::process::Pid::from_raw(serve.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(serve.wait().unwrap().success());
}
