//! A private PostgreSQL 15: its own cluster in a temporary directory, on a socket and a free port of the loopback
//! interface, in a locale (ICU `en-US`) that orders text otherwise than bytes do, so that a missing
//! `COLLATE "C"` shows.
//!
//! It ends with the process that started it, however that ends: a small watcher waits for the end of its
//! input, then stops the cluster and removes the directory.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Debian's package puts the programs.
const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Attempts to find a port that stays free until the cluster listens on it.
const PORTS_MAX: u32 = 5;

/// For tests: quick to start, many connections, and nothing waits for a disk.
const QUICK: &str = "-F -c max_connections=200 -c shared_buffers=32MB";

/// A running cluster.
pub struct Postgres {
    dir: PathBuf,
    options: String,
    port: u16,
    owner: Option<(u32, u32)>,
    n_databases: AtomicU32,
    watcher: Child,
}

impl Postgres {
    /// The one that this process's tests share.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    /// Makes and starts a cluster.
    pub fn start() -> Postgres {
        Postgres::with(QUICK)
    }

    /// Makes and starts a cluster with these options of `postgres`.
    pub fn with(options: &str) -> Postgres {
        assert!(
            Path::new(BIN).exists(),
            "PostgreSQL 15 is not installed; `cargo xtask test system` installs it"
        );
        let dir = tempfile::Builder::new()
            .prefix("moonshot-pg-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        // The server refuses to run as root.
        let owner = rustix::process::geteuid()
            .is_root()
            .then(|| user("postgres"));
        if let Some((uid, gid)) = owner {
            chown(&dir, Some(uid), Some(gid)).expect("root may give it away");
        }
        let script = format!(
            "trap '' INT TERM HUP; read -r end; {BIN}/pg_ctl -D {0}/data -m immediate -w stop; rm -rf {0}",
            dir.display()
        );
        let watcher = as_owner(Command::new("sh").args(["-c", &script]), owner)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let mut postgres = Postgres {
            dir,
            options: options.to_owned(),
            port: 0,
            owner,
            n_databases: AtomicU32::new(0),
            watcher,
        };
        let data = postgres.dir.join("data");
        let data = data.to_str().expect("a plain path");
        postgres.tool(
            "initdb",
            &[
                "-D",
                data,
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--locale-provider=icu",
                "--icu-locale=en-US",
                "--no-sync",
            ],
        );
        let started = (0..PORTS_MAX).any(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            postgres.port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            postgres.try_up().is_ok()
        });
        assert!(started, "PostgreSQL does not start: {}", postgres.log());
        postgres
    }

    fn tool(&self, name: &str, args: &[&str]) -> String {
        self.try_tool(name, args)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn try_tool(&self, name: &str, args: &[&str]) -> Result<String, String> {
        let output = as_owner(Command::new(format!("{BIN}/{name}")).args(args), self.owner)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .expect("it can be run");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn try_up(&self) -> Result<(), String> {
        let options = format!(
            "-p {} -k {} -h 127.0.0.1 {}",
            self.port,
            self.dir.display(),
            self.options
        );
        let (data, log) = (self.dir.join("data"), self.dir.join("log"));
        let args = [
            "-D",
            data.to_str().expect("a plain path"),
            "-l",
            log.to_str().expect("a plain path"),
            "-w",
            "-o",
            &options,
            "start",
        ];
        // Its output would be a pipe that the daemon keeps open.
        let status = as_owner(Command::new(format!("{BIN}/pg_ctl")).args(args), self.owner)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it can be run");
        status.success().then_some(()).ok_or_else(|| self.log())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Starts it again after [`Postgres::down`].
    pub fn up(&self) {
        if let Err(log) = self.try_up() {
            panic!("PostgreSQL does not start: {log}");
        }
    }

    /// Stops it: clients are cut off.
    pub fn down(&self) {
        let data = self.dir.join("data");
        let data = data.to_str().expect("a plain path");
        self.tool("pg_ctl", &["-D", data, "-m", "fast", "-w", "stop"]);
    }

    /// A new, empty database: its URL.
    pub fn database(&self) -> String {
        let n = self.n_databases.fetch_add(1, Ordering::Relaxed);
        self.psql("postgres", &format!("CREATE DATABASE db{n}"));
        self.url(&format!("db{n}"))
    }

    fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs SQL in the database of this name, or at this URL; what it prints, without decoration.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let url = if database.contains("://") {
            database.to_owned()
        } else {
            self.url(database)
        };
        self.tool(
            "psql",
            &[
                "-X",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &url,
                "-c",
                sql,
            ],
        )
    }

    /// The port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // It was only told to end; how it ended changes nothing.
        let _ = self.watcher.wait();
    }
}

fn as_owner(command: &mut Command, owner: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

/// Uid and gid of a user.
fn user(name: &str) -> (u32, u32) {
    let text = std::fs::read_to_string("/etc/passwd").expect("there are users");
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| {
            let mut number = |skip| fields.nth(skip).and_then(|text| text.parse().ok());
            Some((number(1)?, number(0)?))
        })?
    });
    found.unwrap_or_else(|| panic!("there is no user `{name}`"))
}
