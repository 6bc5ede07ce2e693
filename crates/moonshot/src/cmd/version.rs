//! `version`: of this program and of the server.

use crate::cmd::OutputArg;
use crate::context::Overrides;
use crate::exit::Failure;
use crate::out::{Format, Out};
use crate::session::Session;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this program; ask no server.
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    output: OutputArg,
}

pub(crate) async fn run(args: &Args, over: &Overrides) -> Result<(), Failure> {
    let out = Out::new();
    let client = env!("CARGO_PKG_VERSION");
    let server = if args.client {
        None
    } else {
        Some(server(over).await)
    };
    match args.output.output {
        Format::Json | Format::Yaml => {
            let server = server.as_ref().and_then(|server| server.as_ref().ok());
            out.value(
                &json!({ "client": client, "server": server }),
                args.output.output == Format::Yaml,
            )
        }
        Format::Table | Format::Wide | Format::Name => {
            out.line(format!("moonshot {client}"))?;
            match server {
                Some(Ok(version)) => out.line(format!("server   {version}")),
                // The version of this program is a good answer without a server.
                Some(Err(failure)) => {
                    out.note(format!("server   unknown: {failure}"));
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }
}

async fn server(over: &Overrides) -> Result<String, Failure> {
    let session = Session::open(over)?;
    Ok(session.client.status().await?.version)
}
