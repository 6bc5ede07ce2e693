//! Into running replicas: exec, cp, port-forward, rsh, top.

use e2e::{Installation, Output};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const SMALL: &str = "{cpu: 10m, memory: 64Mi}";

fn two_workers(name: &str, command: &str) -> String {
    format!(
        "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  groups: [{{name: worker, replicas: 2}}]\n  command: {command}\n  resources: {SMALL}\n"
    )
}

fn running(installation: &Installation, name: &str) -> Value {
    let job = installation.wait_for("job", name, &["Running"], PATIENCE);
    e2e::eventually("both replicas run", PATIENCE, || {
        let job = installation.get("job", name).expect("the Job");
        let replicas = job["status"]["replicas"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        replicas.len() == 2 && replicas.iter().all(|replica| replica["phase"] == "Running")
    });
    job
}

#[test]
fn exec_hands_on_streams_exit_codes_and_terminals() {
    let installation = Installation::start(&[]);
    installation.apply(&two_workers("long", "[sleep, '1000']"));
    running(&installation, "long");

    let exec = |replica: &str, input: &str, rest: &[&str]| -> Output {
        let args: Vec<&str> = ["exec", replica].iter().chain(rest).copied().collect();
        installation.run_with_input(&args, input)
    };
    let both = exec(
        "job/long/worker/1",
        "",
        &[
            "--",
            "sh",
            "-c",
            "echo out $MOONSHOT_RANK; echo err >&2; exit 7",
        ],
    );
    assert_eq!(
        (both.code, both.stdout.as_str(), both.stderr.as_str()),
        (7, "out 1\n", "err\n")
    );
    // More than every buffer on the way, there and back, with the end of input seen.
    let much: String = "0123456789abcde\n".repeat(200_000);
    let echoed = exec("job/long", &much, &["-i", "--", "cat"]);
    assert!(
        echoed.code == 0 && echoed.stdout == much,
        "{} bytes came back",
        echoed.stdout.len()
    );
    let counted = exec("job/long/worker/0", &much, &["-i", "--", "wc", "-c"]).ok();
    assert_eq!(counted.trim(), much.len().to_string());
    // A program that does not read its input ends all the same.
    assert_eq!(exec("job/long", &much, &["-i", "--", "true"]).code, 0);

    let script = "import os, pty, sys\n\
        pid, terminal = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        import fcntl, struct, termios\n\
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 77, 0, 0))\n\
        text = b''\n\
        while not text.endswith((b'# ', b'$ ')): text += os.read(terminal, 4096)\n\
        os.write(terminal, b'tty; stty size; exit 5\\r')\n\
        try:\n\
        \x20   while piece := os.read(terminal, 4096): text += piece\n\
        except OSError: pass\n\
        print(text.decode())\n\
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    let command = installation.command(&["exec", "job/long", "-it", "--", "sh"]);
    let mut through = Command::new("python3");
    through
        .args(["-c", script])
        .arg(command.get_program())
        .args(command.get_args());
    through.env_clear().envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let seen = through
        .current_dir(installation.home())
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(
        text.contains("/dev/pts/") && text.contains("33 77"),
        "{text}"
    );
    assert_eq!(seen.status.code(), Some(5), "{text}");

    let missing = exec("job/long", "", &["--", "no-such-program"]);
    assert!(
        missing.code == 127 && missing.stderr.contains("no-such-program"),
        "{missing:?}"
    );
    let nobody = exec("job/long/worker/7", "", &["--", "true"]);
    assert!(
        nobody.code == 3 && nobody.stderr.contains("worker/0, worker/1"),
        "{nobody:?}"
    );
    installation.run(&["cancel", "job/long"]).ok();
    installation.wait_for("job", "long", &["Cancelled"], PATIENCE);
    let over = exec("job/long", "", &["--", "true"]);
    assert!(
        over.code != 0
            && over
                .stderr
                .contains("no replica that runs: it is Cancelled"),
        "{over:?}"
    );
}

#[test]
fn what_exec_started_ends_with_whoever_asked() {
    let installation = Installation::start(&[]);
    installation.apply(&two_workers("long", "[sleep, '1000']"));
    running(&installation, "long");
    let mark = installation.home().join("mark");
    let script = format!("sleep 4321 & echo $! > {}; wait", mark.display());
    let mut client = installation
        .command(&["exec", "job/long", "--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = || {
        std::fs::read_to_string(&mark)
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()
    };
    e2e::eventually("the program runs", PATIENCE, || pid().is_some());
    let lives = || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", pid().expect("written")));
        status.is_ok_and(|status| !status.contains(") Z "))
    };
    assert!(lives());
    client.kill().expect("it is our child");
    client.wait().expect("it is our child");
    e2e::eventually("its children are gone too", PATIENCE, || !lives());
}

#[test]
fn files_are_copied_to_and_from_replicas() {
    let installation = Installation::start(&[]);
    installation.apply(&two_workers("long", "[sleep, '1000']"));
    running(&installation, "long");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    std::fs::write(installation.home().join("here.bin"), &bytes).expect("written");
    let there = installation.home().join("there.bin").display().to_string();
    installation
        .run(&["cp", "here.bin", &format!("job/long/worker/1:{there}")])
        .ok();
    assert_eq!(std::fs::read(&there).expect("copied"), bytes);
    installation
        .run(&["cp", &format!("job/long/worker/0:{there}"), "back.bin"])
        .ok();
    assert_eq!(
        std::fs::read(installation.home().join("back.bin")).expect("copied"),
        bytes
    );
    let missing = installation.run(&["cp", "job/long/worker/0:/no/such/file", "x"]);
    assert!(
        missing.code != 0 && missing.stderr.contains("/no/such/file"),
        "{missing:?}"
    );
    assert!(
        !installation.home().join("x").exists(),
        "nothing half done is left"
    );
}

#[test]
fn ports_are_forwarded_both_ways_until_both_sides_end() {
    let installation = Installation::start(&[]);
    // Answers only once its caller has said that no more comes.
    let server = "import os, socket\n\
        s = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n\
        while True:\n\
        \x20   c, _ = s.accept()\n\
        \x20   n = 0\n\
        \x20   while piece := c.recv(65536): n += len(piece)\n\
        \x20   c.sendall(b'%d bytes' % n)\n\
        \x20   c.close()\n";
    let job = json!({
        "apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "count"},
        "spec": {
            "command": ["python3", "-c", server],
            "ports": [{"name": "raw", "port": 7777, "protocol": "tcp"}],
            "resources": {"cpu": "10m", "memory": "64Mi"},
        },
    });
    installation.apply(&job.to_string());
    installation.wait_for("job", "count", &["Running"], PATIENCE);
    for port in ["raw", "7777"] {
        let mut forward = installation
            .command(&["port-forward", "job/count", &format!("0:{port}")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = String::new();
        let mut lines = std::io::BufReader::new(forward.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut lines, &mut said).expect("it says where");
        let address = said.split(' ').next().expect("an address").to_owned();
        let count = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&vec![1; 1_000_000])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let mut answer = String::new();
        e2e::eventually("the replica listens", PATIENCE, || {
            answer = count().unwrap_or_default();
            !answer.is_empty()
        });
        assert_eq!(answer, "1000000 bytes");
        forward.kill().expect("it is our child");
        forward.wait().expect("it is our child");
    }
    let audit = audit(&installation);
    assert!(audit.contains("portforward"), "{audit}");
}

fn audit(installation: &Installation) -> String {
    let token = std::fs::read_to_string(installation.data().join("admin.token")).expect("a token");
    let (status, body) = e2e::ask(
        installation.listen(),
        "GET",
        "/v1/audit",
        "",
        Some(token.trim()),
    );
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn only_who_may_change_a_project_reaches_into_it() {
    let installation = Installation::start(&[]);
    installation.apply(&two_workers("long", "[sleep, '1000']"));
    running(&installation, "long");
    let viewer = installation
        .run(&["token", "create", "eyes", "--role", "viewer"])
        .ok();
    let mut command = installation.command(&["exec", "job/long", "--", "true"]);
    command.env_remove("MOONSHOT_TOKEN_FILE");
    command.env("MOONSHOT_TOKEN", viewer.trim());
    let denied = command.output().expect("it runs");
    let words = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(
        !denied.status.success() && words.contains("editor"),
        "{words}"
    );
    installation.run(&["exec", "job/long", "--", "true"]).ok();
    let audit = audit(&installation);
    assert_eq!(audit.matches("\"exec\"").count(), 1, "{audit}");
}

#[test]
fn rsh_reaches_members_of_its_own_attempt_alone() {
    let installation = Installation::start(&[]);
    // Rank 0 asks its neighbour who it is, then fails once; the second attempt waits.
    let script = "if [ $MOONSHOT_RANK = 0 ]; then\n\
        \x20 echo $MOONSHOT_ATTEMPT_TOKEN > $MOONSHOT_CHECKPOINT/token.$MOONSHOT_ATTEMPT\n\
        \x20 moonshot rsh worker-1 echo 'I am $MOONSHOT_RANK of attempt $MOONSHOT_ATTEMPT' || exit 9\n\
        \x20 moonshot-rsh -x worker-1 exit 6; echo \"code $?\"\n\
        \x20 [ $MOONSHOT_ATTEMPT = 1 ] && exit 3\n\
        fi\n\
        sleep 1000\n";
    let job = json!({
        "apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "pair"},
        "spec": {
            "groups": [{"name": "worker", "replicas": 2}],
            "command": ["sh", "-c", script],
            "checkpoint": true,
            "retry": {"limit": 1, "backoff": "1s"},
            "resources": {"cpu": "10m", "memory": "64Mi"},
        },
    });
    installation.apply(&job.to_string());
    e2e::eventually("the second attempt asks", PATIENCE, || {
        let log = installation.run(&["logs", "job/pair/worker/0"]).stdout;
        log.contains("I am 1 of attempt 2") && log.contains("code 6")
    });
    let checkpoints = find(&installation.data(), "token.1");
    let read = |name: &str| {
        let path = checkpoints.parent().expect("a directory").join(name);
        std::fs::read_to_string(path)
            .expect("a token")
            .trim()
            .to_owned()
    };
    let rsh = |token: &str, host: &str| {
        let mut command = installation.command(&["rsh", host, "true"]);
        let output = command
            .env("MOONSHOT_ATTEMPT_TOKEN", token)
            .output()
            .expect("it runs");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), words)
    };
    assert_eq!(rsh(&read("token.2"), "worker-1"), (0, String::new()));
    let (code, words) = rsh(&read("token.1"), "worker-1");
    assert!(
        code != 0 && words.contains("the attempt of this token is over"),
        "{words}"
    );
    let (code, words) = rsh(&read("token.2"), "ps-0");
    assert!(code != 0 && words.contains("worker/0, worker/1"), "{words}");
    let forged = read("token.1").replace("/1:", "/2:");
    assert_ne!(rsh(&forged, "worker-1").0, 0);
    // Output under the token: once, whatever is sent again; nothing under the old one.
    let send = |token: &str, seq: u64, data: &str| {
        let frame = json!({"frames": [{"stream": "stdout", "seq": seq, "time": "2026-01-01T00:00:00Z", "data": data}]});
        e2e::ask(
            installation.listen(),
            "POST",
            "/v1/ingest",
            &frame.to_string(),
            Some(token),
        )
    };
    let (status, body) = send(&read("token.2"), 1_000_000, "aW5nZXN0ZWQK");
    assert_eq!((status, body.as_str()), (200, "{\"kept\":1000000}"));
    send(&read("token.2"), 1_000_000, "aW5nZXN0ZWQK");
    let log = installation.run(&["logs", "job/pair/worker/0"]).ok();
    assert_eq!(log.matches("ingested").count(), 1, "{log}");
    assert_eq!(send(&read("token.1"), 1_000_000, "aW5nZXN0ZWQK").0, 401);

    let token = std::fs::read_to_string(installation.data().join("admin.token")).expect("a token");
    let path = "/v1/projects/default/jobs/pair/attempts";
    let (status, body) = e2e::ask(installation.listen(), "GET", path, "", Some(token.trim()));
    assert_eq!(status, 200, "{body}");
    let attempts: Value = serde_json::from_str(&body).expect("JSON");
    let first = &attempts["items"][0];
    assert_eq!(
        (&first["phase"], &first["charged"]),
        (&json!("Failed"), &json!(true)),
        "{attempts:#}"
    );
    assert!(
        first["message"]
            .as_str()
            .unwrap_or_default()
            .contains("code 3"),
        "{attempts:#}"
    );
    assert_eq!(attempts["items"][1]["phase"], "Running", "{attempts:#}");
    let page = installation.run(&["describe", "job/pair"]).ok();
    assert!(
        page.contains("Attempts") && page.contains("exited with code 3"),
        "{page}"
    );
    assert_eq!(
        attempts["items"][1]["replicas"].as_array().map(Vec::len),
        Some(2)
    );
}

/// The file of this name below a directory.
fn find(dir: &std::path::Path, name: &str) -> std::path::PathBuf {
    let output = Command::new("find")
        .arg(dir)
        .args(["-name", name])
        .output()
        .expect("find runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .next()
        .unwrap_or_else(|| panic!("no {name}"))
        .into()
}

#[test]
fn top_tells_who_is_busy() {
    let installation = Installation::start(&[]);
    installation.apply(&two_workers(
        "busy",
        "[sh, -c, 'if [ $MOONSHOT_RANK = 0 ]; then while :; do :; done; fi; sleep 1000']",
    ));
    running(&installation, "busy");
    let milli = |text: &str| -> u64 {
        text.strip_suffix('m').map_or_else(
            || text.parse::<u64>().unwrap_or(0) * 1_000,
            |milli| milli.parse().unwrap_or(0),
        )
    };
    let mut last = String::new();
    e2e::eventually("rank 0 is seen to be busy", PATIENCE, || {
        last = installation.run(&["top", "replicas"]).ok();
        let cpu = |member: &str| {
            let line = last.lines().find(|line| line.contains(member))?;
            line.split_whitespace().nth(3).map(milli)
        };
        let (busy, idle) = (cpu("job/busy/worker/0"), cpu("job/busy/worker/1"));
        busy.is_some_and(|cpu| cpu > 0) && idle == Some(0)
    });
    let nodes = installation.run(&["top", "nodes"]).ok();
    assert!(
        nodes.contains("NODE") && nodes.lines().count() >= 2,
        "{nodes}"
    );
}
