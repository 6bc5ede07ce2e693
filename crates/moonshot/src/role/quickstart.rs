//! The quickstart: the commands that a person would type, shown as they run. Each may be repeated; a
//! second run finds everything as it was.

use super::settings::Settings;
use crate::out::say;
use std::path::Path;
use std::process::{Command, Stdio};

/// A step that failed: what was run, and how it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuickstartError {
    /// A command ended badly. It has said why.
    #[error(
        "`{0}` failed; its output is above. Repeat `moonshot up --quickstart` to go on from there"
    )]
    Step(String),
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
    step(settings, &["wait", "job/flights", "--for", "delivery"])?;
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
    step(settings, &PREDICT)
}

/// A flight as the model wants to see it: what is known when it leaves the gate, 40 minutes late.
const FLIGHT: &str = r#"{"instances": [{"month": 7, "day": 1, "sched_dep_time": 1800, "sched_arr_time": 2030, "distance": 760, "dep_delay": 40, "temp": 80, "humid": 60, "wind_speed": 10, "visib": 10, "carrier": "DL", "origin": "LGA", "dest": "ATL"}]}"#;

const PREDICT: [&str; 4] = ["predict", "app/flights", "-d", FLIGHT];

/// This program, speaking to the server that was started.
pub(super) fn command(this: &Path, settings: &Settings) -> Command {
    let mut command = Command::new(this);
    command
        .env("MOONSHOT_SERVER", format!("http://{}", settings.listen))
        .env(
            "MOONSHOT_TOKEN_FILE",
            super::server::token_file(&settings.data_dir),
        )
        .env_remove("MOONSHOT_CONTEXT")
        .env_remove("MOONSHOT_TOKEN")
        .env_remove("MOONSHOT_PROJECT")
        .stdin(Stdio::null());
    command
}

/// The command that asks for a prediction.
pub(super) fn predict_command() -> String {
    shown(&PREDICT)
}

fn step(settings: &Settings, args: &[&str]) -> Result<(), QuickstartError> {
    let shown = shown(args);
    say!("\n$ {shown}");
    let this = std::env::current_exe().unwrap_or_else(|_| "moonshot".into());
    let status = command(&this, settings)
        .args(args)
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
