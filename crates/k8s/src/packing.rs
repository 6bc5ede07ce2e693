//! Archives on their way to and from pods. Blocking: called from a thread for such work.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// zstd's level: an Environment is packed once a pod, on the way.
const LEVEL: i32 = 1;
/// Parts of a virtual environment that a pod makes anew for its own Python.
const OWN: &[&str] = &["pyvenv.cfg", "include"];

/// Packs the packages of a virtual environment for another one of the same Python version: its interpreter and configuration
/// stay behind, and scripts name the interpreter of the pod's environment.
pub(crate) fn pack_environment(venv: &Path, to: &Path) -> io::Result<()> {
    let encoder = zstd::stream::write::Encoder::new(File::create(to)?, LEVEL)?;
    let mut archive = tar::Builder::new(encoder);
    archive.follow_symlinks(false);
    let mut entries: Vec<PathBuf> = fs::read_dir(venv)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default();
        if OWN.iter().any(|own| name == *own) || path.is_symlink() {
            continue;
        }
        if name == "bin" {
            scripts(&mut archive, &path)?;
        } else if path.is_dir() {
            archive.append_dir_all(name, &path)?;
        } else {
            archive.append_path_with_name(&path, name)?;
        }
    }
    archive.into_inner()?.finish()?.sync_data()
}

fn scripts<W: io::Write>(archive: &mut tar::Builder<W>, bin: &Path) -> io::Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(bin)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // The interpreter is a link, or a copy where links cannot be made.
        if path.is_symlink() || name.starts_with("python") {
            continue;
        }
        let mut bytes = Vec::new();
        File::open(&path)?.read_to_end(&mut bytes)?;
        let bytes = other_interpreter(&bytes).unwrap_or(bytes);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        archive.append_data(&mut header, Path::new("bin").join(name), bytes.as_slice())?;
    }
    Ok(())
}

/// A script whose first line names a Python by path, with `env` in its place: `bin` comes first in the pod's `PATH`.
fn other_interpreter(script: &[u8]) -> Option<Vec<u8>> {
    let rest = script.strip_prefix(b"#!")?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&rest[..end]).ok()?;
    if !line.contains("/python") {
        return None;
    }
    let mut changed = b"#!/usr/bin/env python3".to_vec();
    changed.extend(&rest[end..]);
    Some(changed)
}

/// Unpacks an output. An entry that leads outside makes the whole fail.
pub(crate) fn unpack(archive: &Path, into: &Path) -> io::Result<()> {
    let decoder = zstd::stream::read::Decoder::new(File::open(archive)?)?;
    let mut archive = tar::Archive::new(decoder);
    archive.set_preserve_mtime(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.unpack_in(into)? {
            let text = format!("`{}` leads outside of the archive", entry.path()?.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_leaves_its_interpreter_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let venv = dir.path().join("venv");
        fs::create_dir_all(venv.join("bin")).expect("made");
        fs::create_dir_all(venv.join("lib/python3.11/site-packages/pkg")).expect("made");
        fs::write(venv.join("lib/python3.11/site-packages/pkg/a.py"), "x = 1").expect("written");
        fs::write(venv.join("pyvenv.cfg"), "home = /elsewhere").expect("written");
        fs::write(
            venv.join("bin/tool"),
            "#!/elsewhere/bin/python3\nprint(1)\n",
        )
        .expect("written");
        fs::write(venv.join("bin/binary"), b"\x7fELF").expect("written");
        std::os::unix::fs::symlink("/elsewhere/python3", venv.join("bin/python3")).expect("linked");
        let (packed, there) = (dir.path().join("packed"), dir.path().join("there"));
        fs::create_dir_all(&there).expect("made");
        pack_environment(&venv, &packed).expect("packed");
        unpack(&packed, &there).expect("unpacked");
        let read = |path: &str| fs::read(there.join(path)).ok();
        assert_eq!(
            read("lib/python3.11/site-packages/pkg/a.py"),
            Some(b"x = 1".to_vec())
        );
        assert_eq!(
            read("bin/tool"),
            Some(b"#!/usr/bin/env python3\nprint(1)\n".to_vec())
        );
        assert_eq!(read("bin/binary"), Some(b"\x7fELF".to_vec()));
        assert!(!there.join("pyvenv.cfg").exists() && !there.join("bin/python3").exists());
    }
}
