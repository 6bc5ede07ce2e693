//! Files on their way into pods and out of them, and programs beside a replica's.

use crate::bench::Cluster;
use base::{Digest, Span};
use engine::suite::{Bench, Program, Stage, text};
use engine::{
    Cause, ExecInput, ExecOutput, Life, Mount, MountSource, OutputSpec, Phase, Runtime, Stream,
};
use std::path::Path;
use std::process::Command;

/// A package that was not there when the cluster was made is installed here and imported there: nothing is pre-baked.
#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_unpacked_on_a_plain_python() {
    let cluster = Cluster::fresh().await;
    let digest = Digest([7; 32]);
    let venv = cluster.dir.path().join(digest.hex());
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    let mut install = Command::new(venv.join("bin/pip"));
    run(install.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "idna==3.10",
    ]));
    let stage = Stage::new(&cluster).await;
    let mut group = stage.group(Life::Batch, &Program::Sleep);
    group.template.runtime = Runtime::Bundle(digest);
    let script = "import idna, sys; print(idna.encode('ドメイン').decode(), sys.prefix)";
    group.template.command = ["python", "-c", script].map(str::to_owned).to_vec();
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let end = stage.end(&key).await;
    let said = text(&cluster.sink.of(&key), Stream::Stdout);
    assert_eq!(end.cause, Cause::Succeeded, "{}: {said}", end.message);
    assert_eq!(said, "xn--eckwd4c7c /moonshot/environment\n");
}

/// Code comes, outputs go; a missing one fails the replica in words.
#[tokio::test(flavor = "multi_thread")]
async fn code_comes_and_outputs_go() {
    let cluster = Cluster::fresh().await;
    let digest = Digest([9; 32]);
    let code = cluster.dir.path().join("code");
    std::fs::create_dir(&code).expect("made");
    let script = "cp \"$0\" $MOONSHOT_OUTPUTS/copy; pwd\n";
    std::fs::write(code.join("run.sh"), script).expect("written");
    pack(&code, &cluster.dir.path().join(digest.hex()));
    let stage = Stage::new(&cluster).await;
    let mut group = stage.group(Life::Batch, &Program::Sleep);
    group.template.command = ["sh", "./run.sh"].map(str::to_owned).to_vec();
    group.template.mounts = vec![
        Mount {
            source: MountSource::Code(digest),
            path: "code".to_owned(),
            read_only: true,
        },
        Mount {
            source: MountSource::Outputs,
            path: "outputs".to_owned(),
            read_only: false,
        },
    ];
    let output = |name: &str, path: &str| OutputSpec {
        name: name.to_owned(),
        path: path.to_owned(),
    };
    group.template.outputs = vec![output("copy", "copy")];
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
    assert_eq!(
        (end.outputs.len(), end.outputs[0].name.as_str()),
        (1, "copy")
    );
    assert_eq!(end.outputs[0].size.0, script.len() as u64);
    let said = text(&cluster.sink.of(&key), Stream::Stdout);
    assert_eq!(said, "/moonshot/root/code\n");

    group.owner = base::Uid(u128::MAX);
    group.template.outputs = vec![output("model", "model.bin")];
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    let end = stage.end(&key).await;
    assert_eq!(end.cause, Cause::Failed);
    assert!(
        end.message.contains("`model` is missing"),
        "{}",
        end.message
    );
}

/// With the replica's variables and directory; its exit code comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_beside_a_replica() {
    let cluster = Cluster::fresh().await;
    let stage = Stage::new(&cluster).await;
    let mut group = stage.group(Life::Batch, &Program::Stubborn);
    group.slots[0].env = vec![("RANK".to_owned(), "4".to_owned())];
    let key = group.key(&group.slots[0]);
    stage.ensure(&group).await;
    stage.phase(&key, |phase| *phase == Phase::Running).await;
    stage.frames(&key, "ready").await;
    let script = "read word; echo $RANK $word; echo err >&2; exit 7";
    let command = ["sh", "-c", script].map(str::to_owned);
    let mut exec = cluster
        .engine()
        .exec(&key, &command, None)
        .await
        .expect("started");
    exec.input
        .send(ExecInput::Stdin(b"hello\n".to_vec()))
        .await
        .expect("sent");
    let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), None);
    while let Some(piece) = exec.output.recv().await {
        match piece {
            ExecOutput::Bytes(Stream::Stdout, bytes) => out.extend(bytes),
            ExecOutput::Bytes(_, bytes) => err.extend(bytes),
            ExecOutput::Exited(with) => code = Some(with),
        }
    }
    assert_eq!(
        (out.as_slice(), err.as_slice(), code),
        (&b"4 hello\n"[..], &b"err\n"[..], Some(7))
    );
    stage.remove(&key, Span::ZERO).await;
    stage.end(&key).await;
}

fn run(command: &mut Command) {
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?}");
}

fn pack(dir: &Path, to: &Path) {
    let encoder = zstd::stream::write::Encoder::new(std::fs::File::create(to).expect("made"), 1);
    let mut archive = tar::Builder::new(encoder.expect("an encoder"));
    archive.append_dir_all(".", dir).expect("packed");
    archive.into_inner().expect("tar").finish().expect("zstd");
}
