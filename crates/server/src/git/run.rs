//! Runs `git` with nothing of this machine in it, for a bounded time and with a bounded disk.

use super::TIME_MAX;
use super::credentials::Credentials;
use crate::error::UseError;
use api::common::GitSource;
use base::Code;
use base64::Engine;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::Instant;

/// The most bytes of a repository and its files on this machine's disk.
const BYTES_MAX: u64 = 2 << 30;
/// Between looks at them.
const LOOK: Duration = Duration::from_millis(200);
/// Of what `git` says, this much is read.
const OUTPUT_MAX: u64 = 64 << 10;
/// Of a complaint, this much is told.
const MESSAGE_MAX: usize = 2_000;

/// Why a repository could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum GitError {
    /// `git` refused: its own words.
    #[error("{0}")]
    Refused(String),
    /// The reference is not there.
    #[error("is not a branch, tag or commit of the repository")]
    NoSuchCommit,
    /// The path is not there.
    #[error("is not a directory of that commit")]
    NoSuchPath,
    /// It took too long.
    #[error("was not fetched within {} s", TIME_MAX.as_secs())]
    Timeout,
    /// It is too large.
    #[error("takes more than {} MiB to fetch", BYTES_MAX >> 20)]
    TooLarge,
    /// `git` could not be run.
    #[error("cannot run `git`")]
    Io(#[from] std::io::Error),
}

impl PartialEq for GitError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl GitError {
    /// For the client, by field.
    pub(super) fn refusal(self, path: &str, source: &GitSource) -> UseError {
        let url = &source.url;
        match self {
            GitError::Refused(words) => UseError::field(
                format!("{path}.url"),
                format!("cannot be fetched: git says: {words}"),
            ),
            GitError::NoSuchCommit => UseError::field(
                format!("{path}.ref"),
                format!("{} `{url}`", GitError::NoSuchCommit).replace("the repository ", ""),
            ),
            GitError::NoSuchPath => {
                UseError::field(format!("{path}.path"), GitError::NoSuchPath.to_string())
            }
            error @ (GitError::Timeout | GitError::TooLarge) => UseError::field(
                format!("{path}.url"),
                format!("{error}; upload a directory with `dir` instead"),
            ),
            GitError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => UseError::new(
                Code::Unsupported,
                "the server's machine has no `git`; install it, or upload a directory with `dir`",
            ),
            GitError::Io(error) => UseError::internal("git cannot be run", error),
        }
    }
}

/// A directory with a repository and its files, and how `git` is run there.
pub(super) struct Run<'a> {
    scratch: &'a Path,
    env: Vec<(String, String)>,
    /// Never in what is told.
    hidden: Vec<String>,
    deadline: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        scratch: &'a Path,
        url: &str,
        credentials: Option<&Credentials>,
        deadline: Instant,
    ) -> Result<Run<'a>, GitError> {
        let mut run = Run {
            scratch,
            env: Vec::new(),
            hidden: Vec::new(),
            deadline,
        };
        for dir in [run.repository(), run.files(), run.home()] {
            std::fs::create_dir(dir)?;
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut config = vec![
            ("core.hooksPath", "/dev/null".to_owned()),
            ("core.fsmonitor", "false".to_owned()),
            ("credential.helper", String::new()),
            ("submodule.recurse", "false".to_owned()),
            ("gc.auto", "0".to_owned()),
            ("advice.detachedHead", "false".to_owned()),
        ];
        let mut ssh = "false".to_owned();
        match credentials {
            None => {}
            Some(Credentials::Password { username, password }) => {
                let pair = format!("{username}:{password}");
                let proof = base64::engine::general_purpose::STANDARD.encode(pair);
                // In the environment, which others cannot read, and not among the arguments. A redirect would take it
                // to another host.
                config.push(("http.followRedirects", "false".to_owned()));
                config.push(("http.extraHeader", format!("Authorization: Basic {proof}")));
                run.hidden = vec![password.clone(), proof];
            }
            Some(Credentials::Key { key, known_hosts }) => {
                let (key_file, hosts) = (run.home().join("key"), run.home().join("known_hosts"));
                write(&key_file, &format!("{}\n", key.trim_end()))?;
                write(&hosts, known_hosts)?;
                ssh = format!(
                    "ssh -F /dev/null -i '{}' -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile='{}' -o GlobalKnownHostsFile=/dev/null",
                    text(key_file),
                    text(hosts)
                );
            }
        }
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
        let protocol = url.split("://").next().unwrap_or_default();
        run.env = vec![
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), text(run.home())),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("GIT_DIR".to_owned(), text(run.repository())),
            ("GIT_WORK_TREE".to_owned(), text(run.files())),
            ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
            ("GIT_CONFIG_GLOBAL".to_owned(), "/dev/null".to_owned()),
            ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
            ("GIT_ASKPASS".to_owned(), "false".to_owned()),
            ("GIT_SSH_COMMAND".to_owned(), ssh),
            // Whatever a URL or a redirect says: nothing of this machine's disk, no helper programs.
            (
                "GIT_ALLOW_PROTOCOL".to_owned(),
                protocols(protocol).to_owned(),
            ),
            ("GIT_CONFIG_COUNT".to_owned(), config.len().to_string()),
        ];
        for proxy in [
            "https_proxy",
            "http_proxy",
            "no_proxy",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ] {
            if let Ok(value) = std::env::var(proxy) {
                run.env.push((proxy.to_owned(), value));
            }
        }
        if let Ok(bundle) = std::env::var("SSL_CERT_FILE") {
            run.env.push(("GIT_SSL_CAINFO".to_owned(), bundle));
        }
        for (n, (name, value)) in config.into_iter().enumerate() {
            run.env
                .push((format!("GIT_CONFIG_KEY_{n}"), name.to_owned()));
            run.env.push((format!("GIT_CONFIG_VALUE_{n}"), value));
        }
        Ok(run)
    }

    /// Where the commit's files are written to.
    pub(super) fn files(&self) -> PathBuf {
        self.scratch.join("files")
    }

    fn repository(&self) -> PathBuf {
        self.scratch.join("repository")
    }

    fn home(&self) -> PathBuf {
        self.scratch.join("home")
    }

    /// Runs `git`; what it prints.
    pub(super) async fn git(&self, args: &[&str]) -> Result<String, GitError> {
        let mut child = Command::new("git")
            .args(args)
            .current_dir(self.repository())
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Its helpers die with it.
            .process_group(0)
            .spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let group = Group(group);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (said, complaint, status) = tokio::join!(read(stdout), read(stderr), child.wait());
            Ok::<_, std::io::Error>((said?, complaint?, status?))
        };
        tokio::pin!(work);
        let (said, complaint, status) = loop {
            tokio::select! {
                done = &mut work => break done?,
                () = tokio::time::sleep_until(self.deadline) => return Err(GitError::Timeout),
                () = tokio::time::sleep(LOOK) => {
                    if size(self.scratch) > BYTES_MAX {
                        return Err(GitError::TooLarge);
                    }
                }
            }
        };
        group.spare();
        if size(self.scratch) > BYTES_MAX {
            return Err(GitError::TooLarge);
        }
        if status.success() {
            return Ok(said);
        }
        Err(GitError::Refused(self.told(&complaint)))
    }

    /// A complaint for people: short, on one line, without what is hidden.
    fn told(&self, complaint: &str) -> String {
        let mut text = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
        for hidden in self.hidden.iter().filter(|hidden| !hidden.is_empty()) {
            text = text.replace(hidden, "…");
        }
        text.chars().take(MESSAGE_MAX).collect()
    }
}

/// Plain `http` never becomes something else, and nothing becomes plain `http`.
fn protocols(of: &str) -> &'static str {
    match of {
        "http" => "http:https",
        "ssh" => "ssh",
        _ => "https",
    }
}

/// Kills a program's process group unless it is over.
struct Group(Option<Pid>);

impl Group {
    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// The first bytes of a pipe; the rest is read and dropped, so that the program does not stop.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(pipe) = pipe else {
        return Ok(String::new());
    };
    let mut first = Vec::new();
    let mut pipe = pipe.take(OUTPUT_MAX);
    pipe.read_to_end(&mut first).await?;
    let mut rest = pipe.into_inner();
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&first).into_owned())
}

/// Bytes of all files below a directory; what vanishes meanwhile does not count.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
