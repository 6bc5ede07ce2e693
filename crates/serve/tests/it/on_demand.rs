//! More models than memory: they come by the requests that ask for them and go when others need their room.

use crate::clients::predict;
use crate::host::{Got, Host, LIGHTGBM, XGBOOST, put};
use crate::oracle::run;
use e2e::{Dice, tree_models};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const TREES: usize = 4;
const BODY: &str = "{\"instances\":[[2.04,-2.56,4.0]]}";
/// What the two golden models answer to it.
const XGBOOST_SAYS: f64 = 0.811973;
const LIGHTGBM_SAYS: f64 = 0.525842;

fn zeros() -> String {
    serde_json::json!({ "instances": [vec![0; tree_models::FEATURES]] }).to_string()
}

/// A number of `/metrics`; 0 where it is not there.
fn metric(host: &Host, name: &str) -> f64 {
    let text = host.get("/metrics").text();
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let found = lines.find(|(key, _)| key.strip_prefix("moonshot_serve_") == Some(name));
    found.map_or(0.0, |(_, value)| value.parse().unwrap())
}

fn loads(host: &Host) -> (f64, f64) {
    (
        metric(host, "loads_total{outcome=\"ok\"}"),
        metric(host, "loads_total{outcome=\"failed\"}"),
    )
}

/// Every version's state, and what is said of it.
fn index(host: &Host) -> Vec<(String, String, String)> {
    let index = host.post("/v2/repository/index", "{}").json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let entries = index.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let name = format!("{}/{}", text(&entry["name"]), text(&entry["version"]));
            (name, text(&entry["state"]), text(&entry["reason"]))
        })
        .collect()
}

/// The versions in memory.
fn held(host: &Host) -> Vec<String> {
    let index = index(host).into_iter();
    index
        .filter(|(_, state, reason)| state == "READY" && reason.is_empty())
        .map(|(name, ..)| name)
        .collect()
}

#[track_caller]
fn says(got: &Got, wanted: f64) {
    assert_eq!(got.status, 200, "{}", got.text());
    let value = got.json()["predictions"][0].as_f64().unwrap();
    assert!((value - wanted).abs() < 1e-6, "{value} is not {wanted}");
}

fn ask(host: &Host, model: &str) -> Got {
    host.post(&format!("/v1/models/{model}:predict"), BODY)
}

/// What a small model takes once it is loaded.
fn memory_of_one() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", &tree_models::model(0, TREES));
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    metric(&host, "memory_bytes{model=\"m\",version=\"1\"}") as u64
}

fn start(dir: &Path, memory_max: u64) -> Host {
    let host = Host::start(dir, |config| {
        config.on_demand = true;
        config.memory_max = memory_max;
    });
    host.ready();
    host
}

#[test]
fn a_hundred_models_answer_in_the_memory_of_ten() {
    const N: usize = 100;
    const THREADS: usize = 4;
    const REQUESTS: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    for seed in 0..N {
        let model = tree_models::model(seed, TREES);
        put(dir.path(), &format!("m{seed}/1/model.json"), &model);
    }
    let size = memory_of_one();
    // A file is larger than what becomes of it; the first load of each model makes room for the file.
    let file = tree_models::model(0, TREES).len() as u64;
    let max = (10 * size).max(file + 2 * size);
    let host = start(dir.path(), max);
    assert_eq!(
        held(&host),
        [""; 0],
        "nothing is loaded before it is asked for"
    );
    assert_eq!(loads(&host), (0.0, 0.0));
    let n_over = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (host, n_over) = (&host, &n_over);
            scope.spawn(move || {
                let mut dice = Dice(thread as u64 + 1);
                // Zipf's law: the tenth that fits gets more than half of the requests.
                let ends: Vec<f64> = (1..=N)
                    .scan(0.0, |sum, rank| {
                        *sum += 1.0 / rank as f64;
                        Some(*sum)
                    })
                    .collect();
                for at in 0..REQUESTS {
                    let drawn = dice.below(1 << 32) as f64 / (1_u64 << 32) as f64 * ends[N - 1];
                    let seed = ends.partition_point(|end| *end <= drawn).min(N - 1);
                    let got = host.post(&format!("/v1/models/m{seed}:predict"), &zeros());
                    says(&got, tree_models::answer(seed, TREES));
                    if at % 50 == 0 {
                        let text = host.get("/metrics").text();
                        let sizes = text
                            .lines()
                            .filter(|line| line.starts_with("moonshot_serve_memory_bytes{"))
                            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
                        n_over.fetch_add(usize::from(sizes.sum::<u64>() > max), Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(n_over.into_inner(), 0, "more is held than may be");
    let (ok, failed) = loads(&host);
    let (hits, misses) = (metric(&host, "hits_total"), metric(&host, "misses_total"));
    host.until("what came and did not go is there", || {
        ok - metric(&host, "evictions_total") == held(&host).len() as f64
    });
    let evictions = metric(&host, "evictions_total");
    println!("{hits} hits, {misses} misses, {ok} loads, {evictions} evictions");
    assert_eq!(failed, 0.0);
    assert_eq!((hits + misses) as usize, THREADS * REQUESTS);
    assert!(ok <= misses && ok > 50.0);
    assert!(hits > misses / 4.0, "the popular ones stay");
    let waits = metric(&host, "load_wait_seconds_count");
    assert_eq!(waits, misses, "all who waited got their version");
}

#[test]
fn the_least_recently_used_goes_and_comes_back_with_its_counts() {
    let dir = tempfile::tempdir().unwrap();
    let size = memory_of_one();
    let file = tree_models::model(0, TREES).len() as u64;
    for (seed, name) in ["a", "b", "c"].iter().enumerate() {
        let model = tree_models::model(seed, TREES);
        put(dir.path(), &format!("{name}/1/model.json"), &model);
    }
    // Room for two and for a file while it is read, but not for three and the file.
    let host = start(dir.path(), file + 2 * size - 1);
    let ask = |name: &str, seed: usize| {
        let got = host.post(&format!("/v1/models/{name}:predict"), &zeros());
        says(&got, tree_models::answer(seed, TREES));
    };
    ask("a", 0);
    ask("b", 1);
    ask("a", 0);
    assert_eq!(held(&host), ["a/1", "b/1"]);
    ask("c", 2);
    assert_eq!(held(&host), ["a/1", "c/1"], "b was not asked for since");
    let counted = "requests_total{model=\"b\",version=\"1\",code=\"ok\"}";
    assert_eq!(metric(&host, counted), 0.0, "what is on disk has no series");
    assert_eq!(metric(&host, "versions{state=\"on disk\"}"), 1.0);
    ask("b", 1);
    assert_eq!(metric(&host, counted), 2.0, "it goes on where it was");
    // A name for a client, with its version; and whoever only looks loads nothing.
    let before = loads(&host);
    for path in ["/v2/models/a/ready", "/v2/models/c/versions/1/ready"] {
        assert_eq!(host.get(path).status, 200);
    }
    let status = host.get("/v1/models/a").json();
    assert_eq!(status["model_version_status"][0]["state"], "AVAILABLE");
    assert_eq!(loads(&host), before);
    // Who wants to know its inputs loads it.
    let known = host.get("/v2/models/a").json();
    assert_eq!(known["platform"], "xgboost");
    assert!(held(&host).contains(&"a/1".to_owned()));
}

#[test]
fn one_load_serves_all_who_ask_at_once() {
    const N: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", &tree_models::model(3, 400));
    let host = start(dir.path(), u64::MAX);
    let barrier = Barrier::new(N);
    std::thread::scope(|scope| {
        for _ in 0..N {
            scope.spawn(|| {
                barrier.wait();
                let got = host.post("/v1/models/m:predict", &zeros());
                says(&got, tree_models::answer(3, 400));
            });
        }
    });
    assert_eq!(loads(&host), (1.0, 0.0));
}

#[test]
fn a_request_waits_for_a_load_within_its_own_time() {
    let dir = tempfile::tempdir().unwrap();
    // Large enough that no machine loads it in the time.
    let large = tree_models::model(0, 1_000);
    put(dir.path(), "a/1/model.json", &large);
    put(dir.path(), "b/1/model.json", &large);
    let host = start(dir.path(), u64::MAX);
    let header = [("x-moonshot-timeout-ms", "1")];
    let late = host.call("POST", "/v1/models/a:predict", &header, zeros().as_bytes());
    assert_eq!(late.status, 504, "{}", late.text());
    let wanted = "version 1 of model `a` was not loaded within 1 ms";
    assert!(late.text().contains(wanted), "{}", late.text());
    let body = serde_json::json!({"parameters": {"timeout": 1_000}, "inputs": [{"name": "input",
        "shape": [1, tree_models::FEATURES], "datatype": "FP32", "data": vec![0; tree_models::FEATURES]}]});
    let late = host.post("/v2/models/b/infer", &body.to_string());
    assert_eq!(late.status, 504, "{}", late.text());
    // It is nobody's fault: who has the time gets an answer.
    for model in ["a", "b"] {
        let got = host.post(&format!("/v1/models/{model}:predict"), &zeros());
        says(&got, tree_models::answer(0, 1_000));
    }
}

#[test]
fn what_can_never_fit_is_refused_with_both_numbers_and_takes_nobodys_room() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "small/1/model.json", XGBOOST);
    let large = tree_models::model(0, 40);
    put(dir.path(), "large/1/model.json", &large);
    let max = XGBOOST.len() as u64 + 500;
    let host = start(dir.path(), max);
    says(&ask(&host, "small"), XGBOOST_SAYS);
    for _ in 0..3 {
        let got = host.post("/v1/models/large:predict", &zeros());
        assert_eq!(got.status, 503);
        let text = got.text();
        assert!(
            text.contains(&format!("needs {} bytes", large.len())),
            "{text}"
        );
        assert!(text.contains(&format!("of {max} are in use")), "{text}");
    }
    assert_eq!(held(&host), ["small/1"]);
    assert_eq!(metric(&host, "evictions_total"), 0.0);
    let status = host.get("/v1/models/large").json();
    assert_eq!(status["model_version_status"][0]["state"], "END");
    assert_eq!(host.get("/v2/models/large/ready").status, 503);
}

#[test]
fn a_broken_model_says_why_is_tried_once_and_keeps_nobody_from_being_ready() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "good/1/model.json", XGBOOST);
    put(
        dir.path(),
        "bad/1/model.json",
        &XGBOOST[..XGBOOST.len() / 2],
    );
    let host = start(dir.path(), u64::MAX);
    for _ in 0..5 {
        let got = ask(&host, "bad");
        assert_eq!(got.status, 503);
        assert!(
            got.text().contains("the model is corrupt"),
            "{}",
            got.text()
        );
    }
    assert_eq!(loads(&host), (0.0, 1.0));
    assert_eq!(host.get("/v2/health/ready").status, 200);
    says(&ask(&host, "good"), XGBOOST_SAYS);
    // An order tries again and says why, too.
    let got = host.post("/v2/repository/models/bad/load", "");
    assert!(got.text().contains("corrupt"), "{}", got.text());
    assert_eq!(loads(&host), (1.0, 2.0));
    put(dir.path(), "bad/1/model.json", XGBOOST);
    host.until("the mended model answers", || {
        ask(&host, "bad").status == 200
    });
    // Strict is strict.
    put(dir.path(), "worse/1/model.json", b"{}");
    let strict = Host::start(dir.path(), |config| {
        config.on_demand = true;
        config.strict = true;
    });
    strict.ready();
    assert_eq!(ask(&strict, "worse").status, 503);
    assert_eq!(strict.get("/v2/health/ready").status, 503);
}

#[test]
fn a_new_version_is_prepared_beside_the_one_that_answers_and_a_broken_one_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    put(dir.path(), "other/1/model.json", XGBOOST);
    let host = start(dir.path(), u64::MAX);
    says(&ask(&host, "m"), XGBOOST_SAYS);
    let misses = metric(&host, "misses_total");
    // In memory: it is loaded beside, and no request waits for it.
    put(dir.path(), "m/2/model.txt", LIGHTGBM);
    host.until("version 2 is in memory alone", || held(&host) == ["m/2"]);
    says(&ask(&host, "m"), LIGHTGBM_SAYS);
    assert_eq!(metric(&host, "misses_total"), misses);
    assert_eq!(
        host.post("/v1/models/m/versions/1:predict", BODY).status,
        404
    );
    // Broken: the old one answers.
    put(dir.path(), "m/3/model.json", b"{}");
    host.until("version 3 is refused", || {
        index(&host).iter().any(|(name, state, reason)| {
            name == "m/3" && state == "UNAVAILABLE" && !reason.is_empty()
        })
    });
    says(&ask(&host, "m"), LIGHTGBM_SAYS);
    // On disk: the next request loads the new version.
    assert!(!held(&host).contains(&"other/1".to_owned()));
    put(dir.path(), "other/2/model.txt", LIGHTGBM);
    host.until("version 2 is on offer", || {
        index(&host).iter().any(|(name, ..)| name == "other/2")
    });
    says(&ask(&host, "other"), LIGHTGBM_SAYS);
    host.until("version 1 is no longer on offer", || {
        host.post("/v1/models/other/versions/1:predict", BODY)
            .status
            == 404
    });
    // A broken one on disk is found out by a request, which the old one answers.
    put(dir.path(), "last/1/model.json", XGBOOST);
    host.until("it is on offer", || {
        host.get("/v2/models/last/ready").status == 200
    });
    put(dir.path(), "last/2/model.json", b"{}");
    host.until("version 2 is on offer", || {
        index(&host).iter().any(|(name, ..)| name == "last/2")
    });
    says(&ask(&host, "last"), XGBOOST_SAYS);
    assert_eq!(
        host.post("/v1/models/last/versions/2:predict", BODY).status,
        503
    );
}

#[test]
fn versions_and_labels_are_each_loaded_when_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", XGBOOST);
    put(dir.path(), "m/2/model.txt", LIGHTGBM);
    put(dir.path(), "m/model.toml", b"[labels]\nstable = 1\n");
    let host = start(dir.path(), u64::MAX);
    says(
        &host.post("/v1/models/m/labels/stable:predict", BODY),
        XGBOOST_SAYS,
    );
    assert_eq!(held(&host), ["m/1"]);
    // The newest answers who names none, though an older one is in memory.
    says(&ask(&host, "m"), LIGHTGBM_SAYS);
    assert_eq!(held(&host), ["m/1", "m/2"]);
    put(dir.path(), "m/model.toml", b"");
    host.until("version 1 goes with its label", || held(&host) == ["m/2"]);
    std::fs::remove_dir_all(dir.path().join("m")).unwrap();
    host.until("the model goes with its files", || {
        ask(&host, "m").status == 404
    });
}

#[test]
fn a_grpc_request_loads_what_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "late/1/model.json", XGBOOST);
    let host = start(dir.path(), u64::MAX);
    // Its time is over before the load: it is told so and the load is for the next one.
    for (timeout, wanted) in [("1n", "grpc-status: 4"), ("1H", "grpc-status: 0")] {
        let Some(said) = predict(&host, dir.path(), timeout) else {
            return;
        };
        assert!(said.contains(wanted), "{timeout}: {said}");
    }
    assert_eq!(held(&host), ["late/1"]);
}

#[test]
fn clients_that_others_wrote_are_not_misled() {
    let Some(python) = e2e::python(&["kserve==0.21.0"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "late/1/model.json", XGBOOST);
    put(dir.path(), "gbm/7/model.txt", LIGHTGBM);
    let host = start(dir.path(), u64::MAX);
    run(&python, "kserve_clients.py", &[&host.address.to_string()]);
}
