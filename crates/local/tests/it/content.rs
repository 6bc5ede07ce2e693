//! What a program finds, what it leaves, and what others may do inside.

use crate::bench::Machine;
use base::{Attempt, Digest, Span};
use engine::suite::{Program, SECRET, Stage, text};
use engine::{
    Cause, Engine, EngineError, EnvValue, EnvVar, ExecInput, ExecOutput, Group, Isolation, Life,
    Mount, MountSource, OutputSpec, ReplicaKey, Runtime, Stream,
};
use std::path::Path;

/// Code that is not there.
const CODE: Digest = Digest([1; 32]);

fn key(group: &Group) -> ReplicaKey {
    group.key(&group.slots[0])
}

fn mount(source: MountSource, path: &str) -> Mount {
    Mount {
        source,
        path: path.to_owned(),
        read_only: false,
    }
}

fn secret() -> MountSource {
    MountSource::Secret {
        name: "suite".to_owned(),
        version: 1,
    }
}

fn group(stage: &Stage<'_, Machine>, script: &str) -> Group {
    let mut group = stage.group(Life::Batch, &Program::Sleep);
    group.template.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    group.template.mounts = vec![
        mount(MountSource::Code(CODE), "code"),
        mount(MountSource::Outputs, "outputs"),
        mount(MountSource::Checkpoint(String::new()), "checkpoint"),
        mount(secret(), "secrets/suite"),
    ];
    group
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    if path.is_symlink() {
        return false;
    }
    if path.is_dir() {
        return std::fs::read_dir(path)
            .expect("listed")
            .any(|entry| holds(&entry.expect("an entry").path(), needle));
    }
    let is_file = path.is_file();
    is_file
        && std::fs::read(path)
            .expect("read")
            .windows(needle.len())
            .any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn code_checkpoints_and_secrets_are_where_they_are_said_to_be() {
    let machine = Machine::new().await;
    let code = machine.packed(&[("sub/hello.txt", "from the code")]);
    let stage = Stage::new(&machine).await;
    let script = "cat hello.txt; echo; stat -c %a $MOONSHOT_ROOT/secrets/suite/password; [ \"$(cat $MOONSHOT_ROOT/secrets/suite/password)\" = \"$PASSWORD\" ] && echo same; \
                  cat $MOONSHOT_CHECKPOINT/step 2>/dev/null || echo none; echo $MOONSHOT_REPLICA > $MOONSHOT_CHECKPOINT/step; while [ ! -e $HOME/go ]; do sleep 0.01; done";
    let mut first = group(&stage, script);
    first.template.mounts[0] = mount(MountSource::Code(code), "code");
    first.template.workdir = Some("sub".to_owned());
    first.template.env = vec![EnvVar {
        name: "PASSWORD".to_owned(),
        value: EnvValue::Secret {
            name: "suite".to_owned(),
            version: 1,
            key: "password".to_owned(),
        },
    }];
    stage.ensure(&first).await;
    let frames = stage.frames(&key(&first), "none\n").await;
    assert_eq!(
        text(&frames, Stream::Stdout),
        format!("from the code\n600\nsame\nnone\n")
    );
    if Path::new("/dev/shm").is_dir() {
        assert!(
            !holds(&machine.config.root, SECRET.as_bytes()),
            "no secret is on disk"
        );
    }
    std::fs::write(machine.replica_dir(&key(&first)).join("root/go"), b"").expect("written");
    assert_eq!(stage.end(&key(&first)).await.cause, Cause::Succeeded);

    let mut second = first.clone();
    second.slots[0].attempt = Attempt(2);
    stage.ensure(&second).await;
    let marker = format!("{}.worker.0.1\n", second.owner);
    stage.frames(&key(&second), &marker).await;
    let engine = engine::suite::Bench::engine(&machine);
    let (mine, other) = (second.owner, base::Uid(7));
    assert_eq!(engine.checkpoints().await.expect("listed"), [mine]);
    std::fs::write(machine.replica_dir(&key(&second)).join("root/go"), b"").expect("written");
    assert_eq!(stage.end(&key(&second)).await.cause, Cause::Succeeded);
    // Of somebody else nothing is there, and that is no error; nor is a second time.
    for owner in [other, mine, mine] {
        let dropped = engine.drop_checkpoints(engine::suite::EPOCH, owner).await;
        dropped.expect("dropped");
    }
    assert!(engine.checkpoints().await.expect("listed").is_empty());
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_kept_and_a_missing_one_is_named() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let output = |name: &str, path: &str| OutputSpec {
        name: name.to_owned(),
        path: path.to_owned(),
    };
    let mut leaves = group(&stage, "printf 12345 > $MOONSHOT_OUTPUTS/model");
    leaves.template.mounts.remove(0);
    leaves.template.outputs = vec![output("model", "model")];
    let mut forgets = stage.group(Life::Batch, &Program::Exit(0));
    forgets.template.outputs = vec![output("error", "test-error.txt")];
    let mut nothing = stage.group(Life::Batch, &Program::Exit(0));
    nothing.template.outputs = vec![output("outputs", ".")];
    let mut steals = stage.group(Life::Batch, &Program::Exit(0));
    steals.template.command = ["sh", "-c", "ln -s /etc/hostname $MOONSHOT_OUTPUTS/model"]
        .map(str::to_owned)
        .to_vec();
    steals.template.outputs = vec![output("model", "model")];
    for group in [&leaves, &forgets, &nothing, &steals] {
        stage.ensure(group).await;
    }
    let end = stage.end(&key(&leaves)).await;
    let kept: Vec<(&str, u64)> = end
        .outputs
        .iter()
        .map(|output| (output.name.as_str(), output.size.0))
        .collect();
    assert_eq!(
        (end.cause, kept),
        (Cause::Succeeded, vec![("model", 5)]),
        "{}",
        end.message
    );
    let end = stage.end(&key(&forgets)).await;
    assert_eq!(end.cause, Cause::Failed);
    assert_eq!(
        end.message,
        "output `error` is missing: `$MOONSHOT_OUTPUTS/test-error.txt` was not written"
    );
    let end = stage.end(&key(&nothing)).await;
    assert_eq!((end.cause, end.outputs.len()), (Cause::Succeeded, 0));
    let end = stage.end(&key(&steals)).await;
    assert_eq!(
        (end.cause, end.outputs.len()),
        (Cause::Failed, 0),
        "{}",
        end.message
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_there_is_told() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let lost = group(&stage, "echo never");
    stage.ensure(&lost).await;
    let end = stage.end(&key(&lost)).await;
    assert_eq!(end.cause, Cause::StartFailed);
    assert!(
        end.message
            .starts_with("`code` cannot be put in place: reading sha256:0101"),
        "{}",
        end.message
    );
    assert!(
        end.message.ends_with("failed: no such content"),
        "{}",
        end.message
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_ports_are_told_in_variables() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let nodes = stage.observe(None).await.nodes;
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[0].devices.len(), 1);
    assert_eq!(
        (nodes[0].ports, nodes[1].ports),
        (Some((20_000, 24_999)), Some((25_000, 29_999)))
    );
    let names = [
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "PORT",
        "PORT_HTTP",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut group = stage.group(
        Life::Batch,
        &Program::Say("on $(MOONSHOT_NODE)".to_owned(), names),
    );
    let port = engine::suite::Bench::port(&machine);
    stage.declare_port(&mut group, port);
    let device = &nodes[0].devices[0];
    group.slots[0].devices = vec![engine::DeviceGrant {
        id: device.id.clone(),
        class: device.class.clone(),
        milli: 1_000,
        memory: base::Bytes(0),
    }];
    stage.ensure(&group).await;
    let frames = stage
        .frames(&key(&group), &format!("{port}\n{port}\n"))
        .await;
    assert_eq!(
        text(&frames, Stream::Stdout),
        format!("on node-1\nGPU-fake-0\nGPU-fake-0\n{port}\n{port}\n")
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_engine_does_not_do_is_refused_by_field() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let check = async |field: &str, change: &dyn Fn(&mut Group)| {
        let mut group = stage.group(Life::Batch, &Program::Exit(0));
        change(&mut group);
        let refused = machine.local().ensure(engine::suite::EPOCH, &group).await;
        let Err(EngineError::Unsupported { field: named, .. }) = refused else {
            panic!("{field}: {refused:?}")
        };
        assert_eq!(named, field);
    };
    check("environment", &|group| {
        group.template.runtime = Runtime::Image("python:3".to_owned())
    })
    .await;
    check("isolation", &|group| {
        group.template.isolation = Isolation::Gvisor
    })
    .await;
    check("mounts", &|group| {
        group.template.mounts = vec![mount(MountSource::Volume("v".to_owned()), "v")]
    })
    .await;
    check("command", &|group| group.template.command = Vec::new()).await;
    check("node", &|group| group.slots[0].node = "node-9".to_owned()).await;
    check("command", &|group| {
        let value = EnvValue::Secret {
            name: "suite".to_owned(),
            version: 1,
            key: "password".to_owned(),
        };
        group.template.env = vec![EnvVar {
            name: "PASSWORD".to_owned(),
            value,
        }];
        group.template.command = vec!["echo".to_owned(), "$(PASSWORD)".to_owned()];
    })
    .await;
    assert!(stage.observe(None).await.replicas.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_inside_a_replica() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let mut group = stage.group(Life::Batch, &Program::Sleep);
    group.template.env = vec![EnvVar {
        name: "COLOUR".to_owned(),
        value: EnvValue::Plain("green".to_owned()),
    }];
    stage.ensure(&group).await;
    let key = key(&group);
    stage
        .phase(&key, |phase| *phase == engine::Phase::Running)
        .await;

    let script = "read line; echo $COLOUR $line; pwd; cat /proc/self/cgroup >&2; exit 5";
    let (out, err, code) = talk(&machine, &key, script, None, "day\n").await;
    let root = machine.replica_dir(&key).join("root");
    assert_eq!(
        (out.as_str(), code),
        (format!("green day\n{}\n", root.display()).as_str(), 5)
    );
    if machine.config.limits.is_some() {
        assert!(err.contains(&format!("{}.worker.0.1", key.owner)), "{err}");
    }
    let (out, _, code) = talk(
        &machine,
        &key,
        "read line; tty; stty size; echo got $line",
        Some((100, 40)),
        "it\n",
    )
    .await;
    assert!(
        out.contains("/dev/pts/") && out.contains("40 100") && out.contains("got it"),
        "{out}"
    );
    assert_eq!(code, 0);
    let missing = ["no-such-program".to_owned()];
    let mut exec = machine
        .local()
        .exec(&key, &missing, None)
        .await
        .expect("started");
    let mut codes = Vec::new();
    while let Some(output) = exec.output.recv().await {
        codes.extend(match output {
            ExecOutput::Exited(code) => Some(code),
            ExecOutput::Bytes(..) => None,
        });
    }
    assert_eq!(codes, [127]);
    stage.remove(&key, Span::ZERO).await;
    stage.end(&key).await;
    let refused = machine.local().exec(&key, &missing, None).await.err();
    assert!(matches!(refused, Some(EngineError::NotRunning(_))));
    machine.assert_clean().await;
}

async fn talk(
    machine: &Machine,
    key: &ReplicaKey,
    script: &str,
    terminal: Option<(u16, u16)>,
    input: &str,
) -> (String, String, i32) {
    let command = ["sh", "-c", script].map(str::to_owned);
    let mut exec = machine
        .local()
        .exec(key, &command, terminal)
        .await
        .expect("started");
    exec.input
        .send(ExecInput::Stdin(input.as_bytes().to_vec()))
        .await
        .expect("taken");
    let (mut out, mut err, mut exit) = (Vec::new(), Vec::new(), None);
    while let Some(output) = exec.output.recv().await {
        match output {
            ExecOutput::Bytes(Stream::Stderr, bytes) => err.extend(bytes),
            ExecOutput::Bytes(_, bytes) => out.extend(bytes),
            ExecOutput::Exited(code) => exit = Some(code),
        }
    }
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(out), text(err), exit.expect("an exit code"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_its_first_line_soon_after_it_is_asked_for() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let group = stage.group(Life::Batch, &Program::Lines(1));
        let begun = std::time::Instant::now();
        stage.ensure(&group).await;
        stage.frames(&key(&group), "line 1").await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "asked to first line in the sink: median {:?}, slowest {:?}",
        times[10], times[19]
    );
    assert!(times[10].as_millis() < 500, "{times:?}");
    machine.assert_clean().await;
}
