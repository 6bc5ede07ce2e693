//! What a program finds when it starts: its files, its variables, its directory.

use crate::ctx::Ctx;
use crate::environment::{self, MARKER};
use crate::layout::{DRAFT_PREFIX, ReplicaDir, dir_name};
use crate::record::Replica;
use engine::{Cause, EngineError, EnvValue, MountSource, Runtime, SecretEntries};
use shim::variables::{self, Variables};
use std::fmt::Display;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Shared memory: what lies there is never on disk.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// The most bytes of code or of one input; what is larger is a mistake, or meant to fill the disk.
const CONTENT_BYTES_MAX: u64 = 1 << 40;

/// Why a program was not started.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(what: impl Display, error: &dyn std::error::Error) -> Refusal {
        let mut message = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Refusal {
            cause: Cause::StartFailed,
            message,
        }
    }
}

/// What the shim is told besides the command.
pub(crate) struct Prepared {
    pub(crate) command: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(String, String)>,
}

/// Makes the files (once) and the variables (each time).
pub(crate) async fn prepare(
    ctx: &Ctx,
    replica: &Replica,
    dir: &ReplicaDir,
) -> Result<Prepared, Refusal> {
    if !dir.prepared().exists() {
        let draft = dir.draft(ctx.gate.incarnation());
        mounts(ctx, replica, dir, &draft).await?;
        let _pass = ctx.gate.pass().await;
        let placed = remove_if_there(&dir.root())
            .and_then(|()| fs::rename(&draft, dir.root()))
            .and_then(|()| fs::write(dir.prepared(), b""));
        placed.map_err(|error| Refusal::new("its files cannot be prepared", &error))?;
    }
    let env = variables(ctx, replica, dir).await?;
    let template = replica.template();
    let cwd = match template
        .mounts
        .iter()
        .find(|mount| matches!(mount.source, MountSource::Code(_)))
    {
        Some(code) => inside(&dir.root(), &code.path)?,
        None => dir.root(),
    };
    let own = match template.runtime {
        Runtime::Platform => Some(ctx.config.platform.to_string_lossy().into_owned()),
        Runtime::Host | Runtime::Bundle(_) | Runtime::Image(_) => None,
    };
    let words = template.command.iter().map(|word| env.expand(word));
    Ok(Prepared {
        command: own.into_iter().chain(words).collect(),
        cwd: template
            .workdir
            .as_ref()
            .map_or_else(|| Ok(cwd.clone()), |workdir| inside(&cwd, workdir))?,
        env: env.into_pairs(),
    })
}

/// Where the secret files of this engine's replicas lie.
pub(crate) fn secrets_base(ctx: &Ctx) -> PathBuf {
    Path::new(SHARED_MEMORY).join(ctx.layout.tag())
}

/// Where secret files of a replica lie, if shared memory can be used.
pub(crate) fn secrets_dir(ctx: &Ctx, replica: &Replica) -> Option<PathBuf> {
    let is_tmpfs = rustix::fs::statfs(SHARED_MEMORY).is_ok_and(|stat| stat.f_type == 0x0102_1994);
    is_tmpfs.then(|| secrets_base(ctx).join(dir_name(&replica.key())))
}

/// The directory that `$MOONSHOT_OUTPUTS` names.
pub(crate) fn outputs_dir(replica: &Replica, dir: &ReplicaDir) -> Result<PathBuf, Refusal> {
    outputs_under(replica, &dir.root())
}

fn outputs_under(replica: &Replica, root: &Path) -> Result<PathBuf, Refusal> {
    place(replica, root, "outputs", |source| {
        matches!(source, MountSource::Outputs)
    })
}

/// A mount's place, or a directory of this name where none is declared.
fn place(
    replica: &Replica,
    root: &Path,
    name: &str,
    is: impl Fn(&MountSource) -> bool,
) -> Result<PathBuf, Refusal> {
    let mount = replica
        .template()
        .mounts
        .iter()
        .find(|mount| is(&mount.source));
    inside(root, mount.map_or(name, |mount| &mount.path))
}

/// A path under `root`. Absolute ones are taken as relative to it, as in a sandbox.
fn inside(root: &Path, path: &str) -> Result<PathBuf, Refusal> {
    let mut inside = root.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let message = format!("the path `{path}` leads outside of the replica's files");
                return Err(Refusal {
                    cause: Cause::StartFailed,
                    message,
                });
            }
        }
    }
    Ok(inside)
}

/// Makes the files under `root`, a place that is this engine's alone: one that lost its right in the middle writes
/// into nothing that a program sees.
async fn mounts(
    ctx: &Ctx,
    replica: &Replica,
    dir: &ReplicaDir,
    root: &Path,
) -> Result<(), Refusal> {
    let files = |error: &io::Error| Refusal::new("its files cannot be prepared", error);
    let project = replica.group.project.as_str();
    // What a killed engine left half-made.
    for entry in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(DRAFT_PREFIX) {
            remove_if_there(&entry.path()).map_err(|error| files(&error))?;
        }
    }
    let outputs = outputs_under(replica, root)?;
    for made in [root, &root.join("tmp"), &outputs] {
        make_dir(made, 0o700).map_err(|error| files(&error))?;
    }
    for (n, mount) in replica.template().mounts.iter().enumerate() {
        let path = inside(root, &mount.path)?;
        match &mount.source {
            MountSource::Code(digest) | MountSource::Input(digest) => {
                let what = format!("`{}` cannot be put in place", mount.path);
                let blob = ctx
                    .config
                    .content
                    .blob(project, digest)
                    .await
                    .map_err(|error| Refusal::new(&what, &error))?;
                make_dir(&path, 0o700).map_err(|error| files(&error))?;
                let (limits, digest) = (pack::Limits::bytes(CONTENT_BYTES_MAX), *digest);
                let unpack = move || pack::unpack(&blob, &path, limits, Some(&digest));
                let unpacked = tokio::task::spawn_blocking(unpack)
                    .await
                    .map_err(|error| Refusal::new(&what, &error))?;
                unpacked.map_err(|error| Refusal::new(&what, &error))?;
            }
            MountSource::Outputs | MountSource::Scratch => {
                make_dir(&path, 0o700).map_err(|error| files(&error))?;
            }
            MountSource::Checkpoint(claim) => {
                let kept = inside(
                    &ctx.layout.checkpoints(&replica.key()),
                    &checkpoint_name(claim),
                )?;
                make_dir(&kept, 0o700)
                    .and_then(|()| link(&kept, &path))
                    .map_err(|error| files(&error))?;
                own(&kept, replica.template().user).map_err(|error| files(&error))?;
            }
            MountSource::Secret { name, version } => {
                let what = format!("secret `{name}` cannot be read");
                let entries = ctx.config.content.secret(project, name, *version).await;
                let entries = entries.map_err(|error| Refusal::new(&what, &error))?;
                let secrets = secrets_dir(ctx, replica).map(|secrets| secrets.join(n.to_string()));
                write_secret(secrets.as_deref(), &path, &entries, replica.template().user)
                    .map_err(|error| files(&error))?;
            }
            // `ensure` refused them.
            MountSource::Volume(_) | MountSource::Dataset(_) => {}
        }
    }
    own(root, replica.template().user).map_err(|error| files(&error))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A claim's directory: no claim's name can be that of the whole gang's, or lead elsewhere.
fn checkpoint_name(claim: &str) -> String {
    if claim.is_empty() {
        "all".to_owned()
    } else {
        format!("claim-{}", claim.replace('/', "-"))
    }
}

/// Entries as files of mode 0600: in shared memory behind a link, or in place where there is none.
fn write_secret(
    memory: Option<&Path>,
    path: &Path,
    entries: &SecretEntries,
    user: Option<u32>,
) -> io::Result<()> {
    let kept = memory.unwrap_or(path);
    remove_if_there(kept)?;
    make_dir(kept, 0o700)?;
    for (name, bytes) in entries {
        let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` cannot be a file name"),
            ));
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(kept.join(name))?;
        file.write_all(bytes)?;
    }
    own(kept, user)?;
    if memory.is_some() {
        link(kept, path)?;
    }
    Ok(())
}

fn link(to: &Path, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_dir(parent, 0o700)?;
    }
    symlink(to, path)
}

/// The last directory of the path gets this mode; those above it only let pass.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)?;
    }
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Gives a tree to the user; links themselves, never what they point to.
fn own(path: &Path, user: Option<u32>) -> io::Result<()> {
    let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(user), Some(user))?;
    if path.is_symlink() || !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        own(&entry?.path(), Some(user))?;
    }
    Ok(())
}

async fn variables(ctx: &Ctx, replica: &Replica, dir: &ReplicaDir) -> Result<Variables, Refusal> {
    let (template, slot, project) = (
        replica.template(),
        replica.slot(),
        replica.group.project.as_str(),
    );
    let mut env = Variables::default();
    let root = dir.root();
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    env.set("PATH", ctx.config.path.clone());
    env.set("HOME", text(root.clone()));
    env.set("TMPDIR", text(root.join("tmp")));
    env.set("LANG", "C.UTF-8");
    if let Runtime::Bundle(digest) = &template.runtime {
        let bundle = ctx.config.content.environment(project, digest).await;
        let bundle =
            bundle.map_err(|error| Refusal::new("its environment is not there", &error))?;
        env.set(
            "PATH",
            format!("{}/bin:{}", bundle.display(), ctx.config.path),
        );
        env.set("VIRTUAL_ENV", text(bundle));
        env.set("PYTHONUNBUFFERED", "1");
    }
    if template.runtime == Runtime::Platform {
        for (name, value) in &ctx.config.platform_env {
            env.set(name, value.clone());
        }
    }
    env.set("MOONSHOT_ROOT", text(root.clone()));
    env.set("MOONSHOT_OUTPUTS", text(outputs_dir(replica, dir)?));
    env.set("MOONSHOT_INPUTS", text(root.join("inputs")));
    let is_checkpoint = |source: &MountSource| matches!(source, MountSource::Checkpoint(_));
    if template
        .mounts
        .iter()
        .any(|mount| is_checkpoint(&mount.source))
    {
        env.set(
            "MOONSHOT_CHECKPOINT",
            text(place(replica, &root, "checkpoint", is_checkpoint)?),
        );
    }
    env.set("MOONSHOT_NODE", slot.node.clone());
    env.set("MOONSHOT_SERVER", ctx.config.server.clone());
    if !slot.token.is_empty() {
        env.set("MOONSHOT_ATTEMPT_TOKEN", slot.token.clone());
    }
    let declared: Vec<&str> = template
        .ports
        .iter()
        .map(|port| port.name.as_str())
        .collect();
    variables::ports(&mut env, &declared, &slot.ports);
    env.set("MOONSHOT_BIND", ctx.config.address.clone());
    environment::devices(&mut env, &slot.devices);
    for variable in &template.env {
        match &variable.value {
            EnvValue::Plain(value) => env.set_expanded(&variable.name, value),
            EnvValue::Secret { name, version, key } => {
                let value = secret_value(ctx, project, (name, *version), key).await?;
                env.set(&variable.name, value);
            }
        }
    }
    for (name, value) in &slot.env {
        env.set_expanded(name, value);
    }
    env.set(MARKER, dir_name(&replica.key()));
    Ok(env)
}

async fn secret_value(
    ctx: &Ctx,
    project: &str,
    (name, version): (&str, u32),
    key: &str,
) -> Result<String, Refusal> {
    let read: Result<SecretEntries, EngineError> =
        ctx.config.content.secret(project, name, version).await;
    let entries =
        read.map_err(|error| Refusal::new(format!("secret `{name}` cannot be read"), &error))?;
    let refuse = |why: &str| Refusal {
        cause: Cause::StartFailed,
        message: format!("secret `{name}` {why}"),
    };
    let found = entries.into_iter().find(|(entry, _)| entry == key);
    let (_, bytes) = found.ok_or_else(|| refuse(&format!("has no entry `{key}`")))?;
    let value = String::from_utf8(bytes).map_err(|_| refuse("is not text: mount it as a file"))?;
    if value.contains('\0') {
        return Err(refuse("is not text: mount it as a file"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let root = Path::new("/r");
        let check = |path: &str, expect: &str| {
            assert_eq!(
                inside(root, path).ok(),
                Some(PathBuf::from(expect)),
                "{path}"
            )
        };
        check("code", "/r/code");
        check("/data/./set", "/r/data/set");
        check("", "/r");
        for path in ["..", "a/../../b", "/../etc"] {
            assert!(inside(root, path).is_err(), "{path}");
        }
    }

    #[test]
    fn secret_files_are_for_one_user_alone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (memory, path) = (
            dir.path().join("memory"),
            dir.path().join("root/secrets/db"),
        );
        let entries = vec![("password".to_owned(), b"s3".to_vec())];
        write_secret(Some(&memory), &path, &entries, None).expect("written");
        write_secret(Some(&memory), &dir.path().join("again"), &entries, None)
            .expect("written again");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(
            (mode(&memory), mode(&memory.join("password"))),
            (0o700, 0o600)
        );
        assert_eq!(fs::read(path.join("password")).expect("read"), b"s3");
        let bad = vec![("../x".to_owned(), Vec::new())];
        assert!(write_secret(None, &dir.path().join("bad"), &bad, None).is_err());
    }
}
