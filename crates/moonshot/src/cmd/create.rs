//! `create`: make new objects from manifests.

use crate::exit::Failure;
use crate::files;
use crate::session::Session;
use api::{Kind, Scope};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a directory of files, or `-` for standard input. May be repeated.
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Directories with everything below them.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Check only.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    for source in files::read(&args.filename, args.recursive)? {
        for mut object in source.objects(session, args.dry_run).await? {
            let kind = Kind::find(&object.kind).ok_or_else(|| {
                Failure::Invalid(format!("{}: unknown kind `{}`", source.name, object.kind))
            })?;
            if kind.scope() == Scope::Project && object.metadata.project.is_empty() {
                object.metadata.project.clone_from(&session.project);
            }
            let made = session.client.create(&object, kind, args.dry_run).await?;
            let note = if args.dry_run { " (dry run)" } else { "" };
            session.out.line(format!(
                "{}/{} created{note}",
                kind.as_str().to_ascii_lowercase(),
                made.metadata.name
            ))?;
        }
    }
    Ok(())
}
