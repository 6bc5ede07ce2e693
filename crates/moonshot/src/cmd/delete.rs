//! `delete`: delete objects.

use crate::cmd::wait;
use crate::exit::Failure;
use crate::files;
use crate::session::Session;
use crate::target::{self, Target};
use api::{Kind, Object};
use base::{Code, Span};
use client::ListQuery;
use std::path::PathBuf;

/// The most objects that one selector deletes.
const SELECTED_MAX: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND NAME…`, `KIND/NAME…`, or `KIND` with `-l`.
    #[arg(value_name = "OBJECT", required_unless_present = "filename")]
    objects: Vec<String>,
    /// The objects of these manifests.
    #[arg(short, long, value_name = "FILE", conflicts_with = "objects")]
    filename: Vec<PathBuf>,
    /// Those with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// What is not there is no error.
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until they are gone.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value_t = Span::from_secs(300))]
    timeout: Span,
    /// Check only.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let mut deleted = Vec::new();
    for (project, target) in targets(session, args).await? {
        match session
            .client
            .delete(target.kind, &project, &target.name, args.dry_run)
            .await
        {
            Ok(()) => {
                let note = if args.dry_run { " (dry run)" } else { "" };
                session
                    .out
                    .line(format!("{} deleted{note}", target.show()))?;
                deleted.push((project, target));
            }
            Err(error) if args.ignore_not_found && error.code() == Code::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    if args.wait && !args.dry_run {
        let deadline = wait::deadline(args.timeout);
        for (project, target) in deleted {
            let session = Session {
                project,
                ..session.clone()
            };
            wait::until(&session, &target, &wait::Condition::Gone, deadline).await?;
        }
    }
    Ok(())
}

async fn targets(session: &Session, args: &Args) -> Result<Vec<(String, Target)>, Failure> {
    let here = |targets: Vec<Target>| {
        targets
            .into_iter()
            .map(|target| (session.project.clone(), target))
            .collect::<Vec<_>>()
    };
    if !args.filename.is_empty() {
        let mut found = Vec::new();
        for source in files::read(&args.filename, false)? {
            for document in source.documents()? {
                let metadata = &document.object.metadata;
                let Some(kind) = Kind::find(&document.object.kind) else {
                    continue;
                };
                let project = if metadata.project.is_empty() {
                    session.project.clone()
                } else {
                    metadata.project.clone()
                };
                found.push((
                    project,
                    Target {
                        kind,
                        name: metadata.name.clone(),
                    },
                ));
            }
        }
        // What was made last depends on what was made first.
        found.reverse();
        return Ok(found);
    }
    let Some(selector) = &args.selector else {
        let targets = target::many(&args.objects)?;
        if targets.is_empty() {
            return Err(Failure::Usage(
                "which ones? write names, or select by `-l`".to_owned(),
            ));
        }
        return Ok(here(targets));
    };
    let [word] = args.objects.as_slice() else {
        return Err(Failure::Usage(
            "with `-l` write one kind and no names".to_owned(),
        ));
    };
    let kind = target::kind(word)?;
    let query = ListQuery {
        project: Some(session.project.clone()),
        labels: Some(selector.clone()),
        ..ListQuery::default()
    };
    let page = session
        .client
        .list::<Object>(kind, &query, SELECTED_MAX)
        .await?;
    Ok(here(
        page.items
            .into_iter()
            .map(|object| Target {
                kind,
                name: object.metadata.name,
            })
            .collect(),
    ))
}
