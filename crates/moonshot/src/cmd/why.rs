//! `why`: why something waits.

use crate::cmd::OutputArg;
use crate::exit::Failure;
use crate::out::Format;
use crate::session::Session;
use crate::target;
use api::Kind;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `job/NAME`, `app/NAME`, `environment/NAME`; a bare name is a Job's.
    #[arg(required = true, value_name = "OBJECT")]
    object: Vec<String>,
    #[command(flatten)]
    output: OutputArg,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let target = match args.object.as_slice() {
        [name] if !name.contains('/') => target::one(&args.object, Some(Kind::Job))?,
        words => target::one(words, None)?,
    };
    if !matches!(
        target.kind,
        Kind::Job | Kind::App | Kind::Environment | Kind::PodGroup
    ) {
        return Err(Failure::Usage(format!(
            "{}: only Jobs, Apps, PodGroups and Environments wait",
            target.show()
        )));
    }
    let why = session
        .client
        .why(target.kind, &session.project, &target.name)
        .await?;
    match args.output.output {
        Format::Json | Format::Yaml => {
            let value =
                serde_json::to_value(&why).map_err(|error| Failure::Failed(error.to_string()))?;
            session
                .out
                .value(&value, args.output.output == Format::Yaml)
        }
        Format::Table | Format::Wide | Format::Name => {
            session.out.line(&why.sentence)?;
            for detail in &why.details {
                session.out.line(format!("  {detail}"))?;
            }
            Ok(())
        }
    }
}
