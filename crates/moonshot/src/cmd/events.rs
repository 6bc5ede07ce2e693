//! `events`: what happened.

use crate::age;
use crate::cmd::OutputArg;
use crate::exit::Failure;
use crate::out::Format;
use crate::session::Session;
use crate::target;
use crate::view::{self, Options};
use api::{Kind, Object};
use client::ListQuery;

/// The most events that are shown.
const EVENTS_MAX: usize = 1_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those of `KIND NAME` or `KIND/NAME`. Default: all of the project.
    #[arg(value_name = "OBJECT")]
    object: Vec<String>,
    /// Of all projects.
    #[arg(short = 'A', long)]
    all_projects: bool,
    #[command(flatten)]
    output: OutputArg,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let mut events: Vec<Object> = if args.object.is_empty() {
        let project = if args.all_projects {
            None
        } else {
            Some(session.project.clone())
        };
        let query = ListQuery {
            project,
            ..ListQuery::default()
        };
        session
            .client
            .list(Kind::Event, &query, EVENTS_MAX)
            .await?
            .items
    } else {
        let target = target::one(&args.object, None)?;
        let events = session
            .client
            .events(target.kind, &session.project, &target.name)
            .await?;
        let value =
            serde_json::to_value(events).map_err(|error| Failure::Failed(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| Failure::Failed(error.to_string()))?
    };
    events.sort_by(|a, b| a.spec["lastAt"].as_str().cmp(&b.spec["lastAt"].as_str()));
    match args.output.output {
        Format::Json | Format::Yaml => {
            let value = serde_json::json!({ "items": events });
            session
                .out
                .value(&value, args.output.output == Format::Yaml)
        }
        Format::Table | Format::Wide | Format::Name => {
            if events.is_empty() {
                session.out.note("nothing happened yet");
                return Ok(());
            }
            let options = Options {
                wide: false,
                projects: args.all_projects,
                labels: false,
                now: age::now(),
            };
            session
                .out
                .table(&view::objects(Kind::Event, &events, options))
        }
    }
}
