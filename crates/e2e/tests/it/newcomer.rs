//! The first hour of somebody who is not root: `up` with the quickstart, interrupted in its middle and repeated,
//! then in the foreground, then down.

use e2e::{as_nobody, eventually, free_ports, moonshot};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A person's directory, with a copy of what a person would have built.
struct Home {
    dir: tempfile::TempDir,
    listen: String,
    gateway: String,
}

impl Home {
    fn new() -> Home {
        let [listen, gateway] = free_ports();
        let dir = tempfile::Builder::new()
            .prefix("moonshot-newcomer-")
            .tempdir()
            .expect("a temporary directory");
        std::fs::create_dir(dir.path().join("bin")).expect("the directory is ours");
        std::fs::copy(moonshot(), dir.path().join("bin/moonshot")).expect("a copy");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights");
        copy(&example, &dir.path().join("flights"));
        as_nobody::give(dir.path());
        Home {
            dir,
            listen,
            gateway,
        }
    }

    fn moonshot(&self, args: &[&str]) -> Command {
        let mut command = as_nobody::command(&self.dir.path().join("bin/moonshot"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("MOONSHOT_LISTEN", &self.listen)
            .env("MOONSHOT_GATEWAY_LISTEN", &self.gateway)
            .stdin(Stdio::null());
        // How packages are reached from here.
        for name in ["SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "UV_INDEX_URL"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    fn output(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a command in a process group of its own, as a terminal does; its output goes to a file.
    fn spawn(&self, args: &[&str], output: &str) -> std::process::Child {
        let file = File::create(self.output(output)).expect("the directory is ours");
        self.moonshot(args)
            .process_group(0)
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("moonshot starts")
    }

    fn printed(&self, output: &str) -> String {
        std::fs::read_to_string(self.output(output)).unwrap_or_default()
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.moonshot(args).output().expect("moonshot starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}\n{text}\n{said}");
        text
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.moonshot(&["down"]).stdout(Stdio::null()).status();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("the directory is ours");
    for entry in std::fs::read_dir(from).expect("the examples") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Command lines of the processes that were started with this directory in their environment.
fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string();
    let text = |path: PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    std::fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter(|entry| text(entry.path().join("environ")).contains(&name))
        .map(|entry| text(entry.path().join("cmdline")))
        .collect()
}

#[test]
fn an_ordinary_user_comes_from_nothing_to_a_prediction_also_after_an_interrupt() {
    let home = Home::new();
    let quickstart = ["up", "--quickstart", "flights"];

    // Ctrl-C while the Job trains: the terminal sends the signal to the whole group.
    let mut up = home.spawn(&quickstart, "first.out");
    let trains = || home.printed("first.out").contains("336,776 flights");
    eventually("the Job trains", Duration::from_secs(600), trains);
    kill_process_group(Pid::from_child(&up), Signal::INT).expect("it runs");
    assert!(!up.wait().expect("it is our child").success());
    // The platform goes on without the terminal.
    home.run(&["status"]);

    // The same command goes on from there.
    let printed = home.run(&quickstart);
    for part in [
        "Moonshot runs already",
        "\"predictions\"",
        "\nConsole:",
        "\nPredict:  moonshot predict app/flights",
        "\nStop:     moonshot down\n",
        "\nPath:     export PATH=",
    ] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    // Without root there are no limits, and it says so.
    assert!(printed.contains("\nWeaker:"), "{printed}");
    let job: serde_json::Value =
        serde_json::from_str(&home.run(&["get", "job", "flights", "-o", "json"])).expect("JSON");
    assert_eq!(
        job["status"]["attempts"], 1,
        "the interrupt was not the Job's"
    );

    // A third time takes seconds and finds everything as it was.
    let started = Instant::now();
    let printed = home.run(&quickstart);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    for part in ["job/flights unchanged", "app/flights unchanged"] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    println!(
        "the third `up --quickstart` took {:.1} s",
        took.as_secs_f64()
    );

    // In the foreground Ctrl-C stops the server, and programs go on.
    let mut up = home.spawn(&["up", "--foreground"], "foreground.out");
    let stays = || home.printed("foreground.out").contains("In the foreground");
    eventually("it stays", Duration::from_secs(60), stays);
    kill_process(Pid::from_child(&up), Signal::INT).expect("it runs");
    let status = up.wait().expect("it is our child");
    assert!(
        status.success(),
        "{status} {}",
        home.printed("foreground.out")
    );
    let away = home.moonshot(&["status"]).output().expect("it ends");
    assert_eq!(away.status.code(), Some(6));
    assert!(
        processes_of(home.dir.path())
            .iter()
            .any(|line| line.contains(" serve ")),
        "the App's replicas go on"
    );

    home.run(&["down"]);
    let left = processes_of(home.dir.path());
    assert!(left.is_empty(), "{left:#?}");
}
