//! Clients that others wrote speak to the server.

use crate::host::{Host, XGBOOST, put};
use crate::oracle::run;
use std::path::Path;
use std::process::Command;

#[test]
fn tritonclient_over_http() {
    let Some(python) = e2e::python(&["tritonclient[http]==2.73.0", "numpy==1.26.4"]) else {
        return;
    };
    let (_dir, host) = Host::golden();
    run(&python, "triton_http.py", &[&host.address.to_string()]);
}

#[test]
fn kserve_over_http_and_grpc() {
    let Some(python) = e2e::python(&["kserve==0.21.0"]) else {
        return;
    };
    let (_dir, host) = Host::golden();
    run(&python, "kserve_clients.py", &[&host.address.to_string()]);
}

#[test]
fn curl_over_http_1_and_http_2() {
    let (_dir, host) = Host::golden();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let url = format!("http://{}/v1/models/late:predict", host.address);
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                version,
                "--write-out",
                " %{http_version}",
                "--data",
            ])
            .args(["{\"instances\":[[2.04,-2.56,4.0]]}", &url])
            .output();
        let Ok(ran) = curl else {
            println!("skipped: curl is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            said.starts_with("{\"predictions\": [0.81197"),
            "{said}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        assert!(
            said.ends_with(if version == "--http1.1" { " 1.1" } else { " 2" }),
            "{said}"
        );
    }
}

/// A message of protobuf's, by hand: no client sends a time that is over.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, body.len() as u8], body].concat()
}

/// What curl says of a gRPC request on the golden XGBoost model, headers and trailers too; `None` without curl.
pub(crate) fn predict(host: &Host, dir: &Path, timeout: &str) -> Option<String> {
    let dims = [field(2, &[8, 1]), field(2, &[8, 3])].concat();
    let values: Vec<u8> = [2.04_f32, -2.56, 4.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let tensor = [vec![8, 1], field(2, &dims), field(5, &values)].concat();
    let input = [field(1, b"input"), field(2, &tensor)].concat();
    let message = [field(1, &field(1, b"late")), field(2, &input)].concat();
    let frame = [&[0, 0, 0, 0, message.len() as u8], message.as_slice()].concat();
    let file = dir.join(".frame");
    std::fs::write(&file, frame).unwrap();
    let service = "tensorflow.serving.PredictionService";
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--http2-prior-knowledge"])
        .args(["--verbose", "--output", "/dev/null"])
        .args(["--header", "content-type: application/grpc"])
        .args(["--header", "te: trailers"])
        .args(["--header", &format!("grpc-timeout: {timeout}")])
        .arg("--data-binary")
        .arg(format!("@{}", file.display()))
        .arg(format!("http://{}/{service}/Predict", host.address))
        .output();
    match curl {
        Ok(ran) => Some(String::from_utf8_lossy(&ran.stderr).into_owned()),
        Err(_) => {
            println!("skipped: curl is not installed");
            None
        }
    }
}

#[test]
fn a_grpc_request_whose_time_is_over_is_not_run() {
    let (dir, host) = Host::golden();
    for (timeout, wanted) in [("1n", "grpc-status: 4"), ("1H", "grpc-status: 0")] {
        let Some(said) = predict(&host, dir.path(), timeout) else {
            return;
        };
        assert!(said.contains(wanted), "{timeout}: {said}");
    }
}

#[test]
fn a_grpc_message_over_the_bound_names_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "late/1/model.json", XGBOOST);
    let host = Host::start(dir.path(), |config| config.body_max = 20);
    host.ready();
    let Some(said) = predict(&host, dir.path(), "1H") else {
        return;
    };
    assert!(
        said.contains("grpc-status: 8") && said.contains("--body-max"),
        "{said}"
    );
}
