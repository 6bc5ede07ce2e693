//! Puts an uploaded directory in place. Nothing is ever written outside of it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Unpacks a zstd-compressed tar. An entry that leads outside (`..`, an absolute path, through a
/// symbolic link) makes the whole fail: such an upload is not by accident.
pub(crate) fn unpack(blob: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let file = File::open(blob)?;
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(file)?);
    archive.set_preserve_mtime(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let is_unpacked = entry.unpack_in(into)?;
        if !is_unpacked {
            let text = format!("`{}` in the archive leads outside of it", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A tar whose names are written without the checks of its builder.
    fn packed(dir: &Path, entries: &[(&str, tar::EntryType, &str)]) -> std::path::PathBuf {
        let path = dir.join("blob");
        let file = File::create(&path).expect("created");
        let mut builder =
            tar::Builder::new(zstd::stream::write::Encoder::new(file, 1).expect("encoder"));
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            let is_link = !kind.is_file();
            if is_link {
                header.set_link_name_literal(content).expect("link");
            }
            let bytes = if is_link { &[][..] } else { content.as_bytes() };
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append(&header, bytes).expect("appended");
        }
        builder
            .into_inner()
            .expect("tar")
            .finish()
            .expect("zstd")
            .flush()
            .expect("flushed");
        path
    }

    #[test]
    fn files_come_back_with_their_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        let blob = packed(
            dir.path(),
            &[("a/run.sh", tar::EntryType::Regular, "#!/bin/sh\n")],
        );
        unpack(&blob, &dir.path().join("code")).expect("unpacked");
        let file = dir.path().join("code/a/run.sh");
        assert_eq!(fs::read_to_string(&file).expect("read"), "#!/bin/sh\n");
        assert_eq!(
            fs::metadata(&file).expect("there").permissions().mode() & 0o111,
            0o111
        );
    }

    #[test]
    fn nothing_escapes() {
        use tar::EntryType::{Link, Regular, Symlink};
        let cases: [&[(&str, tar::EntryType, &str)]; 3] = [
            &[("../escaped", Regular, "x")],
            &[("out", Symlink, ".."), ("out/escaped", Regular, "x")],
            &[("hard", Link, "../../../../../etc/hostname")],
        ];
        for (n, entries) in cases.iter().enumerate() {
            let dir = tempfile::tempdir().expect("temporary directory");
            let blob = packed(dir.path(), entries);
            assert!(unpack(&blob, &dir.path().join("code")).is_err(), "case {n}");
            assert!(!dir.path().join("escaped").exists(), "case {n}");
        }
    }
}
