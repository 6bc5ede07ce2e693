//! `describe`: everything about objects, on one page each.

use crate::age;
use crate::describe;
use crate::exit::Failure;
use crate::session::Session;
use crate::target;
use crate::view::{self, status};
use api::{Kind, Object, Scope};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND NAME…` or `KIND/NAME…`.
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let targets = target::many(&args.objects)?;
    if targets.is_empty() {
        return Err(Failure::Usage(
            "which one? write for example `moonshot describe job/flights`".to_owned(),
        ));
    }
    for (i, target) in targets.iter().enumerate() {
        let object = session.get(target.kind, &target.name).await?;
        let events = match target.kind.scope() {
            Scope::Project => {
                session
                    .client
                    .events(target.kind, &session.project, &target.name)
                    .await?
            }
            Scope::Global | Scope::Tenant => Vec::new(),
        };
        let why = if waits(target.kind, &object) {
            Some(
                session
                    .client
                    .why(target.kind, &session.project, &target.name)
                    .await?
                    .sentence,
            )
        } else {
            None
        };
        if i > 0 {
            session.out.line("---")?;
        }
        let mut page = describe::page(&object, &events, why.as_deref(), age::now());
        // One try is told by the replicas.
        if target.kind == Kind::Job && view::of_status(&object, "attempts").as_u64() > Some(1) {
            let attempts = session
                .client
                .attempts(&session.project, &target.name)
                .await?;
            page.push_str(&describe::attempts(&attempts, age::now()));
        }
        session.out.text(&page)?;
    }
    Ok(())
}

/// Whether there is something to explain.
fn waits(kind: Kind, object: &Object) -> bool {
    let phase = status(object, "phase");
    match kind {
        Kind::Job => phase == "Queued",
        Kind::App => ["Progressing", "Degraded"].contains(&phase.as_str()),
        Kind::Environment => phase == "Building",
        _ => false,
    }
}
