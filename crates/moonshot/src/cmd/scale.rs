//! `scale`: want another number of replicas.

use crate::exit::Failure;
use crate::session::Session;
use crate::target;
use api::Kind;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The App: `NAME` or `app/NAME`.
    #[arg(required = true, value_name = "APP")]
    app: Vec<String>,
    /// How many.
    #[arg(long, value_name = "N")]
    replicas: u32,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let target = target::one(&args.app, Some(Kind::App))?;
    session
        .client
        .scale(&session.project, &target.name, args.replicas)
        .await?;
    session
        .out
        .line(format!("{} scaled to {}", target.show(), args.replicas))
}
