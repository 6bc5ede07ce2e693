//! `cp`: outputs of Jobs, and files of replicas.

use crate::cmd::exec;
use crate::code;
use crate::exit::Failure;
use crate::session::Session;
use crate::target::{self, Replica};
use api::Kind;
use api::kind::Job;
use std::path::{Path, PathBuf};

/// The most bytes of an output that are unpacked here.
const OUTPUT_BYTES_MAX: u64 = 1 << 40;
/// The most bytes of a replica's file; outputs are for more.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `job/NAME:OUTPUT`, `job/NAME/GROUP/INDEX:/path/of/file`, or a file of this machine.
    from: String,
    /// A directory or file of this machine, or `job/NAME/GROUP/INDEX:/path/of/file`.
    to: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    match (remote(&args.from)?, remote(&args.to)?) {
        (Some((replica, path)), None)
            if replica.index.is_none() && replica.target.kind == Kind::Job =>
        {
            output(session, &replica.target.name, &path, &into(&args.to, &path)).await
        }
        (Some((replica, path)), None) => download(session, &replica, &path, &args.to).await,
        (None, Some((replica, path))) => upload(session, &args.from, &replica, &path).await,
        (Some(_), Some(_)) | (None, None) => Err(Failure::Usage(
            "one side must be of this machine, the other `REPLICA:PATH` or `job/NAME:OUTPUT`"
                .to_owned(),
        )),
    }
}

/// `job/a:model`; a path of this machine has no colon, or a `/` or `.` at its beginning.
fn remote(text: &str) -> Result<Option<(Replica, String)>, Failure> {
    match text.split_once(':') {
        Some((replica, path)) if replica.contains('/') && !replica.starts_with(['/', '.']) => {
            Ok(Some((target::replica(replica)?, path.to_owned())))
        }
        Some(_) | None => Ok(None),
    }
}

/// An output goes into a directory of its name where the destination exists.
fn into(to: &str, name: &str) -> PathBuf {
    let path = PathBuf::from(to);
    if path.is_dir() { path.join(name) } else { path }
}

/// Every output of a Job, each into a directory of its name.
pub(crate) async fn all_outputs(session: &Session, job: &str, dir: &Path) -> Result<(), Failure> {
    let job: Job = session.client.get(Kind::Job, &session.project, job).await?;
    for kept in job.status.unwrap_or_default().outputs {
        output(
            session,
            &job.metadata.name,
            &kept.name,
            &dir.join(&kept.name),
        )
        .await?;
    }
    Ok(())
}

async fn output(session: &Session, job: &str, name: &str, into: &Path) -> Result<(), Failure> {
    let packed = tempfile::NamedTempFile::new().map_err(Failure::local("make a temporary file"))?;
    let file = tokio::fs::File::create(packed.path())
        .await
        .map_err(Failure::local("write a temporary file"))?;
    let bar = code::progress(session.out.progress, 0, "downloading the output");
    let shown = bar.clone();
    let progress = Box::new(move |received| shown.set_position(received));
    session
        .client
        .download_output(&session.project, job, name, file, progress)
        .await?;
    bar.finish_and_clear();
    std::fs::create_dir_all(into).map_err(Failure::local(format!("make `{}`", into.display())))?;
    store::pack::unpack(packed.path(), into, OUTPUT_BYTES_MAX)
        .map_err(|error| Failure::Failed(code::chain(&error)))?;
    session
        .out
        .line(format!("job/{job}:{name} -> {}", into.display()))
}

async fn download(
    session: &Session,
    replica: &Replica,
    path: &str,
    to: &str,
) -> Result<(), Failure> {
    let command = ["cat", "--", path].map(str::to_owned);
    let bytes = exec::capture(session, replica, &command, &[]).await?;
    let name = path.rsplit('/').next().unwrap_or("file");
    let to = into(to, name);
    std::fs::write(&to, bytes).map_err(Failure::local(format!("write `{}`", to.display())))
}

async fn upload(
    session: &Session,
    from: &str,
    replica: &Replica,
    path: &str,
) -> Result<(), Failure> {
    let size = std::fs::metadata(from)
        .map_err(Failure::local(format!("read `{from}`")))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::Failed(format!(
            "`{from}` has {} MiB; at most {} MiB are copied into a replica",
            size >> 20,
            FILE_BYTES_MAX >> 20
        )));
    }
    let bytes = std::fs::read(from).map_err(Failure::local(format!("read `{from}`")))?;
    let command = ["sh", "-c", "cat > \"$1\"", "sh", path].map(str::to_owned);
    exec::capture(session, replica, &command, &bytes)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        let check = |text: &str, expect: Option<&str>| {
            let found = remote(text).unwrap().map(|(_, path)| path);
            assert_eq!(found.as_deref(), expect, "{text}");
        };
        check("job/a:model", Some("model"));
        check("job/a/worker/0:/tmp/x", Some("/tmp/x"));
        check("./job/a:model", None);
        check("/a/b:c", None);
        check("file", None);
        assert!(remote("node/a:x").is_err());
    }
}
