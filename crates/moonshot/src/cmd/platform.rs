//! `up`, `down`, `server`, `gateway`, `config`: the platform on this machine.

use crate::exit::Failure;
use crate::out::say;
use crate::role::settings::{self, Settings};
use crate::role::{down, gateway as gateway_role, server as server_role, up};
use std::path::PathBuf;

/// `moonshot up`
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Stay in the foreground; Ctrl-C stops the server.
    #[arg(long)]
    foreground: bool,
    /// Afterwards apply and run the example in this directory.
    #[arg(long, value_name = "DIR")]
    quickstart: Option<PathBuf>,
    /// Split this machine into so many logical nodes.
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Pretend so many GPUs where there are none.
    #[arg(long, value_name = "N")]
    fake_gpus: Option<u32>,
}

/// `moonshot down`
#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    /// Let programs go on; the next `up` finds them again.
    #[arg(long)]
    keep_programs: bool,
}

/// `moonshot server`, `moonshot gateway`
#[derive(Debug, clap::Args)]
pub(crate) struct RoleArgs {
    /// Leave the terminal's session.
    #[arg(long)]
    detach: bool,
}

/// `moonshot config`
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// `check`: say what is wrong, or show what is set.
    #[arg(value_parser = ["check"])]
    action: String,
}

/// `moonshot sim`
#[derive(Debug, clap::Args)]
pub(crate) struct SimArgs {
    /// A command of the simulator with its options.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

fn settings() -> Result<Settings, Failure> {
    settings::from_environment().map_err(Failure::Usage)
}

pub(crate) fn up(args: UpArgs) -> Result<(), Failure> {
    let mut settings = settings()?;
    settings.nodes = args.nodes.unwrap_or(settings.nodes);
    settings.fake_gpus = args.fake_gpus.unwrap_or(settings.fake_gpus);
    let options = up::Options {
        quickstart: args.quickstart,
        foreground: args.foreground,
    };
    up::run(&settings, &options).map_err(Failure::Failed)
}

pub(crate) fn down(args: &DownArgs) -> Result<(), Failure> {
    down::run(&settings()?, args.keep_programs).map_err(Failure::Failed)
}

pub(crate) async fn server(args: RoleArgs) -> Result<(), Failure> {
    server_role::run(settings()?, args.detach)
        .await
        .map_err(Failure::Failed)
}

pub(crate) async fn gateway(args: RoleArgs) -> Result<(), Failure> {
    gateway_role::run(settings()?, args.detach)
        .await
        .map_err(Failure::Failed)
}

pub(crate) fn config(_: &ConfigArgs) -> Result<(), Failure> {
    let settings = settings()?;
    say!("the settings are valid");
    say!("data directory   {}", settings.data_dir.display());
    say!("API and console  {}", settings.listen);
    say!("gateway          {}", settings.gateway_listen);
    // A database's address may hold a password.
    say!(
        "database         {}",
        if settings.database.is_some() {
            "PostgreSQL"
        } else {
            "SQLite in the data directory"
        }
    );
    say!(
        "nodes            {} (pretended GPUs: {})",
        settings.nodes,
        settings.fake_gpus
    );
    say!("");
    say!("Variables (or keys of the file that MOONSHOT_CONFIG_FILE names):");
    for (variable, key, default, what) in settings::TABLE {
        say!("  {variable:<26} {key:<16} {what} (default: {default})");
    }
    Ok(())
}

pub(crate) fn sim(args: &SimArgs) -> Result<(), Failure> {
    let printed = sim::cli::run(&args.args).map_err(|error| match error {
        sim::cli::CliError::Usage(_) => Failure::Usage(error.to_string()),
        sim::cli::CliError::Data(_) | sim::cli::CliError::Write { .. } => {
            Failure::Failed(error.to_string())
        }
    })?;
    say!("{printed}");
    Ok(())
}
