//! One installation in a temporary directory.

use crate::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A server with its gateway, and the command line that speaks to them. Everything ends with it.
pub struct Installation {
    dir: Arc<tempfile::TempDir>,
    /// Whether another installation object owns the directory and what runs there.
    is_beside: bool,
    listen: String,
    gateway: String,
    server: Option<Child>,
    settings: Vec<(String, String)>,
    boot: Option<PathBuf>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that succeeded; panics otherwise.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout
    }

    /// The JSON that a command that succeeded printed.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

/// The program under test.
pub fn moonshot() -> PathBuf {
    std::env::var_os("MOONSHOT_BIN").map_or_else(
        || panic!("MOONSHOT_BIN names no program; run these tests with `cargo xtask test e2e`"),
        PathBuf::from,
    )
}

impl Installation {
    /// Starts a server with these settings (environment variables) and waits until it is ready.
    pub fn start(settings: &[(&str, &str)]) -> Installation {
        let mut installation = Installation::new(settings);
        installation.start_server();
        installation
    }

    /// An empty directory with these settings (environment variables), where nothing runs yet.
    pub fn new(settings: &[(&str, &str)]) -> Installation {
        let [listen, gateway] = free_ports();
        Installation {
            dir: Arc::new(
                tempfile::Builder::new()
                    .prefix("moonshot-e2e-")
                    .tempdir()
                    .expect("a temporary directory"),
            ),
            is_beside: false,
            listen,
            gateway,
            server: None,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            boot: None,
        }
    }

    /// A second server on the same directory, engine and database, and the command line that speaks to it.
    pub fn beside(&self) -> Installation {
        let [listen, _] = free_ports();
        let mut second = Installation {
            dir: Arc::clone(&self.dir),
            is_beside: true,
            listen,
            gateway: self.gateway.clone(),
            server: None,
            settings: self.settings.clone(),
            boot: self.boot.clone(),
        };
        second.start_server();
        second
    }

    /// Starts the server, after [`Installation::kill_server`] or at first.
    pub fn start_server(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .expect("a log file");
        let server = self
            .server_command()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.server = Some(server);
        let ready = || self.run(&["status"]).code == 0;
        eventually("the server answers", Duration::from_secs(30), ready);
    }

    fn server_command(&self) -> Command {
        let Some(boot) = &self.boot else {
            return self.command(&["server"]);
        };
        // In a mount namespace of its own the kernel's name for this boot is another one.
        let script = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && exec \"$2\" server";
        let command = self.command(&[]);
        let mut wrapped = Command::new("unshare");
        wrapped
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(boot)
            .arg(command.get_program())
            .current_dir(self.dir.path())
            .env_clear()
            .envs(environment(&command));
        wrapped
    }

    /// A setting of the next server that is started.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The next server believes that the machine was restarted. Needs root. Whoever calls this has killed
    /// everything that a restart ends.
    pub fn pretend_reboot(&mut self, boot_id: &str) {
        let path = self.dir.path().join("boot_id");
        std::fs::write(&path, format!("{boot_id}\n")).expect("the directory is ours");
        self.boot = Some(path);
    }

    /// The pid of the server's process.
    pub fn server_pid(&self) -> Pid {
        Pid::from_child(self.server.as_ref().expect("the server runs"))
    }

    /// The pid of the gateway's process, if it runs.
    pub fn gateway_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data().join("run/gateway.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        String::from_utf8_lossy(&line)
            .contains("gateway")
            .then_some(pid)
    }

    /// kill -9 of the server.
    pub fn kill_server(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        server.kill().expect("it is our child");
        server.wait().expect("it is our child");
    }

    /// Sends the server a signal.
    pub fn signal_server(&self, signal: Signal) {
        kill_process(self.server_pid(), signal).expect("the server runs");
    }

    /// How the server ended, if it did.
    pub fn server_end(&mut self) -> Option<ExitStatus> {
        let server = self.server.as_mut().expect("the server was started");
        server.try_wait().expect("it is our child")
    }

    /// What the installation's servers have written.
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).expect("a server was started")
    }

    /// A `moonshot` command of this installation, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(moonshot());
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("MOONSHOT_DATA_DIR", self.data())
            .env("MOONSHOT_LISTEN", &self.listen)
            .env("MOONSHOT_GATEWAY_LISTEN", &self.gateway)
            .env("MOONSHOT_SERVER", format!("http://{}", self.listen))
            .env("MOONSHOT_TOKEN_FILE", self.data().join("admin.token"));
        for cache in [
            "UV_CACHE_DIR",
            "PIP_CACHE_DIR",
            "SSL_CERT_FILE",
            "PIP_CERT",
            "PIP_INDEX_URL",
            "UV_INDEX_URL",
        ] {
            if let Some(value) = std::env::var_os(cache) {
                command.env(cache, value);
            }
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, "")
    }

    /// Runs a command with this on its standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        fed(&mut self.command(args), input)
    }

    /// Runs a script by `bash -e` in a directory of its own, where `moonshot` is found as a person's shell finds it.
    pub fn shell(&self, script: &str) -> Output {
        self.shell_input(script, "")
    }

    /// The same, with this on its standard input.
    pub fn shell_input(&self, script: &str, input: &str) -> Output {
        let bin = self.dir.path().join("bin");
        if !bin.exists() {
            std::fs::create_dir(&bin).expect("the directory is ours");
            std::os::unix::fs::symlink(moonshot(), bin.join("moonshot")).expect("a new link");
        }
        let work = self.dir.path().join("work");
        std::fs::create_dir_all(&work).expect("the directory is ours");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(bin).chain(std::env::split_paths(&path));
        let mut bash = Command::new("bash");
        bash.args(["-e", "-c", script])
            .current_dir(work)
            .env_clear()
            .envs(environment(&self.command(&[])))
            .env(
                "PATH",
                std::env::join_paths(dirs).expect("no colon in a path"),
            );
        fed(&mut bash, input)
    }

    /// Applies YAML.
    #[track_caller]
    pub fn apply(&self, yaml: &str) -> String {
        self.run_with_input(&["apply", "-f", "-"], yaml).ok()
    }

    /// An object as JSON, or `None` where there is none.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.run(&["get", kind, name, "-o", "json"]);
        if output.code == 3 {
            None
        } else {
            Some(output.json())
        }
    }

    /// An object's `status.phase`.
    #[track_caller]
    pub fn phase(&self, kind: &str, name: &str) -> String {
        let object = self
            .get(kind, name)
            .unwrap_or_else(|| panic!("there is no {kind}/{name}"));
        object["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until a Job or App is in one of the phases; returns the object.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, name: &str, phases: &[&str], patience: Duration) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + patience;
        while std::time::Instant::now() < deadline {
            last = self.get(kind, name).unwrap_or_default();
            if last["status"]["phase"]
                .as_str()
                .is_some_and(|phase| phases.contains(&phase))
            {
                return last;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = self.server_log();
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        panic!(
            "{kind}/{name} is not {phases:?} in {} s but:\n{last:#}\nserver:\n{tail}",
            patience.as_secs()
        );
    }

    /// One request through the gateway: its status (0 where nobody answers) and body.
    pub fn ask(&self, method: &str, path: &str, body: &str, with_token: bool) -> (u16, String) {
        let token = std::fs::read_to_string(self.data().join("admin.token")).unwrap_or_default();
        let token = with_token.then(|| token.trim());
        ask(&self.gateway, method, path, body, token)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory that commands run in.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// `ip:port` of the gateway.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// `ip:port` of the API.
    pub fn listen(&self) -> &str {
        &self.listen
    }
}

/// The variables that a command sets.
fn environment(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    let set = command.get_envs();
    set.filter_map(|(name, value)| Some((name, value?)))
}

/// Runs a command to its end with this on its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("its input is piped");
    // Beside reading: a command may write much before it has read all.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read its input may have closed it.
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output().expect("it ends")
    });
    finished(&output)
}

fn finished(output: &std::process::Output) -> Output {
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // Stops replicas, gateway and servers; what does not stop in time is killed.
        if !self.is_beside {
            let _ = self
                .command(&["down"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Two port numbers that were free a moment ago, as `127.0.0.1:N`.
pub fn free_ports() -> [String; 2] {
    let listeners: Vec<TcpListener> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    [0, 1].map(|i: usize| listeners[i].local_addr().expect("it is bound").to_string())
}

/// One HTTP request: its status (0 where nobody answers) and body.
pub fn ask(
    authority: &str,
    method: &str,
    path: &str,
    body: &str,
    token: Option<&str>,
) -> (u16, String) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers = bearer.as_deref().map(|bearer| ("Authorization", bearer));
    ask_with(authority, method, path, body, headers.as_slice())
}

/// The same with any headers.
pub fn ask_with(
    authority: &str,
    method: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines: String = lines.collect();
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{lines}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, body.to_owned())
}
