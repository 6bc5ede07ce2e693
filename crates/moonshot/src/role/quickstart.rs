//! The quickstart: the commands that a person would type, shown as they run. Each may be repeated; a
//! second run finds everything as it was.

use super::settings::Settings;
use crate::out::say;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A step that failed: what was run, and how it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuickstartError {
    /// A command ended badly. It has said why.
    #[error(
        "`{0}` failed; its output is above. Repeat `moonshot up --quickstart` to go on from there"
    )]
    Step(String),
    /// The App answered something else than a prediction.
    #[error("the App answered: {0}")]
    Answer(String),
    /// A command could not be started.
    #[error("cannot start `{command}`")]
    Start {
        /// What was to run.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Trains on the flights, serves the model and asks it once. `example` is the directory with the manifests.
pub(crate) fn run(example: &Path, settings: &Settings) -> Result<(), QuickstartError> {
    let file = |name: &str| example.join(name).display().to_string();
    say!(
        "\nQuickstart: train XGBoost on 336,776 flights with two replicas, then serve the model with two more."
    );
    step(settings, &["apply", "-f", &file("environment.yaml")])?;
    step(
        settings,
        &[
            "wait",
            "environment/flights",
            "--for",
            "phase=Ready",
            "--timeout",
            "20m",
        ],
    )?;
    step(settings, &["apply", "-f", &file("job.yaml")])?;
    step(settings, &["logs", "--follow", "job/flights"])?;
    step(
        settings,
        &[
            "wait",
            "job/flights",
            "--for",
            "phase=Succeeded",
            "--timeout",
            "20m",
        ],
    )?;
    step(settings, &["apply", "-f", &file("app.yaml")])?;
    step(
        settings,
        &[
            "wait",
            "app/flights",
            "--for",
            "phase=Ready",
            "--timeout",
            "5m",
        ],
    )?;
    predict(settings)
}

/// A flight as the model wants to see it: what is known when it leaves the gate, 40 minutes late.
const FLIGHT: &str = r#"{"instances": [{"month": 7, "day": 1, "sched_dep_time": 1800, "sched_arr_time": 2030, "distance": 760, "dep_delay": 40, "temp": 80, "humid": 60, "wind_speed": 10, "visib": 10, "carrier": "DL", "origin": "LGA", "dest": "ATL"}]}"#;

/// One request through the gateway, shown as the command that sends it.
fn predict(settings: &Settings) -> Result<(), QuickstartError> {
    let token_file = super::server::token_file(&settings.data_dir);
    let command = format!(
        "curl -s -H \"Authorization: Bearer $(cat {})\" \\\n    http://{}/default/flights/predict -d '{FLIGHT}'",
        token_file.display(),
        settings.gateway_listen
    );
    say!("\n$ {command}");
    let failed = |source| QuickstartError::Start {
        command: command.clone(),
        source,
    };
    let token = std::fs::read_to_string(&token_file).map_err(failed)?;
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(settings.gateway_listen)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "POST /default/flights/predict HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{FLIGHT}",
            settings.gateway_listen,
            token.trim(),
            FLIGHT.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.1 200") {
        return Err(QuickstartError::Answer(answer));
    }
    say!("{}", body.trim());
    Ok(())
}

fn step(settings: &Settings, args: &[&str]) -> Result<(), QuickstartError> {
    let shown = shown(args);
    say!("\n$ {shown}");
    let this = std::env::current_exe().unwrap_or_else(|_| "moonshot".into());
    let status = Command::new(this)
        .args(args)
        .env("MOONSHOT_SERVER", format!("http://{}", settings.listen))
        .env(
            "MOONSHOT_TOKEN_FILE",
            super::server::token_file(&settings.data_dir),
        )
        .stdin(Stdio::null())
        .status()
        .map_err(|source| QuickstartError::Start {
            command: shown.clone(),
            source,
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(QuickstartError::Step(shown))
    }
}

/// The command as a person types it.
fn shown(args: &[&str]) -> String {
    let quoted = args.iter().map(|arg| {
        let plain = arg
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./=@:".contains(c));
        if plain {
            (*arg).to_owned()
        } else {
            format!("'{arg}'")
        }
    });
    std::iter::once("moonshot".to_owned())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}
