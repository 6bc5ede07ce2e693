//! `moonshot up`: starts the platform in the background and says where to look.

use super::files::{self, wait_until};
use super::quickstart;
use super::server::{start_role, token_file};
use super::settings::Settings;
use crate::context;
use crate::out::say;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The first start makes a database and looks at the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Run the example in this directory afterwards.
    pub(crate) quickstart: Option<PathBuf>,
    /// Stay until the server ends.
    pub(crate) foreground: bool,
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
    let token = token_file(data);
    say!("");
    if crate::console::FILES.is_some() {
        say!(
            "Console:  http://{}/  (log in with the token in {})",
            settings.listen,
            token.display()
        );
    } else {
        say!("Console:  not built in (it needs Node 20.19 or newer at build time)");
    }
    say!("Look:     moonshot status, moonshot get jobs, moonshot logs job/flights");
    say!("Stop:     moonshot down");
    say!("Server log: {}", log.display());
    if options.foreground {
        say!(
            "In the foreground: Ctrl-C stops the server; what runs goes on until `moonshot down`."
        );
        let ended = || files::holder(data, "server").is_none();
        while !wait_until(Duration::from_secs(3600), ended) {}
    }
    Ok(())
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
