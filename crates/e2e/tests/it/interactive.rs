//! What a person at a terminal does while work runs: Ctrl-C, `--watch`.

use e2e::{Installation, eventually, eventually_some};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command on a terminal of its own; keys are typed through its standard input.
const TERMINAL: &str = r#"
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
sources = [terminal, 0]
while terminal in sources:
    ready = select.select(sources, [], [])[0]
    if 0 in ready:
        keys = os.read(0, 4096)
        if keys: os.write(terminal, keys)
        else: sources.remove(0)
    if terminal in ready:
        try: piece = os.read(terminal, 4096)
        except OSError: break
        if not piece: break
        os.write(1, piece)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn on_terminal(installation: &Installation, args: &[&str]) -> Child {
    let command = installation.command(args);
    let mut terminal = Command::new("python3");
    terminal
        .args(["-c", TERMINAL])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(installation.home())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    terminal.spawn().expect("python starts")
}

/// Follows a Job on a terminal, presses Ctrl-C and answers; what was shown and the exit code.
fn interrupt(installation: &Installation, name: &str, key: &str) -> (String, i32) {
    std::fs::create_dir_all(installation.home().join("code")).expect("a directory");
    let program = "echo here; exec sleep 1000";
    let mut child = on_terminal(
        installation,
        &[
            "run", "--name", name, "--dir", "code", "--cpu", "10m", "--", "sh", "-c", program,
        ],
    );
    let mut keys = child.stdin.take().expect("piped");
    let mut shown = child.stdout.take().expect("piped");
    let mut text = String::new();
    let mut read_until = |wanted: &str, text: &mut String| {
        let mut piece = [0; 4096];
        while !text.contains(wanted) {
            let n = shown.read(&mut piece).expect("more comes");
            assert!(n > 0, "the end came before `{wanted}`: {text}");
            text.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    };
    read_until("here\r\n", &mut text);
    keys.write_all(b"\x03").expect("a key");
    read_until("ancel", &mut text);
    keys.write_all(key.as_bytes()).expect("an answer");
    drop(keys);
    let mut rest = String::new();
    shown.read_to_string(&mut rest).expect("to the end");
    let code = child.wait().expect("it ends").code().unwrap_or(-1);
    (text + &rest, code)
}

#[test]
fn ctrl_c_asks_whether_to_detach_or_to_cancel() {
    let installation = Installation::start(&[]);
    let (text, code) = interrupt(&installation, "left", "d\n");
    assert_eq!(code, 0, "{text}");
    assert_eq!(installation.phase("job", "left"), "Running", "{text}");
    assert!(text.contains("moonshot attach left"), "{text}");
    let (text, code) = interrupt(&installation, "ended", "c\n");
    assert_eq!(code, 130, "{text}");
    installation.wait_for("job", "ended", &["Cancelled"], PATIENCE);
    // Attached again, and cancelled by somebody else.
    let attached = installation
        .command(&["attach", "left"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    installation.run(&["cancel", "left"]).ok();
    let output = attached.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && words.contains("Cancelled"),
        "{words}"
    );
}

#[test]
fn a_watch_shows_what_changes() {
    let installation = Installation::start(&[]);
    let mut watch = installation
        .command(&["get", "jobs", "--watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    installation.apply(
        "apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: short}\nspec: {command: ['true'], resources: {cpu: 10m}}\n",
    );
    let mut seen = Vec::new();
    for line in &mut lines {
        let line = line.expect("a line");
        let over = line.contains("Succeeded");
        seen.push(line);
        if over {
            break;
        }
    }
    assert!(seen.iter().any(|line| line.contains("Queued")), "{seen:#?}");
    watch.kill().expect("it is our child");
    watch.wait().expect("it is our child");
}

#[test]
fn a_program_decides_by_probes_of_its_own_whether_it_is_ready() {
    let installation = Installation::start(&[]);
    let spec = serde_json::json!({
        "replicas": 1,
        "template": {
            "command": ["sh", "-c", "exec sleep 1000"],
            "resources": {"cpu": "50m", "memory": "32Mi"},
            "ports": [{"name": "http"}],
            "probes": {
                "readiness": {"exec": {"command": ["sh", "-c", "test -e $HOME/ready"]}, "period": "1s", "failures": 1},
                "liveness": {"exec": {"command": ["sh", "-c", "test ! -e $HOME/dead"]}, "period": "1s", "failures": 1},
            },
            "grace": "1s",
        },
    });
    installation.apply(&format!(
        "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: picky}}\nspec: {spec}\n"
    ));
    let instance =
        || installation.get("app", "picky").expect("the App")["status"]["instances"][0].clone();
    eventually("it runs", PATIENCE, || instance()["phase"] == "Running");
    let touch = |script: &str| {
        installation
            .run(&["exec", "app/picky", "--", "sh", "-c", script])
            .ok()
    };
    assert_eq!(instance()["ready"], false);
    touch("touch $HOME/ready");
    eventually("it is ready", PATIENCE, || instance()["ready"] == true);
    touch("rm $HOME/ready");
    eventually("it is not ready any more", PATIENCE, || {
        instance()["ready"] == false
    });
    assert_eq!(instance()["restarts"], 0);
    touch("touch $HOME/dead");
    eventually("it is restarted, and says why", PATIENCE, || {
        let instance = instance();
        let message = instance["message"].as_str().unwrap_or_default().to_owned();
        instance["restarts"].as_u64() >= Some(1) && message.contains("liveness")
    });
}

#[test]
fn an_elastic_job_starts_with_what_there_is_and_replaces_one_rank_alone() {
    let installation = Installation::start(&[]);
    let cpu: String = eventually_some("the node is known", PATIENCE, || {
        let nodes = installation.run(&["get", "nodes", "-o", "json"]).json();
        let cpu = nodes["items"][0]["status"]["allocatable"]["cpu"].as_str()?;
        Some(cpu.to_owned())
    });
    let milli: u64 = cpu
        .strip_suffix('m')
        .map_or_else(|| cpu.parse::<u64>().map(|cores| cores * 1_000), str::parse)
        .expect("a quantity");
    // Two fit, the third does not.
    let job = serde_json::json!({
        "apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "stretch"},
        "spec": {
            "restartUnit": "rank",
            "groups": [{"name": "worker", "replicas": 3, "min": 1}],
            "command": ["sh", "-c", "until [ -e $MOONSHOT_ROOT/die ]; do sleep 0.1; done; exit 7"],
            "retry": {"limit": 3, "backoff": "1s"},
            "resources": {"cpu": format!("{}m", milli * 2 / 5), "memory": "32Mi"},
            "grace": "1s",
        },
    });
    installation.apply(&job.to_string());
    let running = || -> Vec<(u64, u64)> {
        let job = installation.get("job", "stretch").expect("the Job");
        let replicas = job["status"]["replicas"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let number = |one: &serde_json::Value, field: &str| one[field].as_u64().unwrap_or(99);
        replicas
            .iter()
            .filter(|one| one["phase"] == "Running")
            .map(|one| (number(one, "index"), number(one, "attempt")))
            .collect()
    };
    eventually("two run", PATIENCE, || running() == [(0, 1), (1, 1)]);
    let exec = |script: &str| {
        installation.run(&["exec", "job/stretch/worker/1", "--", "sh", "-c", script])
    };
    exec("touch $MOONSHOT_ROOT/die").ok();
    eventually("one rank is replaced, the other goes on", PATIENCE, || {
        running() == [(0, 1), (1, 2)]
    });
    let job = installation.get("job", "stretch").expect("the Job");
    assert_eq!(job["status"]["failures"], 1, "{job:#}");
}
