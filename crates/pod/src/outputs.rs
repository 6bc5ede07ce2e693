//! Packs what a program left and hands it over; unpacks what is handed to it.

use crate::engine::{Engine, Refused};
use crate::files::Layout;
use pod::wire::{Kept, Spec};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

/// zstd's level: outputs are often compressed already, and the program's memory limit holds for this process too.
const LEVEL: i32 = 1;

/// Keeps every declared output, or says in a sentence which one is missing.
pub(crate) fn keep(
    engine: &Engine,
    spec: &Spec,
    layout: &Layout,
    base: &Path,
    until: Instant,
) -> Result<Vec<Kept>, String> {
    let mut kept = Vec::with_capacity(spec.outputs.len());
    for output in &spec.outputs {
        let path = base.join(&output.path);
        let is_all = matches!(output.path.as_str(), "." | "" | "./");
        if is_all && fs::read_dir(base).is_ok_and(|mut entries| entries.next().is_none()) {
            continue;
        }
        // A link, or `..`, must not make us keep other people's files.
        let inside =
            fs::canonicalize(base).and_then(|base| Ok(fs::canonicalize(&path)?.starts_with(base)));
        let name = &output.name;
        match inside {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!(
                    "output `{name}`: `{}` is not in the outputs directory",
                    output.path
                ));
            }
            Err(_) => {
                return Err(format!(
                    "output `{name}` is missing: `$MOONSHOT_OUTPUTS/{}` was not written",
                    output.path
                ));
            }
        }
        let packed = layout.scratch("output");
        let failed = |why: String| format!("output `{name}` could not be kept: {why}");
        pack(&path, &packed).map_err(|error| failed(error.to_string()))?;
        let answer = engine.output(name, || File::open(&packed), until);
        kept.push(answer.map_err(|refused| match refused {
            Refused::No(sentence) => failed(sentence),
            Refused::Superseded => failed("a newer attempt runs".to_owned()),
            Refused::GivenUp => failed("the engine cannot be reached".to_owned()),
        })?);
        // Only space: the pod's volume goes with it.
        let _ = fs::remove_file(&packed);
    }
    Ok(kept)
}

/// A file as `./NAME`, a directory as its content. Links stay links.
fn pack(path: &Path, to: &Path) -> io::Result<()> {
    let encoder = zstd::stream::write::Encoder::new(File::create(to)?, LEVEL)?;
    let mut archive = tar::Builder::new(encoder);
    archive.follow_symlinks(false);
    if path.is_dir() {
        archive.append_dir_all(".", path)?;
    } else {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        archive.append_path_with_name(path, name)?;
    }
    archive.into_inner()?.finish()?.sync_data()
}

/// Unpacks a zstd-compressed tar. An entry that leads outside makes the whole fail: such content is not by accident.
pub(crate) fn unpack(blob: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(File::open(blob)?)?);
    archive.set_preserve_mtime(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if !entry.unpack_in(into)? {
            let text = format!("`{}` in the archive leads outside of it", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("a")).expect("made");
        fs::write(from.join("a/b"), "text").expect("written");
        let packed = dir.path().join("packed");
        pack(&from, &packed).expect("packed");
        unpack(&packed, &dir.path().join("to")).expect("unpacked");
        assert_eq!(fs::read(dir.path().join("to/a/b")).expect("read"), b"text");
        pack(&from.join("a/b"), &packed).expect("packed");
        unpack(&packed, &dir.path().join("one")).expect("unpacked");
        assert_eq!(fs::read(dir.path().join("one/b")).expect("read"), b"text");
    }
}
