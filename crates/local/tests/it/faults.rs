//! What goes wrong: the server is killed, a shim is killed, memory and disks run out, machines restart.

use crate::bench::{Machine, count_processes, has_root, skip};
use base::{Attempt, Bytes, Epoch, Span};
use engine::suite::{EPOCH, Program, Stage, text};
use engine::{Cause, Engine, EngineError, Group, Life, Phase, ReplicaKey, Stream};
use std::fs;
use std::path::Path;
use std::process::Command;

fn shell(stage: &Stage<'_, Machine>, life: Life, script: &str) -> Group {
    let mut group = stage.group(life, &Program::Sleep);
    group.template.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    group
}

fn key(group: &Group) -> ReplicaKey {
    group.key(&group.slots[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_takes_over_what_runs_and_what_ended_meanwhile() {
    let mut machine = Machine::new().await;
    let (runs, ends) = {
        let stage = Stage::new(&machine).await;
        let script =
            "echo before; while [ ! -e $HOME/go ]; do sleep 0.01; done; echo after; exec sleep 600";
        let runs = shell(&stage, Life::Service, script);
        let ends = shell(
            &stage,
            Life::Batch,
            "echo one; while [ ! -e $HOME/go ]; do sleep 0.01; done; echo two; exit 4",
        );
        stage.ensure(&runs).await;
        stage.ensure(&ends).await;
        stage.frames(&key(&runs), "before").await;
        stage.frames(&key(&ends), "one").await;
        (runs, ends)
    };
    machine.close().await;
    for group in [&runs, &ends] {
        fs::write(machine.replica_dir(&key(group)).join("root/go"), b"").expect("written");
    }
    let exit = machine.replica_dir(&key(&ends)).join("runs/0/exit");
    machine.wait_for("the exit record", || exit.exists()).await;
    machine.reopen().await;

    let stage = Stage::new(&machine).await;
    let report = stage
        .report(&key(&runs), |report| report.phase == Phase::Running)
        .await;
    assert_eq!((report.restarts, report.last_failure), (0, None));
    let end = stage.end(&key(&ends)).await;
    assert_eq!((end.cause, end.exit_code), (Cause::Failed, Some(4)));
    assert_eq!(
        text(&stage.frames(&key(&ends), "two").await, Stream::Stdout),
        "one\ntwo\n"
    );
    assert_eq!(
        text(&stage.frames(&key(&runs), "after").await, Stream::Stdout),
        "before\nafter\n"
    );
    // The same request from the new server starts nothing.
    stage.ensure(&runs).await;
    stage.ensure(&ends).await;
    stage.remove(&key(&runs), Span::from_secs(30)).await;
    assert_eq!(stage.end(&key(&runs)).await.cause, Cause::Stopped);
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_and_cursors_of_before_are_known_by_the_next_server() {
    let mut machine = Machine::new().await;
    let cursor = {
        let stage = Stage::new(&machine).await;
        machine.local().lead(Epoch(9)).await.expect("leads");
        stage.observe(None).await.cursor
    };
    machine.close().await;
    machine.reopen().await;
    let refused = machine.local().lead(EPOCH).await;
    assert!(
        matches!(
            refused,
            Err(EngineError::Superseded {
                highest: Epoch(9),
                ..
            })
        ),
        "{refused:?}"
    );
    let answer = machine
        .local()
        .observe(Some(cursor), Span::ZERO)
        .await
        .expect("observed");
    assert!(
        answer.complete,
        "a cursor of another process is answered with everything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_all_of_its_program_along() {
    shim_killed(Machine::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_all_of_its_program_along_also_without_cgroups() {
    shim_killed(Machine::with(|config| config.limits = None).await).await;
}

async fn shim_killed(machine: Machine) {
    let stage = Stage::new(&machine).await;
    // A child in a session of its own: the kernel's parent-death signal does not reach it.
    let group = shell(
        &stage,
        Life::Batch,
        "setsid sleep 7001 & sleep 7001 & echo up; sleep 7001",
    );
    stage.ensure(&group).await;
    stage.frames(&key(&group), "up").await;
    machine
        .wait_for("three sleepers", || {
            count_processes(&machine, &key(&group)) >= 3
        })
        .await;
    machine.kill_shim(&key(&group), 0);
    let end = stage.end(&key(&group)).await;
    assert_eq!(
        (end.cause, end.exit_code),
        (Cause::ShimLost, None),
        "{}",
        end.message
    );
    assert_eq!(count_processes(&machine, &key(&group)), 0);
    let frames = stage.frames(&key(&group), "up").await;
    assert_eq!(
        text(&frames, Stream::Note),
        "the output may be cut here: the program's shim was killed\n"
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_shim_is_killed_is_restarted_and_goes_on_counting() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let group = shell(&stage, Life::Service, "echo up; exec sleep 600");
    stage.ensure(&group).await;
    stage.frames(&key(&group), "up").await;
    machine.kill_shim(&key(&group), 0);
    let report = stage
        .report(&key(&group), |report| {
            report.restarts == 1 && report.phase == Phase::Running
        })
        .await;
    assert_eq!(
        report.last_failure.map(|end| end.cause),
        Some(Cause::ShimLost)
    );
    let frames = stage.frames(&key(&group), "up\nup\n").await;
    let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(frames[1].stream, Stream::Note);
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_machine_loses_what_ran_on_it() {
    let mut machine = Machine::new().await;
    let group = {
        let stage = Stage::new(&machine).await;
        let group = shell(&stage, Life::Service, "echo up; exec sleep 600");
        stage.ensure(&group).await;
        stage.frames(&key(&group), "up").await;
        group
    };
    machine.close().await;
    // Nothing of it is left after a reboot; here it must be ended by hand.
    machine.kill_shim(&key(&group), 0);
    machine.config.boot = "11111111-2222-3333-4444-555555555555".to_owned();
    machine.reopen().await;
    let stage = Stage::new(&machine).await;
    let end = stage.end(&key(&group)).await;
    assert_eq!(
        (end.cause, end.message.as_str()),
        (Cause::NodeLost, "the machine restarted")
    );
    let frames = stage.frames(&key(&group), "up").await;
    assert_eq!(
        text(&frames, Stream::Note),
        "the output may be cut here: the machine restarted\n"
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_not_given_is_not_had() {
    let machine = Machine::new().await;
    if machine.config.limits.is_none() {
        return skip("no cgroup limits here");
    }
    let stage = Stage::new(&machine).await;
    let mut group = shell(&stage, Life::Batch, "");
    group.template.resources.memory = Bytes(64 << 20);
    group.template.command = ["python3", "-c", "x = bytearray(512 << 20)"]
        .map(str::to_owned)
        .to_vec();
    stage.ensure(&group).await;
    let end = stage.end(&key(&group)).await;
    assert_eq!(
        (end.cause, end.signal),
        (Cause::OutOfMemory, Some(9)),
        "{}",
        end.message
    );
    assert!(
        end.message
            .starts_with("the kernel killed it for memory: it may use 64.0 MiB"),
        "{}",
        end.message
    );
    assert!(
        end.memory_peak > Bytes(32 << 20) && end.memory_peak <= Bytes(65 << 20),
        "{}",
        end.memory_peak
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_program_and_the_loss_is_told() {
    if !has_root() {
        return skip("only root can mount a small file system");
    }
    let machine = Machine::on_small_disk(8 << 20).await;
    let stage = Stage::new(&machine).await;
    machine.sink.set_down(true);
    // More than the disk holds, in lines that can be counted.
    let script = "import sys\nfor n in range(400_000): print(f'line {n:09} ' + 'x' * 40)\nsys.stderr.write('done')";
    let mut group = shell(&stage, Life::Batch, "");
    group.template.command = ["python3", "-c", script].map(str::to_owned).to_vec();
    group.template.grace = Span::ZERO;
    stage.ensure(&group).await;
    let exit = machine.replica_dir(&key(&group)).join("runs/0/exit");
    machine
        .wait_for("the program to end", || exit.exists())
        .await;
    machine.sink.set_down(false);
    let report = stage
        .report(&key(&group), |report| {
            matches!(report.phase, Phase::Ended(_)) && report.output_lost.0 != 0
        })
        .await;
    let Phase::Ended(end) = report.phase else {
        panic!("asked for an end")
    };
    assert_eq!(end.cause, Cause::Succeeded, "{}", end.message);
    let key = key(&group);
    machine
        .wait_for("the note", || {
            text(&machine.sink.of(&key), Stream::Note).contains("were dropped here")
        })
        .await;
    let frames = machine.sink.of(&key);
    let n_kept: usize = frames
        .iter()
        .filter(|frame| frame.stream != Stream::Note)
        .map(|frame| frame.bytes.len())
        .sum();
    assert_eq!(
        n_kept as u64 + report.output_lost.0,
        400_000 * 56 + 4,
        "every byte is kept or counted"
    );
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_while_segments_come_and_go() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let mut group = shell(&stage, Life::Batch, "");
    let script = "for n in range(200_000): print('line', n)";
    group.template.command = ["python3", "-c", script].map(str::to_owned).to_vec();
    stage.ensure(&group).await;
    assert_eq!(stage.end(&key(&group)).await.cause, Cause::Succeeded);
    let frames = stage.frames(&key(&group), "line 199999\n").await;
    let expect: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    assert!(
        text(&frames, Stream::Stdout) == expect,
        "every line once and in order"
    );
    let spool = machine.replica_dir(&key(&group)).join("spool");
    machine
        .wait_for("kept segments to go", || {
            fs::read_dir(&spool).is_ok_and(|entries| entries.count() == 1)
        })
        .await;
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_tree_of_stubborn_processes_is_killed() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let stubborn = "trap '' TERM; (trap '' TERM; sleep 7002) & (setsid sh -c \"trap '' TERM; sleep 7002\") & echo up; sleep 7002; sleep 7002";
    let group = shell(&stage, Life::Batch, stubborn);
    stage.ensure(&group).await;
    stage.frames(&key(&group), "up").await;
    machine
        .wait_for("the tree", || count_processes(&machine, &key(&group)) >= 5)
        .await;
    stage.remove(&key(&group), Span::from_ms(200)).await;
    assert_eq!(stage.end(&key(&group)).await.cause, Cause::Stopped);
    assert_eq!(count_processes(&machine, &key(&group)), 0);
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_is_for_those_who_clean_up() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    // The shell dies of the signal at once; its child needs a moment, and gets it.
    let child = "import os, signal, time\ndef bye(*_):\n  time.sleep(0.3); os.write(1, b'saved'); os._exit(0)\nsignal.signal(signal.SIGTERM, bye)\nprint('up', flush=True)\ntime.sleep(600)";
    let group = shell(
        &stage,
        Life::Batch,
        &format!("python3 -c \"{child}\"; true"),
    );
    stage.ensure(&group).await;
    stage.frames(&key(&group), "up").await;
    stage.remove(&key(&group), Span::from_secs(30)).await;
    assert_eq!(stage.end(&key(&group)).await.cause, Cause::Stopped);
    stage.frames(&key(&group), "saved").await;
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_uses_is_told_before_the_program_starts() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let number = listener.local_addr().expect("bound").port();
    let mut group = shell(&stage, Life::Service, "echo never");
    stage.declare_port(&mut group, number);
    stage.ensure(&group).await;
    let end = stage.end(&key(&group)).await;
    assert_eq!(end.cause, Cause::PortTaken);
    assert_eq!(
        end.message,
        format!("port {number} (`http`) is used by another program")
    );
    assert!(machine.sink.of(&key(&group)).is_empty());
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_the_root_ends_the_effects_of_the_one_before() {
    let mut machine = Machine::new().await;
    let (runs, crashes) = {
        let stage = Stage::new(&machine).await;
        let runs = shell(
            &stage,
            Life::Batch,
            "echo one; while [ ! -e $HOME/go ]; do sleep 0.01; done; echo two; exit 4",
        );
        // Restarted in place for ever: by one engine, never by two.
        let crashes = shell(&stage, Life::Service, "echo again; exit 1");
        stage.ensure(&runs).await;
        stage.ensure(&crashes).await;
        stage.frames(&key(&runs), "one").await;
        (runs, crashes)
    };
    let first = machine.replace().await;
    assert!(first.is_lost());
    let refused = [
        first.lead(Epoch(99)).await,
        first.ensure(Epoch(99), &runs).await,
        first
            .remove(
                Epoch(99),
                &key(&runs),
                Span::ZERO,
                engine::StopReason::Cancelled,
            )
            .await,
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(EngineError::Superseded { .. })),
            "{refused:?}"
        );
    }
    let late = local::Local::open(machine.config.clone(), None, Some(Epoch(0))).await;
    let late = late.err().expect("a term that is over takes nothing");
    assert!(
        matches!(late, local::OpenError::Superseded { .. }),
        "{late}"
    );

    let stage = Stage::new(&machine).await;
    fs::write(machine.replica_dir(&key(&runs)).join("root/go"), b"").expect("written");
    let end = stage.end(&key(&runs)).await;
    assert_eq!((end.cause, end.exit_code), (Cause::Failed, Some(4)));
    assert_eq!(
        text(&stage.frames(&key(&runs), "two").await, Stream::Stdout),
        "one\ntwo\n"
    );
    stage
        .report(&key(&crashes), |report| report.restarts >= 2)
        .await;
    let frames = stage.frames(&key(&crashes), "again").await;
    let numbers: Vec<u64> = frames.iter().map(|frame| frame.seq.0).collect();
    assert!(
        numbers.is_sorted_by(|a, b| a < b),
        "each line was carried once: {numbers:?}"
    );
    stage.remove(&key(&crashes), Span::ZERO).await;
    stage.end(&key(&crashes)).await;
    first.shutdown().await;
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_all_stops_all() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let keys = [
        stage.start(Life::Batch, &Program::Sleep).await,
        stage.start(Life::Service, &Program::Sleep).await,
    ];
    machine
        .local()
        .stop_all(Span::from_secs(10))
        .await
        .expect("stopped");
    for key in &keys {
        assert_eq!(stage.end(key).await.cause, Cause::Stopped);
    }
    machine.assert_clean().await;
}

/// It is no fault of the program's, so the Job tries again; what a shim complains of is.
#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_is_killed_before_it_begins_is_lost_and_one_that_complains_is_told() {
    for (script, cause, told) in [
        (
            "kill -9 $$",
            Cause::ShimLost,
            "before it started the program",
        ),
        (
            "echo no such library >&2; exit 1",
            Cause::StartFailed,
            "no such library",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let shim = dir.path().join("shim");
        write_program(&shim, &format!("#!/bin/sh\n{script}\n"));
        let machine = Machine::with(|config| config.shim = shim).await;
        let stage = Stage::new(&machine).await;
        let group = shell(&stage, Life::Batch, "echo never");
        stage.ensure(&group).await;
        let end = stage.end(&key(&group)).await;
        assert_eq!(end.cause, cause, "{}", end.message);
        assert!(end.message.contains(told), "{}", end.message);
        machine.assert_clean().await;
    }
}

/// Another process writes it: what this one holds open for writing, a test beside this one may inherit for the moment
/// in which it starts a program, and a file that is open for writing cannot be run.
fn write_program(path: &Path, text: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"]);
    let status = shell.arg(path).arg(text).status();
    assert!(status.expect("sh runs").success(), "written");
}

/// The shim that is left alone with a started claim and no server must not let the program start twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_claimed_is_never_started_again() {
    let machine = Machine::new().await;
    let stage = Stage::new(&machine).await;
    let group = shell(&stage, Life::Batch, "echo once");
    stage.ensure(&group).await;
    stage.end(&key(&group)).await;
    let run = machine.replica_dir(&key(&group)).join("runs/0");
    let launch = r#"{"version":1,"command":["sh","-c","echo twice"],"env":[],"cwd":"/","user":null,"spool":"SPOOL","spool_max":"1Mi","poke":null,"cgroup":{"procs":[],"oom":null,"peak":null}}"#;
    let file = machine.dir.path().join("launch");
    fs::write(
        &file,
        launch.replace(
            "SPOOL",
            &machine.dir.path().join("spool").display().to_string(),
        ),
    )
    .expect("written");
    let shim = Command::new(&machine.config.shim)
        .arg("run")
        .arg(&run)
        .stdin(fs::File::open(&file).expect("opened"))
        .status();
    assert!(shim.expect("the shim runs").success());
    assert!(
        !machine.dir.path().join("spool").exists(),
        "no second program"
    );
    let mut next = group.clone();
    next.slots[0].attempt = Attempt(2);
    stage.ensure(&next).await;
    stage.frames(&key(&next), "once").await;
    machine.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_crashes_for_ever_does_not_fill_the_disk() {
    let machine = Machine::with(|config| config.backoff.max = Span::from_ms(1)).await;
    let stage = Stage::new(&machine).await;
    let group = shell(&stage, Life::Service, "echo again; exit 1");
    stage.ensure(&group).await;
    stage
        .report(&key(&group), |report| report.restarts >= 20)
        .await;
    let runs = fs::read_dir(machine.replica_dir(&key(&group)).join("runs")).expect("listed");
    assert!(runs.count() <= 3);
    machine.assert_clean().await;
}
