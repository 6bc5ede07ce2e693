//! Which format a version's directory has, told by the names of its files; and the way to that format's loader.

use super::{LoadError, Runtime, isolated, onnx, stepped, steps, tensorflow, trees};
use crate::repository::Settings;
use crate::runtimes::Runtimes;
use std::path::{Path, PathBuf};

/// The stem of a model file that needs not be the only one.
const STEM: &str = "model";
/// What ends the name of a tree model's file, best first.
const TREES: [&str; 5] = ["ubj", "json", "txt", "bst", "lgb"];
/// Bytes of a tree model's file that are read.
const FILE_MAX: u64 = 8 << 30;
/// Files of a directory that are counted.
const FILES_MAX: usize = 100_000;
/// Directories in one another that are followed: links may make a circle.
const DEPTH_MAX: usize = 8;

/// A model that was found, before it is read.
pub(crate) struct Found {
    kind: Kind,
    path: PathBuf,
    /// Whether its name says that it is a model; else it is one by being the only file that might be.
    pub(crate) is_named: bool,
    /// An upper bound of what it takes in memory; the text and binary forms are larger than the loaded one.
    pub(crate) estimate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Trees,
    Onnx,
    /// Its path is a directory.
    TensorFlow,
}

impl Found {
    /// Whether its size shows only in what the process grows by.
    pub(crate) fn is_measured(&self) -> bool {
        match self.kind {
            Kind::Onnx | Kind::TensorFlow => true,
            Kind::Trees => false,
        }
    }
}

/// What a load needs besides the files.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) runtimes: &'a Runtimes,
}

/// Finds what a version's directory holds, without reading it.
pub(crate) fn find(dir: &Path) -> Result<Found, LoadError> {
    if dir.join(tensorflow::FILE).exists() {
        return Ok(Found {
            kind: Kind::TensorFlow,
            path: dir.to_owned(),
            is_named: true,
            estimate: size(dir),
        });
    }
    if dir.join("saved_model.pbtxt").exists() {
        return Err(LoadError::Format(
            "this SavedModel is written as text; save it as `saved_model.pb`".to_owned(),
        ));
    }
    let read = |error: std::io::Error| LoadError::Read(dir.to_owned(), error.to_string());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)?.take(FILES_MAX) {
        let path = entry.map_err(read)?.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        let rank = if suffix == Some(onnx::SUFFIX) {
            Some(0)
        } else {
            let rank = TREES.iter().position(|known| Some(*known) == suffix);
            rank.map(|rank| rank + 1)
        };
        let is_model = path.is_file() && !path.ends_with(steps::FILE);
        if let Some(rank) = rank.filter(|_| is_model) {
            let is_named = path.file_stem().is_some_and(|stem| stem == STEM);
            files.push((!is_named, rank, path));
        }
    }
    files.sort();
    // Beside an ONNX file, others may be its vocabulary or settings.
    let is_onnx = files.first().is_some_and(|(_, rank, _)| *rank == 0);
    let n_alike = files
        .iter()
        .filter(|(unnamed, rank, _)| *unnamed && (*rank == 0) == is_onnx)
        .count();
    match files.first() {
        Some((unnamed, rank, path)) if !unnamed || n_alike == 1 => {
            // An ONNX model may have its weights in files beside.
            let (kind, estimate) = if *rank == 0 {
                (Kind::Onnx, size(dir))
            } else {
                let known = std::fs::metadata(path)
                    .map_err(|error| LoadError::Read(path.clone(), error.to_string()))?;
                (Kind::Trees, known.len())
            };
            Ok(Found {
                kind,
                path: path.clone(),
                is_named: !unnamed,
                estimate,
            })
        }
        Some(_) => Err(LoadError::Format(format!(
            "`{}` holds several model files and none is named `model.…`",
            dir.display()
        ))),
        None => Err(LoadError::Format(format!(
            "`{}` holds no model: `saved_model.pb` (TensorFlow), `model.onnx` (ONNX), `model.ubj` or `model.json` (XGBoost) or `model.txt` (LightGBM) is expected",
            dir.display()
        ))),
    }
}

/// Bytes of a directory's files.
fn size(dir: &Path) -> u64 {
    let mut sum = 0_u64;
    walk(dir, &mut |_, known| sum = sum.saturating_add(known.len()));
    sum
}

/// Calls `each` for the files under a directory, those behind links too, up to a bound; what cannot be read is
/// left out.
pub(crate) fn walk(dir: &Path, each: &mut dyn FnMut(&Path, &std::fs::Metadata)) {
    fn step(
        dir: &Path,
        depth: usize,
        n_files: &mut usize,
        each: &mut dyn FnMut(&Path, &std::fs::Metadata),
    ) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            *n_files += 1;
            if *n_files > FILES_MAX {
                return;
            }
            let path = entry.path();
            match std::fs::metadata(&path) {
                Ok(known) if known.is_dir() && depth < DEPTH_MAX => {
                    step(&path, depth + 1, n_files, each);
                }
                Ok(known) if known.is_file() => each(&path, &known),
                _ => {}
            }
        }
    }
    step(dir, 0, &mut 0, each);
}

/// Reads what was found, and the steps around it; in a process of its own where the model's settings say so, with
/// the steps in this one.
pub(crate) fn load(
    found: &Found,
    ctx: &Context<'_>,
    spec: impl FnOnce(&Path) -> isolated::Spec,
) -> Result<Box<dyn Runtime>, LoadError> {
    let path = &found.path;
    let dir = match found.kind {
        Kind::TensorFlow => path.as_path(),
        Kind::Onnx | Kind::Trees => path.parent().unwrap_or(path),
    };
    // What is wrong there is told before a large model is read.
    let steps = steps::read(dir)?;
    let runtime: Box<dyn Runtime> = match (ctx.settings.isolate, found.kind) {
        (false, _) => load_here(found, ctx)?,
        (true, Kind::TensorFlow) => isolated::load(spec(dir), tensorflow::FORMAT)?,
        (true, Kind::Onnx) => isolated::load(spec(dir), onnx::FORMAT)?,
        (true, Kind::Trees) => {
            return Err(LoadError::Format(
                "`isolate` in `model.toml` is for TensorFlow and ONNX models, which the libraries of others run; the server runs tree models itself: remove it and load the model again".to_owned(),
            ));
        }
    };
    stepped::wrap(runtime, steps)
}

/// Reads what was found into this process.
pub(super) fn load_here(found: &Found, ctx: &Context<'_>) -> Result<Box<dyn Runtime>, LoadError> {
    let path = &found.path;
    Ok(match found.kind {
        Kind::TensorFlow => Box::new(tensorflow::load(path, found.estimate, ctx)?),
        Kind::Onnx => Box::new(onnx::load(path, found.estimate, ctx)?),
        Kind::Trees => Box::new(trees(path, ctx)?),
    })
}

fn trees(path: &Path, ctx: &Context<'_>) -> Result<trees::Trees, LoadError> {
    let read = |error: std::io::Error| LoadError::Read(path.to_owned(), error.to_string());
    if std::fs::metadata(path).map_err(read)?.len() > FILE_MAX {
        return Err(LoadError::Model(
            file_name(path),
            format!("it is larger than {FILE_MAX} bytes"),
        ));
    }
    let bytes = std::fs::read(path).map_err(read)?;
    let model = ::trees::Model::read(&bytes)
        .map_err(|error| LoadError::Model(file_name(path), error.to_string()))?;
    Ok(trees::Trees::new(model, ctx.settings.iterations()))
}

/// The last part of a path, for messages.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
