//! A `moonshot server` on the cluster, in a directory of its own.

use crate::Failure;
use crate::process::signal;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For the server to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    dir: tempfile::TempDir,
    program: PathBuf,
    listen: String,
    gateway: String,
    child: Option<Child>,
}

impl Server {
    /// Nothing runs yet.
    pub(crate) fn new() -> Result<Server, Failure> {
        let free = || -> Result<String, Failure> {
            Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
        };
        Ok(Server {
            dir: tempfile::tempdir()?,
            program: PathBuf::from(std::env::var("MOONSHOT_BIN")?),
            listen: free()?,
            gateway: free()?,
            child: None,
        })
    }

    /// Starts it, without waiting for an answer.
    pub(crate) fn spawn(&mut self) -> Result<(), Failure> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))?;
        let child = self
            .command()
            .arg("server")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts it and waits until it leads.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        self.spawn()?;
        let started = Instant::now();
        while self.moonshot(&["status"]).is_err() {
            if started.elapsed() > PATIENCE {
                return Err(format!("the server does not start: {}", self.log()).into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The server's process; its gateway is a child of it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let (dir, kubeconfig) = (self.dir.path(), std::env::var_os("KUBECONFIG"));
        command
            .env("HOME", dir)
            .env("MOONSHOT_DATA_DIR", dir.join("data"))
            .env("MOONSHOT_TOKEN_FILE", dir.join("data/admin.token"))
            .env("MOONSHOT_LISTEN", &self.listen)
            .env("MOONSHOT_SERVER", format!("http://{}", self.listen))
            .env("MOONSHOT_GATEWAY_LISTEN", &self.gateway)
            .env("MOONSHOT_ENGINE", "k8s")
            .env("MOONSHOT_KUBECONFIG", kubeconfig.unwrap_or_default())
            .env("MOONSHOT_POD_LISTEN", "127.0.0.1:0");
        for name in ["AGENT", "HOST", "PYTHON"] {
            command.env(format!("MOONSHOT_IMAGE_{name}"), "none.test/none:1");
        }
        command
    }

    /// Runs the command line.
    pub(crate) fn moonshot(&self, args: &[&str]) -> Result<(), Failure> {
        let output = self.command().args(args).stdin(Stdio::null()).output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str) -> Result<(), Failure> {
        let file = self.dir.path().join("manifest.yaml");
        std::fs::write(&file, manifest)?;
        self.moonshot(&["apply", "-f", &file.display().to_string()])
    }

    /// Whoever reads its API.
    pub(crate) fn reader(&self) -> Result<Reader, Failure> {
        let token = std::fs::read_to_string(self.dir.path().join("data/admin.token"))?;
        Ok(Reader {
            listen: self.listen.clone(),
            token: token.trim().to_owned(),
        })
    }

    /// Ends it; what it made on the cluster stays.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        // It is a child of this process, so `moonshot down` would wait for somebody to take its end.
        signal(child.id(), "TERM")?;
        child.wait()?;
        // Then the gateway, which outlives its server.
        self.moonshot(&["down"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Server and gateway end in order; what does not is killed.
        let _ = self.stop();
    }
}

/// Reads the API by plain HTTP: cheaper than a command line beside what is measured.
pub(crate) struct Reader {
    listen: String,
    token: String,
}

impl Reader {
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut stream = TcpStream::connect(&self.listen)?;
        stream.set_read_timeout(Some(ANSWER))?;
        // Of version 1.0 the answer ends with the connection.
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.listen, self.token
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head.split(' ').nth(1) != Some("200") {
            return Err(format!("GET {path}: {head} {body}").into());
        }
        Ok(serde_json::from_str(body)?)
    }
}
