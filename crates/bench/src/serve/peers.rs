//! The servers that people use today, in their best documented settings.

use super::models::{self, Made};
use super::process::{self, Process};
use crate::Failure;
use serde_json::json;
use std::path::Path;
use std::process::Command;

pub(crate) const MLSERVER: &str = "MLServer";
pub(crate) const FASTAPI: &str = "FastAPI + uvicorn, 2 async workers";

/// uvloop 0.21: MLServer 1.7.1 does not start its workers on later ones. httptools is uvicorn's faster parser.
const MLSERVER_PACKAGES: [&str; 7] = [
    "mlserver==1.7.1",
    "uvloop==0.21.0",
    "uvicorn==0.54.0",
    "httptools==0.9.0",
    "xgboost-cpu==3.2.0",
    "scikit-learn==1.7.2",
    "numpy==2.4.6",
];
/// Its own requirement is the build of XGBoost with CUDA, 700 MB more.
const MLSERVER_ALONE: [&str; 1] = ["mlserver-xgboost==1.7.1"];
const FASTAPI_PACKAGES: [&str; 7] = [
    "fastapi==0.165.0",
    "uvicorn==0.54.0",
    "uvloop==0.23.0",
    "httptools==0.9.0",
    "orjson==3.13.0",
    "xgboost-cpu==3.2.0",
    "numpy==2.4.6",
];

/// MLServer on an XGBoost model that it knows as `model`; `dir` is for its settings.
pub(crate) fn mlserver(made: &Made, dir: &Path) -> Result<Process, Failure> {
    let python = models::python(&MLSERVER_PACKAGES, &MLSERVER_ALONE)?;
    let [http, grpc, metrics] = process::free_ports()?;
    // No workers: its documentation's way for models that are quick, and twice as fast here as its default of one.
    let settings = json!({
        "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
        "debug": false, "parallel_workers": 0,
    });
    let model = json!({
        "name": "model",
        "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": { "uri": made.model() },
    });
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("settings.json"), settings.to_string())?;
    std::fs::write(dir.join("model-settings.json"), model.to_string())?;
    let program = python.with_file_name("mlserver");
    // More threads than one only cost on one row.
    let mut command = Command::new(program);
    command.arg("start").arg(dir).env("OMP_NUM_THREADS", "1");
    process::other(&mut command, http)
}

/// The application beside this file.
pub(crate) fn fastapi(made: &Made, dir: &Path) -> Result<Process, Failure> {
    let python = models::python(&FASTAPI_PACKAGES, &[])?;
    let [port] = process::free_ports()?;
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("app.py"), include_str!("fastapi_app.py"))?;
    let mut command = Command::new(python.with_file_name("uvicorn"));
    command
        .args(["app:app", "--workers", "2", "--no-access-log"])
        .args(["--loop", "uvloop", "--http", "httptools"])
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .current_dir(dir)
        .env("MODEL", made.model());
    process::other(&mut command, port)
}
