//! Jobs as a person meets them on the command line.

use e2e::Installation;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn job(name: &str, spec: &str) -> String {
    format!("apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

#[test]
fn jobs_end_as_they_should() {
    let installation = Installation::start(&[]);
    let small = "resources: {cpu: 10m, memory: 64Mi}";
    installation.apply(&job(
        "good",
        &format!("{{command: [sh, -c, 'echo out; echo err >&2'], {small}}}"),
    ));
    installation.apply(&job(
        "bad",
        &format!("{{command: [sh, -c, 'exit 7'], {small}}}"),
    ));
    installation.apply(&job(
        "missing",
        &format!("{{command: [no-such-program], {small}}}"),
    ));
    installation.apply(&job(
        "huge",
        "{command: ['true'], resources: {cpu: '4000'}}",
    ));
    let good = installation.wait_for("job", "good", &["Succeeded"], PATIENCE);
    assert_eq!(good["status"]["attempts"], 1);
    let log = installation.run(&["logs", "job/good"]).ok();
    assert!(log.contains("out") && log.contains("err"), "{log}");
    let bad = installation.wait_for("job", "bad", &["Failed"], PATIENCE);
    assert_eq!(bad["status"]["replicas"][0]["exitCode"], 7, "{bad:#}");
    let missing = installation.wait_for("job", "missing", &["Failed"], PATIENCE);
    assert!(
        missing["status"]["message"]
            .as_str()
            .unwrap_or_default()
            .contains("no-such-program"),
        "{missing:#}"
    );
    let why = installation.run(&["why", "job/huge"]).ok();
    assert!(why.contains("can never start"), "{why}");
    installation.run(&["cancel", "job/huge"]).ok();
    installation.wait_for("job", "huge", &["Cancelled"], PATIENCE);

    // All that the scheduler was told and decided is kept, decides the same again, and answers questions.
    let logs = std::fs::read_dir(installation.data().join("sched")).expect("it is kept");
    let logs: Vec<_> = logs.flatten().map(|entry| entry.path()).collect();
    let [log] = logs.as_slice() else {
        panic!("a term's log: {logs:?}")
    };
    let log = log.display().to_string();
    let replayed = installation.run(&["sim", "replay", &log]).ok();
    assert!(replayed.contains("all as recorded"), "{replayed}");
    let question = ["sim", "replay", &log, "--what-if", "add 1 like node-1"];
    let answer = installation.run(&question).ok();
    assert!(answer.contains("node"), "{answer}");
}

#[test]
fn too_much_memory_is_told_as_such() {
    let installation = Installation::start(&[]);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: memory limits need root");
        return;
    }
    let hungry = "import time\nx = bytearray(300 << 20)\ntime.sleep(30)";
    let spec = serde_json::json!({"command": ["python3", "-c", hungry], "resources": {"memory": "64Mi"}, "retry": {"outOfMemory": false}});
    installation.apply(&job("hungry", &spec.to_string()));
    let job = installation.wait_for("job", "hungry", &["Failed"], PATIENCE);
    assert_eq!(job["status"]["reason"], "OutOfMemory", "{job:#}");
}

#[test]
fn a_directory_is_run_and_its_outputs_come_back() {
    let installation = Installation::start(&[]);
    let code = installation.home().join("code");
    std::fs::create_dir_all(&code).expect("a directory");
    std::fs::write(
        code.join("train.py"),
        "import os, pathlib\nout = pathlib.Path(os.environ['MOONSHOT_OUTPUTS'])\n(out / 'result.txt').write_text('lr ' + os.environ['MOONSHOT_PARAM_LR'])\nprint('trained')\n",
    )
    .expect("a file");
    let mut command = installation.command(&[
        "run", "--name", "mine", "-p", "lr=0.1", "--", "python3", "train.py",
    ]);
    let output = command.current_dir(&code).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("trained"),
        "{text}"
    );
    let job = installation.get("job", "mine").expect("the Job");
    assert_eq!(job["status"]["phase"], "Succeeded", "{job:#}");
    assert_eq!(job["status"]["outputs"][0]["name"], "outputs", "{job:#}");
}

#[test]
fn mistakes_in_a_manifest_are_named_with_their_place() {
    let installation = Installation::start(&[]);
    let apply = |yaml: &str| installation.run_with_input(&["apply", "-f", "-"], yaml);
    let typo =
        apply("apiVersion: moonshot/v1\nkind: Job\nmetadata: {name: x}\nspec:\n  comand: [x]\n");
    assert_eq!(typo.code, 7, "{typo:?}");
    assert!(
        typo.stderr.contains("comand") && typo.stderr.contains("command"),
        "{typo:?}"
    );
    let kind = apply("apiVersion: moonshot/v1\nkind: Jobb\nmetadata: {name: x}\nspec: {}\n");
    assert!(kind.code == 7 && kind.stderr.contains("Job"), "{kind:?}");
    let syntax = apply("apiVersion: moonshot/v1\nkind: [Job\n");
    assert_eq!(syntax.code, 7, "{syntax:?}");
    assert_eq!(installation.run(&["get", "job", "x"]).code, 3);
}
