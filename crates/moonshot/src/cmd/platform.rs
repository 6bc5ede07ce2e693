//! `up`, `down`, `server`, `gateway`: the platform on this machine.

use crate::exit::Failure;
use crate::role::settings::{self, Settings};
use crate::role::{down, gateway as gateway_role, server as server_role, up};
use std::path::PathBuf;

/// `moonshot up`
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Stay in the foreground; Ctrl-C stops server and gateway, programs go on.
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
    /// Run programs here (`local`) or on a Kubernetes (`k8s`).
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// The Kubernetes, with `--engine k8s`.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
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

/// `moonshot sim`
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
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

pub(crate) async fn up(args: UpArgs) -> Result<(), Failure> {
    let kubeconfig = args
        .kubeconfig
        .map(|path| std::path::absolute(&path).unwrap_or(path));
    let flags = [
        ("MOONSHOT_ENGINE", args.engine),
        (
            "MOONSHOT_KUBECONFIG",
            kubeconfig.map(|path| path.display().to_string()),
        ),
    ];
    let mut settings = settings::from_flags(&flags).map_err(Failure::Usage)?;
    settings.nodes = args.nodes.unwrap_or(settings.nodes);
    settings.fake_gpus = args.fake_gpus.unwrap_or(settings.fake_gpus);
    let options = up::Options {
        quickstart: args.quickstart,
    };
    up::run(&settings, &options).map_err(Failure::Failed)?;
    if args.foreground {
        up::foreground(&settings).await.map_err(Failure::Failed)?;
    }
    Ok(())
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

pub(crate) fn sim(args: &SimArgs) -> Result<(), Failure> {
    sim::cli::run(&args.args, &mut std::io::stdout()).map_err(|error| match error {
        sim::cli::CliError::Usage(text) => Failure::Usage(text),
        error => Failure::Failed(crate::code::chain(&error)),
    })
}
