//! Several versions of a model share requests: by percent and header in every protocol, one that fares worse gets no
//! more, and one that is only compared is compared rightly.

use crate::host::{Got, Host, XGBOOST, put};
use crate::oracle::run;
use e2e::{Dice, tree_models};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const TREES: usize = 4;
/// What is promised of a version that fares worse.
const STEP_BACK_MAX: Duration = Duration::from_secs(30);

fn settings(dir: &Path, model: &str, traffic: &str) {
    let text = format!("[labels]\nstable = 1\n[traffic]\n{traffic}\n");
    put(dir, &format!("{model}/model.toml"), text.as_bytes());
}

/// Versions 1 to `n` of `m`, which say who they are.
fn versions(n: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=n {
        let model = tree_models::model(number, TREES);
        put(dir.path(), &format!("m/{number}/model.json"), &model);
    }
    dir
}

fn zeros() -> String {
    json!({ "instances": [vec![0; tree_models::FEATURES]] }).to_string()
}

/// Which version answered a row of zeros.
#[track_caller]
fn who(got: &Got, values: impl Fn(&Value) -> &Value) -> usize {
    assert_eq!(got.status, 200, "{}", got.text());
    let answer = values(&got.json()).as_f64().unwrap();
    let mut numbers = 1..9;
    let found = numbers.find(|number| tree_models::answer(*number, TREES) == answer);
    found.unwrap_or_else(|| panic!("{answer} is nobody's answer"))
}

fn predicted(got: &Got) -> usize {
    who(got, |json| &json["predictions"][0])
}

/// How often each version answers.
fn shares(n: usize, ask: impl Fn() -> usize) -> BTreeMap<usize, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..n {
        *shares.entry(ask()).or_default() += 1;
    }
    shares
}

fn traffic(host: &Host, model: &str) -> Value {
    host.get(&format!("/v2/models/{model}/traffic")).json()
}

#[test]
fn requests_without_a_version_are_shared_over_rest() {
    let dir = versions(4);
    let percent = "percent = {1 = 90, 2 = 10, 3 = 0}\nheader = \"x-model-version\"";
    settings(dir.path(), "m", percent);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let ask =
        |path: &str, headers: &[(&str, &str)]| host.call("POST", path, headers, zeros().as_bytes());
    let latest = "/v1/models/m:predict";
    assert_eq!(
        shares(40, || predicted(&ask(latest, &[]))),
        BTreeMap::from([(1, 36), (2, 4)])
    );
    let tensor = json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, tree_models::FEATURES], "data": vec![0; tree_models::FEATURES]}]});
    let infer = || {
        let got = host.post("/v2/models/m/infer", &tensor.to_string());
        let said = got.json()["model_version"].as_str().unwrap().to_owned();
        let who = who(&got, |json| &json["outputs"][0]["data"][0]);
        assert_eq!(said, who.to_string());
        who
    };
    assert_eq!(shares(40, infer), BTreeMap::from([(1, 36), (2, 4)]));
    // Who says which version gets it.
    for (path, headers, wanted) in [
        ("/v1/models/m/versions/2:predict", &[] as &[_], 2),
        ("/v1/models/m/versions/3:predict", &[], 3),
        ("/v1/models/m/labels/stable:predict", &[], 1),
        (latest, &[("x-model-version", "3")], 3),
        (latest, &[("X-Model-Version", "stable")], 1),
    ] {
        let found = shares(5, || predicted(&ask(path, headers)));
        assert_eq!(found, BTreeMap::from([(wanted, 5)]), "{path} {headers:?}");
    }
    let got = ask(latest, &[("x-model-version", "newest")]);
    assert_eq!(got.status, 400);
    assert!(
        got.text().contains("header `x-model-version`"),
        "{}",
        got.text()
    );
    // Nobody is sent to the newest one, so it is not held.
    let got = ask("/v1/models/m/versions/4:predict", &[]);
    assert_eq!(got.status, 404, "{}", got.text());

    for _ in 0..5 {
        let metadata = host.get("/v1/models/m/metadata").json();
        assert_eq!(metadata["model_spec"]["version"], "1");
    }
    let told = traffic(&host, "m");
    let answers = |at: usize| told["shares"][at]["answers"].as_u64().unwrap();
    assert_eq!((answers(0), answers(1), answers(2)), (72, 8, 0));
    assert_eq!(told["steppedBack"], Value::Null);
    let metrics = host.get("/metrics").text();
    for line in [
        "moonshot_serve_traffic_answer_seconds_count{model=\"m\",version=\"2\"} 8",
        "moonshot_serve_traffic_errors_total{model=\"m\",version=\"2\"} 0",
        "moonshot_serve_traffic_given_up{model=\"m\",version=\"2\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn requests_without_a_version_are_shared_over_grpc() {
    let python = crate::tensorflow::python();
    let dir = versions(2);
    let percent = "percent = {1 = 75, 2 = 25}\nheader = \"x-model-version\"";
    settings(dir.path(), "m", percent);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let features = tree_models::FEATURES.to_string();
    let address = host.address.to_string();
    run(&python, "traffic_grpc.py", &[&address, &features]);
}

#[test]
fn shares_change_while_requests_come_and_a_version_that_is_not_there_gets_none() {
    let dir = versions(2);
    settings(dir.path(), "m", "percent = {1 = 50, 2 = 25, 7 = 25}");
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let ask = || predicted(&host.post("/v1/models/m:predict", &zeros()));
    assert_eq!(shares(40, ask).into_keys().collect::<Vec<_>>(), [1, 2]);
    settings(dir.path(), "m", "percent = {1 = 100}");
    host.until("the first answers alone", || shares(10, ask).len() == 1);
    // A slip changes nothing.
    settings(dir.path(), "m", "percent = {1 = 50, 2 = 49}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(shares(40, ask), BTreeMap::from([(1, 40)]));
    // A version that is broken takes nobody's requests.
    put(dir.path(), "m/3/model.json", b"{}");
    settings(dir.path(), "m", "percent = {2 = 10, 3 = 90}");
    host.until("the second answers alone", || {
        shares(10, ask) == BTreeMap::from([(2, 10)])
    });
    // Without shares the newest one that is ready answers, as everywhere.
    put(dir.path(), "m/model.toml", b"");
    assert_eq!(host.get("/v2/models/m/traffic").status, 200);
    host.until("the settings are read", || {
        host.get("/v2/models/m/traffic").status == 404
    });
    assert_eq!(ask(), 2);
}

#[test]
fn versions_on_disk_are_loaded_for_their_share() {
    let dir = versions(3);
    settings(dir.path(), "m", "percent = {1 = 50, 2 = 50}");
    let host = Host::start(dir.path(), |config| config.on_demand = true);
    host.ready();
    let ask = || predicted(&host.post("/v1/models/m:predict", &zeros()));
    assert_eq!(shares(10, ask), BTreeMap::from([(1, 5), (2, 5)]));
    // Those that waited for a load are no sign against the version.
    let told = traffic(&host, "m");
    let answers = |at: usize| told["shares"][at]["answers"].clone();
    assert_eq!((answers(0), answers(1)), (json!(4), json!(4)));
}

/// Asks without a pause until the newer version is given up; how long that took, and the errors that callers saw.
fn until_it_steps_back(host: &Host, ask: impl Fn(usize) -> Got) -> (Duration, usize, Value) {
    let begun = Instant::now();
    let mut n_errors = 0;
    for n in 0.. {
        n_errors += usize::from(ask(n).status != 200);
        if n % 50 == 49 {
            let told = traffic(host, "m");
            if told["steppedBack"] != Value::Null {
                return (begun.elapsed(), n_errors, told);
            }
        }
        assert!(begun.elapsed() < STEP_BACK_MAX, "{}", traffic(host, "m"));
    }
    unreachable!("the loop ends by itself")
}

#[test]
fn a_version_with_5_percent_of_errors_gets_no_more_requests() {
    let dir = tempfile::tempdir().unwrap();
    // What the second refuses: a column that it does not know, and that a record may leave out.
    for (number, third) in [(1, "c"), (2, "d")] {
        let model = named(["a", "b", third]);
        put(dir.path(), &format!("m/{number}/model.json"), &model);
    }
    settings(dir.path(), "m", "percent = {1 = 80, 2 = 20}");
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let ask = |n: usize| {
        // One in 20, of those that the second gets as well: five in a row are a round.
        let mut record = json!({"a": 1, "b": 2});
        if (n / 5).is_multiple_of(20) {
            record["c"] = json!(3);
        }
        let body = json!({"instances": [record]}).to_string();
        host.post("/v1/models/m:predict", &body)
    };
    let (took, n_errors, told) = until_it_steps_back(&host, ask);
    println!("5 % of errors: stepped back after {took:.1?}; {n_errors} callers saw one");
    assert_eq!(told["steppedBack"]["from"], 2);
    let why = told["steppedBack"]["why"].as_str().unwrap();
    assert!(
        why.contains("were errors (") && why.contains("of version 1 0.0 %"),
        "{why}"
    );
    assert!((0..200).all(|n| ask(n).status == 200));
    // Its share comes back with other settings, and with an order to load.
    assert_eq!(host.post("/v2/repository/models/m/load", "").status, 200);
    assert_eq!(traffic(&host, "m")["steppedBack"], Value::Null);
    assert!((0..200).any(|n| ask(n).status == 400));
}

#[test]
fn a_version_with_twice_the_p99_gets_no_more_requests() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", &tree_models::model(1, 20));
    put(dir.path(), "m/2/model.json", &tree_models::model(2, 400));
    settings(dir.path(), "m", "percent = {1 = 50, 2 = 50}");
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let rows = vec![vec![0; tree_models::FEATURES]; 400];
    let body = json!({ "instances": rows }).to_string();
    let ask = |_| host.post("/v1/models/m:predict", &body);
    let (took, n_errors, told) = until_it_steps_back(&host, ask);
    println!(
        "a slower version: stepped back after {took:.1?}: {}",
        told["steppedBack"]["why"]
    );
    let p99 = |at: usize| told["shares"][at]["p99Ms"].as_f64().unwrap();
    assert!(p99(1) > 1.5 * p99(0) && n_errors == 0, "{told}");
    let why = told["steppedBack"]["why"].as_str().unwrap();
    assert!(why.contains("took up to"), "{why}");
}

#[test]
fn limits_of_zero_judge_nothing() {
    let dir = versions(1);
    put(dir.path(), "m/2/model.json", XGBOOST);
    let off = "percent = {1 = 50, 2 = 50}\nstep_back = {errors = 0, latency = 0}";
    settings(dir.path(), "m", off);
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let begun = Instant::now();
    let mut n_errors = 0;
    // Three looks.
    while begun.elapsed() < Duration::from_secs(7) {
        let got = host.post("/v1/models/m:predict", &zeros());
        n_errors += usize::from(got.status == 400);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(n_errors > 50, "the second takes 3 columns: {n_errors}");
    assert_eq!(traffic(&host, "m")["steppedBack"], Value::Null);
}

/// A row of the golden model's columns, by name; one of them has categories, and all may be it.
fn record(dice: &mut Dice) -> Value {
    let mut number = || dice.below(6);
    json!({"a": number(), "b": number(), "c": number()})
}

/// The golden model with other names for its columns.
fn named(names: [&str; 3]) -> Vec<u8> {
    let mut model: Value = serde_json::from_slice(XGBOOST).unwrap();
    model["learner"]["feature_names"] = json!(names);
    model.to_string().into_bytes()
}

/// The number of an answer as the model gave it: a decimal of JSON read once, to 32 bits.
fn number(got: &Got) -> f32 {
    let text = got.text();
    assert_eq!(got.status, 200, "{text}");
    let start = text.find('[').expect("an answer") + 1;
    let end = start + text[start..].find(']').expect("its end");
    text[start..end].trim().parse().expect("a number")
}

#[test]
fn the_report_on_a_shadow_is_what_a_comparison_by_hand_finds() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "m/1/model.json", &named(["a", "b", "c"]));
    // Another order of columns: it must be read as the shadow's own.
    put(dir.path(), "m/2/model.json", &named(["c", "b", "a"]));
    settings(
        dir.path(),
        "m",
        "percent = {1 = 100}\nshadow = {version = 2}",
    );
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    let mut dice = Dice::new();
    let (mut n_differ, mut max, mut sum, mut sum_abs) = (0, 0.0_f64, 0.0, 0.0);
    let n = 300;
    for _ in 0..n {
        let body = json!({"instances": [record(&mut dice)]}).to_string();
        let ask = |path: &str| host.post(path, &body);
        let answered = number(&ask("/v1/models/m:predict"));
        let old = number(&ask("/v1/models/m/versions/1:predict"));
        let new = number(&ask("/v1/models/m/versions/2:predict"));
        assert_eq!(answered.to_bits(), old.to_bits(), "the first answers all");
        n_differ += u64::from(old != new);
        let difference = f64::from(new) - f64::from(old);
        sum += difference;
        sum_abs += difference.abs();
        max = max.max(difference.abs());
    }
    host.until("all copies ran", || {
        traffic(&host, "m")["shadow"]["compared"] == n
    });
    let shadow = traffic(&host, "m")["shadow"].clone();
    let output = shadow["outputs"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap();
    assert!(n_differ > n / 4, "{shadow}");
    assert_eq!(output["differing"], n_differ);
    assert_eq!(shadow["equal"], n - n_differ);
    assert_eq!(
        (&output["elements"], &output["unlike"]),
        (&json!(n), &json!(0))
    );
    for (name, wanted) in [
        ("maxAbs", max),
        ("meanAbs", sum_abs / n as f64),
        ("mean", sum / n as f64),
    ] {
        let text = output[name].to_string();
        let got: f64 = text.parse().unwrap();
        assert_eq!(got, wanted, "{name}");
    }
    println!("the shadow's report on {n} requests: {output}");
    let metrics = host.get("/metrics").text();
    let line = format!(
        "moonshot_serve_shadow_requests_total{{model=\"m\",version=\"2\",outcome=\"compared\"}} {n}"
    );
    assert!(metrics.contains(&line), "{metrics}");
}

#[test]
fn what_a_shadow_refuses_is_told_and_harms_nobody() {
    let dir = versions(1);
    put(dir.path(), "m/2/model.json", XGBOOST);
    settings(
        dir.path(),
        "m",
        "percent = {1 = 100}\nshadow = {version = 2, percent = 50}",
    );
    let host = Host::start(dir.path(), |_| {});
    host.ready();
    for _ in 0..20 {
        assert_eq!(predicted(&host.post("/v1/models/m:predict", &zeros())), 1);
    }
    host.until("half of the requests were copied", || {
        traffic(&host, "m")["shadow"]["refused"] == 10
    });
    let shadow = &traffic(&host, "m")["shadow"];
    assert_eq!(
        (&shadow["compared"], &shadow["leftOut"]),
        (&json!(0), &json!(0))
    );
    let told = shadow["lastRefusal"].as_str().unwrap();
    assert!(told.contains("expected"), "{told}");
}
