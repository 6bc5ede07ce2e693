//! `diff`: what `apply` would change.

use crate::exit::Failure;
use crate::files;
use crate::session::Session;
use api::answer::ApplyAction;
use client::ApplyOptions;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a directory of files, or `-` for standard input. May be repeated.
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Directories with everything below them.
    #[arg(short = 'R', long)]
    recursive: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let options = ApplyOptions {
        dry_run: true,
        replace: true,
        project: Some(session.project.clone()),
    };
    let mut differs = false;
    for source in files::read(&args.filename, args.recursive)? {
        for result in source.apply(session, &options).await? {
            if result.action == ApplyAction::Unchanged {
                continue;
            }
            differs = true;
            session.out.line(format!(
                "{}/{} would be {}",
                result.kind.to_ascii_lowercase(),
                result.name,
                result.action.as_str()
            ))?;
            for line in &result.diff {
                session.out.line(format!("  {line}"))?;
            }
        }
    }
    if differs {
        Err(Failure::Code(1))
    } else {
        Ok(())
    }
}
