//! `cp`: outputs of Jobs, and files of replicas.

use crate::cmd::exec;
use crate::code;
use crate::exit::Failure;
use crate::session::Session;
use crate::target::{self, Replica};
use api::Kind;
use api::kind::Job;
use base::Digest;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The most bytes of an output that are unpacked here.
const OUTPUT_BYTES_MAX: u64 = 1 << 40;
/// Takes its input into `$1`, or into `$2` where that is a directory; a copy that breaks off leaves the old file.
const TAKE: &str =
    r#"if [ -d "$1" ]; then set -- "$1/$2"; fi; cat > "$1.part" && mv -f "$1.part" "$1""#;

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
            let name = &replica.target.name;
            let job: Job = session
                .client
                .get(Kind::Job, &session.project, name)
                .await?;
            let outputs = job.status.unwrap_or_default().outputs;
            let kept = outputs.iter().find(|kept| kept.name == path);
            let digest = kept.map(|kept| &kept.digest);
            output(session, name, &path, digest, &into(&args.to, &path)).await
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

/// `job/NAME:OUTPUT` into its parts.
pub(crate) fn job_output(text: &str) -> Option<(&str, &str)> {
    let (job, output) = text.strip_prefix("job/")?.split_once(':')?;
    (!job.is_empty() && !job.contains('/') && !output.is_empty()).then_some((job, output))
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
        let into = dir.join(&kept.name);
        let digest = Some(&kept.digest);
        output(session, &job.metadata.name, &kept.name, digest, &into).await?;
    }
    Ok(())
}

/// Unpacks an output. With its digest, other bytes than those that the Job left are an error.
async fn output(
    session: &Session,
    job: &str,
    name: &str,
    digest: Option<&Digest>,
    into: &Path,
) -> Result<(), Failure> {
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
    let limits = pack::Limits::bytes(OUTPUT_BYTES_MAX);
    pack::unpack(packed.path(), into, limits, digest)
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
    let name = path.rsplit('/').next().unwrap_or("file");
    let to = into(to, name);
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    let write = || Failure::local(format!("write `{}`", to.display()));
    // Beside its place, so that a copy that breaks off leaves nothing.
    let draft = tempfile::NamedTempFile::new_in(dir).map_err(write())?;
    let file = tokio::fs::File::create(draft.path())
        .await
        .map_err(write())?;
    let command = ["cat", "--", path].map(str::to_owned);
    exec::pipe(session, replica, &command, tokio::io::empty(), file).await?;
    let mode = std::fs::Permissions::from_mode(0o666 & !umask());
    std::fs::set_permissions(draft.path(), mode).map_err(write())?;
    draft.persist(&to).map_err(|error| write()(error.error))?;
    Ok(())
}

async fn upload(
    session: &Session,
    from: &str,
    replica: &Replica,
    path: &str,
) -> Result<(), Failure> {
    let read = || Failure::local(format!("read `{from}`"));
    let file = tokio::fs::File::open(from).await.map_err(read())?;
    if file.metadata().await.map_err(read())?.is_dir() {
        return Err(Failure::Usage(format!(
            "`{from}` is a directory; pack it (`tar -cf - {from} | moonshot exec -i REPLICA -- tar -xf -`)"
        )));
    }
    let name = Path::new(from)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let command = ["sh", "-c", TAKE, "sh", path, &name].map(str::to_owned);
    exec::pipe(session, replica, &command, file, tokio::io::sink()).await
}

/// The process's mask: a copy gets the rights that a file made here has.
fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    mask.bits()
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
