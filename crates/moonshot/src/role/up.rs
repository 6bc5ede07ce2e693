//! `moonshot up`: starts the platform in the background and says where to look.

use super::down;
use super::files::{self, wait_until};
use super::quickstart;
use super::server::{start_role, token_file, wait_for_signal};
use super::settings::Settings;
use crate::context;
use crate::out::say;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The first start makes a database and looks at the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether the server still runs.
const LOOK: Duration = Duration::from_millis(500);

/// How to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Run the example in this directory afterwards.
    pub(crate) quickstart: Option<PathBuf>,
}

/// Starts what does not run yet, and waits until it answers.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let data = &settings.data_dir;
    let runs = files::holder(data, "server").is_some();
    let mut child = None;
    if !runs {
        let started = start_role(settings, "server");
        child = Some(started.map_err(|error| format!("cannot start the server: {error}"))?);
    }
    let log = data.join("run/server.log");
    let mut ended = false;
    let mut came = false;
    wait_until(PATIENCE, || {
        // A server that cannot start has said why and is not waited for.
        ended = child
            .as_mut()
            .is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        came = answers(settings.listen, "/readyz") && answers(settings.gateway_listen, "/-/ready");
        came || ended
    });
    if !came {
        let tail = std::fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = tail.lines().rev().take(8).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        return Err(format!(
            "the platform does not start ({:.0} s); {} ends with:\n  {tail}",
            started.elapsed().as_secs_f64(),
            log.display()
        ));
    }
    let word = if runs { "runs already" } else { "is up" };
    say!(
        "Moonshot {word} ({:.1} s): API http://{}, Apps http://{}",
        started.elapsed().as_secs_f64(),
        settings.listen,
        settings.gateway_listen
    );
    remember(settings).map_err(|failure| failure.to_string())?;
    if let Some(example) = &options.quickstart {
        quickstart::run(example, settings).map_err(|error| error.to_string())?;
    }
    say!("");
    for line in farewell(settings, options.quickstart.is_some()) {
        say!("{line}");
    }
    Ok(())
}

/// Stays while the server runs. A signal stops server and gateway; programs go on.
pub(crate) async fn foreground(settings: &Settings) -> Result<(), String> {
    let data = &settings.data_dir;
    say!(
        "\nIn the foreground: Ctrl-C stops the server and the gateway; programs go on until `moonshot down`."
    );
    let stop = CancellationToken::new();
    let signal = wait_for_signal(stop.clone());
    let ended = async {
        while files::holder(data, "server").is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = signal => down::run(settings, true),
        () = ended => Err(format!(
            "the server has ended; {} may say why",
            data.join("run/server.log").display()
        )),
    }
}

/// Where to look, what to try, how to stop.
fn farewell(settings: &Settings, with_quickstart: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |title: &str, text: String| lines.push(format!("{title:<9} {text}"));
    if crate::console::FILES.is_some() {
        add(
            "Console:",
            format!(
                "http://{}/ (`moonshot token show` prints the token it asks for)",
                settings.listen
            ),
        );
    } else {
        add(
            "Console:",
            "not built in (it needs Node 20.19 or newer at build time)".to_owned(),
        );
    }
    let look = "moonshot status, moonshot get jobs";
    if with_quickstart {
        add("Look:", format!("{look}, moonshot logs job/flights"));
        add("Predict:", quickstart::predict_command());
    } else {
        add("Look:", look.to_owned());
    }
    add("Stop:", "moonshot down".to_owned());
    add(
        "Log:",
        settings
            .data_dir
            .join("run/server.log")
            .display()
            .to_string(),
    );
    if let Some(dir) = dir_outside_path() {
        add(
            "Path:",
            format!(
                "export PATH={}:$PATH (the shell does not find moonshot yet)",
                dir.display()
            ),
        );
    }
    for warning in weaker(settings) {
        add("Weaker:", warning);
    }
    lines
}

/// The directory of this program, where the shell does not find it by its name.
fn dir_outside_path() -> Option<PathBuf> {
    let dir = std::env::current_exe().ok()?.parent()?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_found = std::env::split_paths(&path).any(|each| each.join("moonshot").is_file());
    (!is_found).then_some(dir)
}

/// What the server says is weaker on this machine than it should be.
fn weaker(settings: &Settings) -> Vec<String> {
    let this = std::env::current_exe().unwrap_or_else(|_| "moonshot".into());
    let status = quickstart::command(&this, settings)
        .args(["status", "-o", "json"])
        .output();
    let words = |output: std::process::Output| {
        let overview: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let words = overview["warnings"].as_array()?.iter();
        Some(
            words
                .filter_map(|word| word.as_str().map(str::to_owned))
                .collect(),
        )
    };
    status.ok().and_then(words).unwrap_or_default()
}

/// Writes the context `local`, and makes it the current one where none is.
fn remember(settings: &Settings) -> Result<(), crate::exit::Failure> {
    let Some(path) = context::path() else {
        return Ok(());
    };
    let mut file = context::read(&path)?;
    let before = file.clone();
    let local = context::Context {
        server: format!("http://{}", settings.listen),
        token_file: Some(token_file(&settings.data_dir)),
        ..context::Context::default()
    };
    file.contexts.insert("local".to_owned(), local);
    file.current.get_or_insert_with(|| "local".to_owned());
    if file == before {
        Ok(())
    } else {
        context::write(&path, &file)
    }
}

/// Whether a GET answers 200.
fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer[9..] == b"200")
    };
    ask().unwrap_or(false)
}
