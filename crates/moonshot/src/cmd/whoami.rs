//! `whoami`: who the server takes you for.

use crate::cmd::OutputArg;
use crate::exit::Failure;
use crate::out::Format;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArg,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let who = session.client.whoami().await?;
    let value = serde_json::to_value(&who).map_err(|error| Failure::Failed(error.to_string()))?;
    match args.output.output {
        Format::Json | Format::Yaml => session
            .out
            .value(&value, args.output.output == Format::Yaml),
        Format::Table | Format::Wide | Format::Name => {
            let only = who.project.map_or_else(String::new, |project| {
                format!(", in project {project} alone")
            });
            let role = value["role"].as_str().unwrap_or_default();
            session
                .out
                .line(format!("{} ({}): {role}{only}", who.name, who.kind))
        }
    }
}
