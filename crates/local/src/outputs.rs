//! Keeps what a program was to leave, before its end is told.

use crate::ctx::Ctx;
use crate::layout::ReplicaDir;
use crate::prepare::{Refusal, outputs_dir};
use crate::record::Replica;
use base::Bytes;
use engine::Output;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How often a store that fails is asked.
const TRIES: u32 = 5;
/// Between tries.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps every declared output, or says in a sentence which one is missing. An output that is the
/// whole directory may be empty: then there is none.
pub(crate) async fn keep(
    ctx: &Ctx,
    replica: &Replica,
    dir: &ReplicaDir,
) -> Result<Vec<Output>, String> {
    let base = outputs_dir(replica, dir).map_err(|refusal| refusal.message)?;
    let mut outputs = Vec::with_capacity(replica.template().outputs.len());
    for spec in &replica.template().outputs {
        let path = base.join(&spec.path);
        let is_all = matches!(spec.path.as_str(), "." | "" | "./");
        if is_all && is_empty(&base) {
            continue;
        }
        // A link, or `..`, must not make us keep other people's files.
        let inside =
            fs::canonicalize(&base).and_then(|base| Ok(fs::canonicalize(&path)?.starts_with(base)));
        match inside {
            Ok(true) => outputs.push(keep_one(ctx, replica, &spec.name, &path).await?),
            Ok(false) => {
                return Err(format!(
                    "output `{}`: `{}` is not in the outputs directory",
                    spec.name, spec.path
                ));
            }
            Err(_) => {
                let (name, path) = (&spec.name, &spec.path);
                return Err(format!(
                    "output `{name}` is missing: `$MOONSHOT_OUTPUTS/{path}` was not written"
                ));
            }
        }
    }
    Ok(outputs)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

async fn keep_one(ctx: &Ctx, replica: &Replica, name: &str, path: &Path) -> Result<Output, String> {
    let mut tries = 1;
    loop {
        match ctx.config.content.keep(&replica.group.project, path).await {
            Ok((digest, size)) => {
                return Ok(Output {
                    name: name.to_owned(),
                    digest,
                    size: Bytes(size),
                });
            }
            Err(error) if tries == TRIES => {
                // With its causes: a project's quota, a full disk, a link that leads elsewhere.
                let what = format!("output `{name}` could not be kept");
                return Err(Refusal::new(what, &error).message);
            }
            Err(_) => {
                tries += 1;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
