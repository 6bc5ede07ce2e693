//! Models in processes of their own (`isolate = true`): what crashes takes down its process and no more.

use crate::host::{Got, Host, XGBOOST, put, worker};
use crate::oracle::run;
use crate::{onnx, tensorflow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SETTINGS: &[u8] = b"isolate = true\nop_libraries = [\"crash.so\"]\n";

/// Models of an operation that crashes when it is told to: `fragile`, `dies`, which is told always, and `calm`, which
/// never is.
fn crashing() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash");
        let _ = std::fs::remove_dir_all(&made);
        let python = &tensorflow::models().python;
        run(python, "make_crash.py", &[made.to_str().unwrap()]);
        made
    })
}

/// Puts a version of one of them into a repository, as a model that is isolated.
fn place(dir: &Path, from: &str, model: &str, version: u64) {
    std::fs::create_dir_all(dir.join(model)).unwrap();
    if !dir.join(model).join("model.toml").exists() {
        put(dir, &format!("{model}/model.toml"), SETTINGS);
    }
    symlink(
        crashing().join(from),
        dir.join(format!("{model}/{version}")),
    )
    .unwrap();
}

fn ask(host: &Host, model: &str, value: f64) -> Got {
    let body = json!({ "instances": [value] }).to_string();
    host.post(&format!("/v1/models/{model}:predict"), &body)
}

fn answers(host: &Host, model: &str) -> bool {
    let got = ask(host, model, 2.5);
    got.status == 200 && got.json()["predictions"] == json!([2.5])
}

fn until_answers(host: &Host, model: &str) {
    host.until("the model answers", || answers(host, model));
}

fn restarts(host: &Host, model: &str) -> u64 {
    restarts_of(host, model, 1)
}

fn restarts_of(host: &Host, model: &str, version: u64) -> u64 {
    let text = host.get("/metrics").text();
    let name = "moonshot_serve_worker_restarts_total";
    let name = format!("{name}{{model=\"{model}\",version=\"{version}\"}} ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&name));
    lines.next().expect("the series").parse().unwrap()
}

/// The processes of a model. One that is over and waits for its parent has no command any more.
fn workers(model: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let is_of_it = |word: &&[u8]| word.starts_with(format!("{model}/").as_bytes());
        if words.contains(&&b"serve-worker"[..]) && words.iter().any(is_of_it) {
            found.push(pid);
        }
    }
    found
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Asks models in turn until it is told to stop; how many answers were right, and those that were not.
fn loop_over(host: &Host, models: &[&str], stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut right, mut wrong) = (0, Vec::new());
    while !stop.load(Relaxed) {
        for model in models {
            let got = match *model {
                "late" => host.post("/v1/models/late:predict", "{\"instances\":[[1,2,3]]}"),
                model => ask(host, model, 2.5),
            };
            match got.status {
                200 => right += 1,
                _ => wrong.push(format!("{model}: {}", got.text())),
            }
        }
    }
    (right, wrong)
}

#[test]
fn a_crash_takes_down_the_models_process_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "fragile", "falls", 1);
    place(dir.path(), "fragile", "stands", 1);
    put(dir.path(), "late/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    assert!(answers(&host, "falls"));
    assert_eq!(restarts(&host, "falls"), 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| loop_over(&host, &["late", "stands"], &stop));
        for (value, how) in [
            (-5.0, "ended by signal 6 (SIGABRT)"),
            (1000.0, "ended by signal 11 (SIGSEGV)"),
            (4000.0, "ended with exit code 7"),
        ] {
            let got = ask(&host, "falls", value);
            let text = got.text();
            assert_eq!(got.status, 503, "{text}");
            let wanted = format!(
                "the worker process of model `falls`, version 1, {how} and is started again; try again later"
            );
            assert!(text.contains(&wanted), "{text}");
            // Nobody waits for the next process.
            let begun = Instant::now();
            let got = ask(&host, "falls", 2.5);
            assert!(got.status == 503 && got.text().contains(how), "{got:?}");
            assert!(begun.elapsed() < Duration::from_secs(1));
            until_answers(&host, "falls");
        }
        stop.store(true, Relaxed);
        let (right, wrong) = others.join().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(right > 100, "{right}");
        println!("{right} answers of the other models meanwhile, 0 errors");
    });
    assert_eq!(
        (restarts(&host, "falls"), restarts(&host, "stands")),
        (3, 0)
    );
    // A tree model has no process.
    let text = host.get("/metrics").text();
    assert!(!text.contains("restarts_total{model=\"late\""), "{text}");
    let failed =
        "moonshot_serve_requests_total{model=\"falls\",version=\"1\",code=\"unavailable\"} ";
    assert!(text.contains(failed), "{text}");
}

#[test]
fn a_model_that_crashes_while_it_loads_is_told_of_and_never_ready() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "dies", "stillborn", 1);
    put(dir.path(), "late/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |_| {});
    let error = || {
        let status = host.get("/v1/models/stillborn").json();
        let status = &status["model_version_status"][0]["status"];
        status["error_message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    host.until("the load was given up", || !error().is_empty());
    let wanted = "the worker process: it ended by signal 6 (SIGABRT) while it loaded the model";
    assert!(error().contains(wanted), "{}", error());
    assert_ne!(host.get("/v2/models/stillborn/ready").status, 200);
    let got = ask(&host, "stillborn", 1.0);
    assert!(got.status == 503 && got.text().contains(wanted), "{got:?}");
    assert!(workers("stillborn").is_empty());
    let got = host.post("/v1/models/late:predict", "{\"instances\":[[1,2,3]]}");
    assert_eq!(got.status, 200);
}

#[test]
fn what_a_model_lacks_is_told_as_if_it_were_in_the_server() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "noise/1/saved_model.pb", &[0x5a; 4_000]);
    put(dir.path(), "noise/model.toml", b"isolate = true\n");
    put(dir.path(), "cut/1/model.onnx", b"\x08");
    put(dir.path(), "cut/model.toml", b"isolate = true\n");
    let host = Host::start(dir.path(), |_| {});
    let why = |model: &str| ask(&host, model, 1.0).text();
    host.until("both were tried", || {
        why("noise").contains(
            "could not be loaded: `saved_model.pb`: it is no SavedModel, or it is cut off",
        ) && why("cut").contains("could not be loaded: `model.onnx`: ")
    });
    // A program that is not there, one that says nothing, and some that say what is no answer.
    for (program, says, wanted) in [
        (
            "/nowhere/moonshot",
            "",
            "`/nowhere/moonshot` cannot be started: No such file",
        ),
        (
            "/bin/true",
            "",
            "it ended with exit code 0 while it loaded the model",
        ),
        (
            "/bin/sh",
            "\\377\\377\\377\\377",
            "it sent a message of 4294967295 bytes; at most 2147483648 are carried",
        ),
        (
            "/bin/sh",
            "\\4\\0\\0\\0\\7\\0\\0\\0",
            "it sent a message that is cut off",
        ),
        (
            "/bin/sh",
            "\\7\\0\\0\\0\\3\\0\\0\\0{}}",
            "it sent a text that is not what was expected",
        ),
    ] {
        let host = Host::start(dir.path(), |config| {
            config.worker.program = program.into();
            // Its standard input is the socket to the server.
            let script = format!("printf '{says}' >&0; exec sleep 60");
            config.worker.args = vec!["-c".into(), script.into()];
        });
        host.until("it was tried", || {
            ask(&host, "noise", 1.0).text().contains(wanted)
        });
    }
}

#[test]
fn a_process_killed_from_outside_fails_its_requests_and_no_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [SETTINGS, b"batching = false\n"].concat();
    put(dir.path(), "shot/model.toml", &settings);
    place(dir.path(), "fragile", "shot", 1);
    let host = Host::start(dir.path(), |_| {});
    until_answers(&host, "shot");
    let [pid] = workers("shot")[..] else {
        panic!("one process")
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let slow = [(); 4].map(|()| scope.spawn(|| ask(&host, "shot", 2000.0)));
        // Two workers have taken two of them.
        host.until("requests run", || {
            let text = host.get("/metrics").text();
            text.contains("moonshot_serve_queue_length{model=\"shot\",version=\"1\"} 2")
        });
        kill(pid, Signal::KILL);
        for got in slow.map(|slow| slow.join().unwrap()) {
            assert_eq!(got.status, 503, "{got:?}");
            assert!(got.text().contains("ended by signal 9 (SIGKILL"), "{got:?}");
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody hung");
    until_answers(&host, "shot");
    assert_eq!(restarts(&host, "shot"), 1);
    // Many at a time over many connections, after it.
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let n = (0..25).filter(|_| !answers(&host, "shot")).count();
                failed.fetch_add(n, Relaxed);
            });
        }
    });
    assert_eq!(failed.load(Relaxed), 0);
}

#[test]
fn a_process_that_does_not_start_again_is_tried_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "lacks/model.toml", SETTINGS);
    let version = dir.path().join("lacks/1");
    let copied = Command::new("cp")
        .arg("-r")
        .args([&crashing().join("fragile"), &version])
        .status();
    assert!(copied.unwrap().success());
    let host = Host::start(dir.path(), |_| {});
    until_answers(&host, "lacks");
    let library = version.join("crash.so");
    std::fs::rename(&library, dir.path().join("away")).unwrap();
    assert_eq!(ask(&host, "lacks", -5.0).status, 503);
    host.until("the next one does not start", || {
        let text = ask(&host, "lacks", 2.5).text();
        text.contains("did not start (`")
            && text.contains("crash.so`: it cannot be loaded")
            && text.contains("is started again")
    });
    std::fs::rename(dir.path().join("away"), &library).unwrap();
    until_answers(&host, "lacks");
    assert!(restarts(&host, "lacks") >= 2);
}

#[test]
fn a_process_that_hangs_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "fragile", "stuck", 1);
    let host = Host::start(dir.path(), |config| {
        config.timeout = Duration::from_secs(1);
    });
    until_answers(&host, "stuck");
    let pids = workers("stuck");
    assert_eq!(ask(&host, "stuck", 3000.0).status, 504);
    host.until("it is started again", || restarts(&host, "stuck") == 1);
    until_answers(&host, "stuck");
    assert!(workers("stuck") != pids);
}

/// `moonshot serve` on a repository, and the address where it answers.
fn program(dir: &Path) -> (Child, String) {
    let runtimes = e2e::python::cache().join("runtimes");
    let mut serve = Command::new(worker().program)
        .arg("serve")
        .arg(dir)
        .args(["--listen", "127.0.0.1:0", "--runtimes"])
        .arg(runtimes)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let address = line.strip_prefix("serving on http://").unwrap().to_owned();
    (serve, address)
}

#[test]
fn no_process_outlives_its_server() {
    for (signal, model) in [(Signal::KILL, "orphan"), (Signal::TERM, "dismissed")] {
        let dir = tempfile::tempdir().unwrap();
        place(dir.path(), "fragile", model, 1);
        let (mut serve, address) = program(dir.path());
        let ready = format!("http://{address}/v2/models/{model}/ready");
        e2e::eventually("it is ready", Duration::from_secs(60), || {
            let curl = Command::new("curl")
                .args(["--silent", "--fail", &ready])
                .output();
            curl.unwrap().status.success()
        });
        assert_eq!(workers(model).len(), 1);
        kill(serve.id(), signal);
        let ended = serve.wait().unwrap();
        assert_eq!(ended.success(), signal == Signal::TERM, "{ended}");
        e2e::eventually("its process is gone", Duration::from_secs(10), || {
            workers(model).is_empty()
        });
    }
}

#[test]
fn an_unloaded_model_leaves_no_process_and_nothing_to_reap() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "fragile", "leaves", 1);
    let host = Host::start(dir.path(), |_| {});
    until_answers(&host, "leaves");
    let [pid] = workers("leaves")[..] else {
        panic!("one process")
    };
    // Where memory is short, it goes before the server.
    let score = |pid: &str| -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse().unwrap()
    };
    assert_eq!(score(&pid.to_string()), (score("self") + 300).min(1_000));
    // Who stops a server may signal all of its processes: they answer until the server is done with them.
    kill(pid, Signal::TERM);
    kill(pid, Signal::INT);
    assert!(answers(&host, "leaves"));
    assert_eq!(
        (restarts(&host, "leaves"), workers("leaves")),
        (0, vec![pid])
    );
    let got = host.post("/v2/repository/models/leaves/unload", "");
    assert_eq!(got.status, 200);
    let process = PathBuf::from(format!("/proc/{pid}"));
    host.until("it is over and reaped", || !process.exists());
    let got = host.post("/v2/repository/models/leaves/load", "");
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(answers(&host, "leaves"));
    // One that is down when it is let go is not started again.
    assert_eq!(ask(&host, "leaves", -5.0).status, 503);
    host.post("/v2/repository/models/leaves/unload", "");
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(workers("leaves").is_empty());
}

#[test]
fn versions_are_swapped_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "fragile", "swapped", 1);
    let host = Host::start(dir.path(), |_| {});
    until_answers(&host, "swapped");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = [(); 3].map(|()| scope.spawn(|| loop_over(&host, &["swapped"], &stop)));
        for version in 2..=4 {
            place(dir.path(), "fragile", "swapped", version);
            host.until("the next version, and no other process", || {
                let path = format!("/v2/models/swapped/versions/{version}/ready");
                host.get(&path).status == 200 && workers("swapped").len() == 1
            });
        }
        stop.store(true, Relaxed);
        for asked in asked {
            let (right, wrong) = asked.join().unwrap();
            assert!(wrong.is_empty(), "{wrong:?}");
            assert!(right > 50, "{right}");
        }
    });
}

#[test]
fn tree_models_are_told_that_it_is_not_for_them() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "late/1/model.json", XGBOOST);
    put(dir.path(), "late/model.toml", b"isolate = true\n");
    let host = Host::start(dir.path(), |_| {});
    host.until("it was refused", || {
        let got = host.post("/v1/models/late:predict", "{\"instances\":[[1,2,3]]}");
        got.status == 503
            && got.text().contains(
                "`isolate` in `model.toml` is for TensorFlow and ONNX models, which the libraries of others run; the server runs tree models itself: remove it and load the model again",
            )
    });
    put(dir.path(), "late/model.toml", b"");
    let got = host.post("/v2/repository/models/late/load", "");
    assert_eq!(got.status, 200, "{}", got.text());
}

/// A repository of the same models as another one, with settings of their own.
fn copied(from: &Path, settings: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for model in std::fs::read_dir(from).unwrap() {
        let model = model.unwrap();
        let to = dir.path().join(model.file_name());
        std::fs::create_dir(&to).unwrap();
        let mut own = String::new();
        for entry in std::fs::read_dir(model.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == "model.toml" {
                own = std::fs::read_to_string(entry.path()).unwrap();
            } else {
                symlink(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        std::fs::write(to.join("model.toml"), format!("{settings}{own}")).unwrap();
    }
    dir
}

/// Waits until every model answers or is refused; the index then.
fn settled(host: &Host) -> Value {
    host.until("the directory was read", || {
        let got = host.get("/v2/health/ready");
        !got.text().contains("is being read") && !got.text().contains("loading")
    });
    host.call("POST", "/v2/repository/index", &[], b"").json()
}

fn shape(value: &Value) -> (Vec<usize>, Vec<Value>) {
    match value {
        Value::Array(rows) => {
            let parts: Vec<_> = rows.iter().map(shape).collect();
            let inner = parts.first().map_or(Vec::new(), |part| part.0.clone());
            let shape = [vec![rows.len()], inner].concat();
            (shape, parts.into_iter().flat_map(|part| part.1).collect())
        }
        value => (Vec::new(), vec![value.clone()]),
    }
}

/// Answers of the same models, isolated and not, over REST and in binary; how many were predictions, each way.
fn compare(from: &Path, cases: &[Value], settings: &str) -> (usize, usize) {
    let dirs = [
        copied(from, settings),
        copied(from, &format!("isolate = true\n{settings}")),
    ];
    let hosts = [0, 1].map(|at| Host::start(dirs[at].path(), |_| {}));
    let indexes = [0, 1].map(|at| settled(&hosts[at]));
    assert_eq!(
        indexes[0], indexes[1],
        "the same are ready, and the others for the same reason"
    );
    let same = |path: &str, body: &Value| {
        let body = body.to_string();
        let [plain, isolated] = [0, 1].map(|at| hosts[at].post(path, &body));
        assert_eq!(
            plain.status,
            isolated.status,
            "{path} {body}: {}",
            isolated.text()
        );
        assert_eq!(
            plain.body,
            isolated.body,
            "{path} {body}: {} is not {}",
            isolated.text(),
            plain.text()
        );
        usize::from(plain.status == 200)
    };
    let mut n = (0, 0);
    for case in cases.iter().filter(|case| case["inputs"].is_object()) {
        let model = case["model"].as_str().unwrap();
        let signature = case["signature"].as_str().unwrap_or("serving_default");
        let body = json!({ "signature_name": signature, "inputs": case["inputs"] });
        n.0 += same(&format!("/v1/models/{model}:predict"), &body);
        let metadata = [0, 1].map(|at| hosts[at].get(&format!("/v1/models/{model}/metadata")));
        assert_eq!(metadata[0].body, metadata[1].body);
        let about = hosts[0].get(&format!("/v2/models/{model}")).json();
        assert_eq!(about, hosts[1].get(&format!("/v2/models/{model}")).json());
        let inputs = about["inputs"].as_array().unwrap().iter();
        let inputs: Vec<Value> = inputs
            .filter_map(|input| {
                let name = input["name"].as_str().unwrap();
                let (shape, data) = shape(case["inputs"].get(name)?);
                Some(json!({"name": name, "datatype": input["datatype"], "shape": shape, "data": data}))
            })
            .collect();
        let parameters = json!({"binary_data_output": true, "signature_name": signature});
        let body = json!({ "inputs": inputs, "parameters": parameters });
        n.1 += same(&format!("/v2/models/{model}/infer"), &body);
        // And what is wrong, in the same words.
        same(
            &format!("/v1/models/{model}:predict"),
            &json!({"inputs": {"nothing": [1]}}),
        );
    }
    n
}

#[test]
fn tensorflow_answers_bit_for_bit_as_in_the_server() {
    let models = tensorflow::models();
    // Which threads are faster is measured, and sums may depend on them.
    let n = compare(&models.dir, &models.cases, "threads = \"caller\"\n");
    println!("{} answers in JSON and {} in binary are the same", n.0, n.1);
    assert!(n.0 > 5 && n.1 > 4, "{n:?}");
}

#[test]
fn onnx_answers_bit_for_bit_as_in_the_server() {
    let models = onnx::models();
    let n = compare(&models.dir, &models.cases, "");
    println!("{} answers in JSON and {} in binary are the same", n.0, n.1);
    assert!(n.0 > 10 && n.1 > 10, "{n:?}");
}

#[test]
fn models_are_isolated_on_demand_and_warmed() {
    let dir = tempfile::tempdir().unwrap();
    for model in ["first", "second"] {
        place(dir.path(), "fragile", model, 1);
    }
    let bytes = |host: &Host, model: &str| -> u64 {
        let text = host.get("/metrics").text();
        let name = format!("moonshot_serve_memory_bytes{{model=\"{model}\",version=\"1\"}} ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&name));
        lines.next().map_or(0, |bytes| bytes.parse().unwrap())
    };
    let host = Host::start(dir.path(), |config| config.on_demand = true);
    host.ready();
    assert!(workers("first").is_empty());
    assert!(answers(&host, "first"));
    let one = bytes(&host, "first");
    println!(
        "a process with TensorFlow and a small model: {} MiB",
        one >> 20
    );
    assert!(one > 50 << 20, "{one} bytes are a whole process");
    drop(host);
    assert!(workers("first").is_empty());
    // Room for one.
    let host = Host::start(dir.path(), |config| {
        config.on_demand = true;
        config.memory_max = one + one / 2;
    });
    host.ready();
    for model in ["first", "second", "first"] {
        assert!(answers(&host, model), "{}", ask(&host, model, 2.5).text());
    }
    host.until("the other went, and its process", || {
        workers("second").is_empty() && workers("first").len() == 1
    });
    let text = host.get("/metrics").text();
    assert!(text.contains("moonshot_serve_evictions_total 2"), "{text}");
    let warmed = "moonshot_serve_warm_up_requests_total{outcome=\"ok\"} 1";
    assert!(text.contains(warmed), "{text}");
}

#[test]
fn steps_and_a_broken_next_version_are_as_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let old = tensorflow::models().dir.join("old/1");
    let steps = json!({
        "columns": [
            {"name": "a", "mean": 1.0, "scale": 2.0},
            {"name": "b", "missing": 0.5},
            {"name": "c", "words": ["x", "y"]},
            {"name": "d"}
        ]
    });
    for model in ["plain", "apart"] {
        let version = dir.path().join(model).join("1");
        std::fs::create_dir_all(&version).unwrap();
        for entry in std::fs::read_dir(&old).unwrap() {
            let entry = entry.unwrap();
            symlink(entry.path(), version.join(entry.file_name())).unwrap();
        }
        put(&version, "steps.json", steps.to_string().as_bytes());
    }
    put(
        dir.path(),
        "apart/model.toml",
        b"isolate = true\nthreads = \"caller\"\n",
    );
    put(dir.path(), "plain/model.toml", b"threads = \"caller\"\n");
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let body =
        json!({"instances": [{"a": 3, "c": "y", "d": 1.5}, {"a": -1, "b": 2, "c": "x", "d": 0}]});
    let [plain, apart] = ["plain", "apart"].map(|model| {
        let path = format!("/v1/models/{model}:predict");
        host.post(&path, &body.to_string())
    });
    assert_eq!(plain.status, 200, "{}", plain.text());
    assert_eq!(plain.body, apart.body);
    // A version that crashes when it is loaded replaces nothing.
    std::fs::write(dir.path().join("apart/model.toml"), SETTINGS).unwrap();
    place(dir.path(), "dies", "apart", 2);
    host.until("the load was given up", || {
        let status = host.get("/v1/models/apart/versions/2").text();
        status.contains("ended by signal 6")
    });
    let got = host.post("/v1/models/apart:predict", &body.to_string());
    assert_eq!(got.body, plain.body);
}

#[test]
fn a_shadow_that_crashes_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let traffic = b"[traffic]\npercent = {1 = 100}\nshadow = {version = 2, percent = 100}\n";
    put(
        dir.path(),
        "shadowed/model.toml",
        &[SETTINGS, traffic].concat(),
    );
    place(dir.path(), "calm", "shadowed", 1);
    place(dir.path(), "fragile", "shadowed", 2);
    let host = Host::start(dir.path(), |_| {});
    host.until("both are ready", || {
        let ready = |version| {
            let path = format!("/v2/models/shadowed/versions/{version}/ready");
            host.get(&path).status == 200
        };
        ready(1) && ready(2)
    });
    host.until("its process was started again", || {
        let got = ask(&host, "shadowed", -5.0);
        assert_eq!(got.status, 200, "{}", got.text());
        assert_eq!(got.json()["predictions"], json!([0.0]));
        restarts_of(&host, "shadowed", 2) > 0
    });
    assert_eq!(restarts(&host, "shadowed"), 0);
    let report = host.get("/v2/models/shadowed/traffic").json();
    let told = report["shadow"]["lastRefusal"].as_str().unwrap();
    assert!(told.contains("version 2, ended by signal 6"), "{report}");
}

#[test]
fn callers_over_grpc_are_told_that_it_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "fragile", "spoken", 1);
    let host = Host::start(dir.path(), |_| {});
    until_answers(&host, "spoken");
    let python = &tensorflow::models().python;
    run(python, "crash_grpc.py", &[&host.address.to_string()]);
    until_answers(&host, "spoken");
}

#[test]
fn the_cost_of_a_call_is_told() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "fragile", "apart", 1);
    place(dir.path(), "fragile", "within", 1);
    put(
        dir.path(),
        "within/model.toml",
        b"op_libraries = [\"crash.so\"]\n",
    );
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let median = |model: &str| {
        let mut took: Vec<f64> = (0..300)
            .map(|_| {
                let path = format!("/v1/models/{model}:predict");
                let timed = [("x-moonshot-timing", "1")];
                let got = host.call("POST", &path, &timed, b"{\"instances\":[2.5]}");
                let timing = got.header("server-timing").expect("timing").to_owned();
                let compute = timing.split("compute;dur=").nth(1).unwrap();
                let compute = compute.split([',', ';']).next().unwrap();
                compute.trim().parse().unwrap()
            })
            .collect();
        took.sort_by(f64::total_cmp);
        took[took.len() / 2]
    };
    let (within, apart) = (median("within"), median("apart"));
    println!("median of a run: {within} ms in the server, {apart} ms in a process of its own");
}
