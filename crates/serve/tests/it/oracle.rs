//! Scripts that ask the frameworks themselves, and what is the same as their answers.

use serde_json::Value;
use serve::runtimes::Runtimes;
use std::path::Path;

pub(crate) fn runtimes() -> Runtimes {
    Runtimes::new(e2e::python::cache().join("runtimes"))
}

/// Runs a script beside this file; its words where it fails.
pub(crate) fn run(python: &Path, script: &str, args: &[&str]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    e2e::python::script(python, &dir.join(script), args);
}

/// Whether two answers are the same, numbers within 1e-5.
pub(crate) fn same(got: &Value, wanted: &Value) -> bool {
    match (got, wanted) {
        (Value::Number(got), Value::Number(wanted)) => {
            if let (Some(got), Some(wanted)) = (got.as_i64(), wanted.as_i64()) {
                return got == wanted;
            }
            let (got, wanted) = (got.as_f64().unwrap(), wanted.as_f64().unwrap());
            (got - wanted).abs() <= 1e-5 * wanted.abs().max(1.0)
        }
        (Value::Array(got), Value::Array(wanted)) => {
            got.len() == wanted.len()
                && got
                    .iter()
                    .zip(wanted)
                    .all(|(got, wanted)| same(got, wanted))
        }
        _ => got == wanted,
    }
}
