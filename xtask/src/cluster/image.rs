//! Container images from local files, as OCI archives that `ctr images import` reads: no registry, no container engine.
//! The format: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

use super::layout::failed;
use crate::sh::{self, Done, Failure};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Debian's static busybox.
const BUSYBOX: &str = "/bin/busybox";
/// Directories that every image has.
const DIRS: &[&str] = &[
    "bin", "dev", "etc", "lib64", "proc", "root", "sys", "tmp", "usr", "var", "www",
];
/// What Python finds out about itself: its prefix, its version, the interpreter, its shared objects' folder.
const PYTHON: &str = "import os, sys, sysconfig; \
    print(sys.base_prefix); print('%d.%d' % sys.version_info[:2]); print(os.path.realpath(sys.executable)); \
    print(sysconfig.get_path('stdlib'))";
/// Shared libraries that wheels expect of every machine (manylinux), beside what the interpreter needs.
const WHEELS_NEED: &[&str] = &[
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
];
/// Parts of the standard library that programs do not need, and packages of this machine.
const LEFT_OUT: &[&str] = &[
    "test",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "idlelib",
    "turtledemo",
    "tkinter",
    "ensurepip",
];

/// Writes the images of the tests into `dir`.
///
/// `moonshot.test/pause:1` holds a pod's namespaces; `moonshot.test/busybox:1` has a shell; `moonshot.test/python:1` has this
/// machine's Python without any package, and the shell.
pub(super) fn make_all(dir: &Path) -> Done {
    let mut pause = Image::new();
    pause.file(&dir.join("pause"), "pause")?;
    pause.write("moonshot.test/pause:1", "/pause", &dir.join("pause.tar"))?;
    let mut busybox = Image::new();
    busybox.busybox()?;
    busybox.write("moonshot.test/busybox:1", BUSYBOX, &dir.join("busybox.tar"))?;
    let mut python = Image::new();
    python.busybox()?;
    python.python()?;
    python.write("moonshot.test/python:1", BUSYBOX, &dir.join("python.tar"))
}

/// Writes `moonshot.test/moonshot:1`, which brings the static programs into pods, and answers where.
pub(super) fn agent(dir: &Path, pod: &Path, shim: &Path) -> Done<PathBuf> {
    let mut agent = Image::new();
    agent.file(pod, "moonshot-pod")?;
    agent.file(shim, "moonshot-shim")?;
    let to = dir.join("moonshot.tar");
    agent.write("moonshot.test/moonshot:1", "/moonshot-pod", &to)?;
    Ok(to)
}

/// Writes `moonshot.test/server:1`, which runs the model server, and answers where. What debuggers read of the program
/// is left out: it is most of it.
pub(super) fn server(dir: &Path, moonshot: &Path) -> Done<PathBuf> {
    let small = dir.join("moonshot");
    let mut strip = sh::command("strip", ["-o"]);
    sh::run(strip.args([small.as_path(), moonshot]))?;
    let mut server = Image::new();
    server.busybox()?;
    server.file(&small, "bin/moonshot")?;
    server.libraries_of(&small)?;
    let to = dir.join("server.tar");
    server.write("moonshot.test/server:1", "/bin/moonshot", &to)?;
    fs::remove_file(&small).map_err(|error| failed(&small, &error))?;
    Ok(to)
}

/// The one layer of an image, as it grows.
struct Image {
    layer: tar::Builder<Vec<u8>>,
    there: BTreeSet<PathBuf>,
}

impl Image {
    fn new() -> Image {
        let mut layer = tar::Builder::new(Vec::new());
        layer.mode(tar::HeaderMode::Deterministic);
        layer.follow_symlinks(false);
        Image {
            layer,
            there: BTreeSet::new(),
        }
    }

    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    /// A directory and those above it.
    fn directory(&mut self, path: &Path) -> Done {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.directory(parent)?;
        if !self.there.insert(path.to_owned()) {
            return Ok(());
        }
        let mode = if path == Path::new("tmp") {
            0o1777
        } else {
            0o755
        };
        let mut header = Image::header(tar::EntryType::Directory, mode, 0);
        self.layer
            .append_data(&mut header, path, io::empty())
            .map_err(|error| failed(path, &error))
    }

    /// A file of this machine, or the link that it is, at a path of the image.
    fn file(&mut self, from: &Path, to: &str) -> Done {
        let to = Path::new(to.trim_start_matches('/'));
        self.directory(to.parent().unwrap_or(Path::new("")))?;
        if !self.there.insert(to.to_owned()) {
            return Ok(());
        }
        let meta = from
            .symlink_metadata()
            .map_err(|error| failed(from, &error))?;
        if meta.is_symlink() {
            let target = fs::read_link(from).map_err(|error| failed(from, &error))?;
            return self.link(to, &target);
        }
        let bytes = fs::read(from).map_err(|error| failed(from, &error))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o755;
        let mut header = Image::header(tar::EntryType::Regular, mode, bytes.len());
        self.layer
            .append_data(&mut header, to, bytes.as_slice())
            .map_err(|error| failed(from, &error))
    }

    fn link(&mut self, path: &Path, target: &Path) -> Done {
        let mut header = Image::header(tar::EntryType::Symlink, 0o777, 0);
        self.layer
            .append_link(&mut header, path, target)
            .map_err(|error| failed(path, &error))
    }

    /// A directory of this machine with what lies in it, less what is [`LEFT_OUT`].
    fn tree(&mut self, from: &Path) -> Done {
        let entries = fs::read_dir(from).map_err(|error| failed(from, &error))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default();
            if LEFT_OUT.iter().any(|left_out| name == *left_out)
                || path.extension().is_some_and(|extension| extension == "a")
            {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                self.tree(&path)?;
            } else {
                self.file(&path, &path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// The shell and its tools.
    fn busybox(&mut self) -> Done {
        let list = sh::read(&mut sh::command(BUSYBOX, ["--list"]))?;
        self.file(Path::new(BUSYBOX), BUSYBOX)?;
        for name in list.lines().filter(|name| *name != "busybox") {
            let path = Path::new("bin").join(name);
            if self.there.insert(path.clone()) {
                self.link(&path, Path::new("busybox"))?;
            }
        }
        Ok(())
    }

    /// This machine's Python at its own path, with the shared libraries it needs.
    fn python(&mut self) -> Done {
        let said = sh::read(&mut sh::command("python3", ["-I", "-c", PYTHON]))?;
        let [prefix, version, interpreter, library] = said.lines().collect::<Vec<_>>()[..] else {
            return Err(Failure::new(format!("python3 said `{said}` of itself")));
        };
        self.file(Path::new(interpreter), interpreter)?;
        self.tree(Path::new(library))?;
        let mut objects = vec![PathBuf::from(interpreter)];
        let dynamic = Path::new(library).join("lib-dynload");
        let entries = fs::read_dir(&dynamic).map_err(|error| failed(&dynamic, &error))?;
        objects.extend(entries.flatten().map(|entry| entry.path()));
        for object in &objects {
            self.libraries_of(object)?;
        }
        let known = sh::read(&mut sh::command("/sbin/ldconfig", ["-p"]))?;
        for name in WHEELS_NEED {
            let line = known.lines().find(|line| {
                line.trim_start().starts_with(&format!("{name} ")) && line.contains("x86-64")
            });
            if let Some((_, path)) = line.and_then(|line| line.split_once("=> ")) {
                self.library(Path::new(path.trim()))?;
            }
        }
        // Found by name, wherever it was on this machine.
        for name in [
            "bin/python3".to_owned(),
            format!("bin/python{version}"),
            "usr/bin/python3".to_owned(),
        ] {
            let path = PathBuf::from(name);
            self.directory(path.parent().unwrap_or(Path::new("")))?;
            if self.there.insert(path.clone()) {
                self.link(&path, Path::new(interpreter))?;
            }
        }
        // A shared libpython lies in the prefix.
        let shared = format!("{prefix}/lib/libpython{version}.so.1.0");
        if Path::new(&shared).exists() {
            self.file(Path::new(&shared), &shared)?;
        }
        Ok(())
    }

    fn libraries_of(&mut self, object: &Path) -> Done {
        let said = sh::read(&mut sh::command("ldd", [object]))?;
        for line in said.lines() {
            let path = line.split_whitespace().find(|word| word.starts_with('/'));
            if let Some(path) = path {
                self.library(Path::new(path))?;
            }
        }
        Ok(())
    }

    /// A shared library where the loader looks for it; a link's target takes its place.
    fn library(&mut self, path: &Path) -> Done {
        let real = path.canonicalize().map_err(|error| failed(path, &error))?;
        self.file(&real, &path.display().to_string())
    }

    fn write(mut self, reference: &str, entry: &str, to: &Path) -> Done {
        for dir in DIRS {
            self.directory(Path::new(dir))?;
        }
        let layer = self
            .layer
            .into_inner()
            .map_err(|error| failed(to, &error))?;
        let mut blobs = Vec::new();
        let mut blob = |bytes: Vec<u8>, kind: &str| {
            let digest = sha256(&bytes);
            let descriptor = json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": format!("sha256:{digest}"),
                "size": bytes.len(),
            });
            blobs.push((format!("blobs/sha256/{digest}"), bytes));
            descriptor
        };
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": [entry], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(config.to_string().into_bytes(), "config.v1+json"),
            "layers": [blob(layer, "layer.v1.tar")],
        });
        let mut top = blob(manifest.to_string().into_bytes(), "manifest.v1+json");
        top["annotations"] = json!({"io.containerd.image.name": reference});
        let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
        let file = File::create(to).map_err(|error| failed(to, &error))?;
        let mut archive = tar::Builder::new(file);
        let layout = (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        );
        let first = [layout, ("index.json".to_owned(), index.into_bytes())];
        for (name, bytes) in first.into_iter().chain(blobs) {
            let mut header = Image::header(tar::EntryType::Regular, 0o644, bytes.len());
            archive
                .append_data(&mut header, name, bytes.as_slice())
                .map_err(|error| failed(to, &error))?;
        }
        archive.finish().map_err(|error| failed(to, &error))
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
