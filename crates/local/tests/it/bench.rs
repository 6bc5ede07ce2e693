//! A machine of its own for each test: a temporary root, a sink in memory, contents in a directory.

use base::{Digest, Resources, Seq, Span};
use engine::suite::{Bench, Program, SECRET, Stage};
use engine::{
    BoxFuture, Content, Engine, EngineError, Frame, OutputSink, ReplicaKey, SecretEntries,
};
use local::{Backoff, Config, Local};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

/// The shim: the one that was built for this test run, else a debug one built now.
static SHIM: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(shim) = std::env::var_os("MOONSHOT_SHIM") {
        return PathBuf::from(shim);
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "-p", "shim", "--bin", "moonshot-shim"])
        .status();
    assert!(built.expect("cargo runs").success(), "the shim builds");
    // This test is `<target>/debug/deps/it-…`.
    let test = std::env::current_exe().expect("a test has a path");
    let debug = test.parent().and_then(Path::parent).expect("two levels");
    debug.join("moonshot-shim")
});

/// Output in memory, deduplicated as a sink must.
#[derive(Default)]
pub(crate) struct Memory {
    frames: Mutex<BTreeMap<ReplicaKey, Vec<Frame>>>,
    /// Says no to everything while set.
    is_down: Mutex<bool>,
}

impl Memory {
    pub(crate) fn set_down(&self, is_down: bool) {
        *self.is_down.lock().expect("not poisoned") = is_down;
    }
    pub(crate) fn of(&self, key: &ReplicaKey) -> Vec<Frame> {
        self.frames
            .lock()
            .expect("not poisoned")
            .get(key)
            .cloned()
            .unwrap_or_default()
    }
}

impl OutputSink for Memory {
    fn append<'a>(
        &'a self,
        _: &'a str,
        key: &'a ReplicaKey,
        new: Vec<Frame>,
    ) -> BoxFuture<'a, Result<Seq, EngineError>> {
        Box::pin(async move {
            if *self.is_down.lock().expect("not poisoned") {
                return Err(EngineError::Failed {
                    operation: "keeping output".to_owned(),
                    source: "the sink is down".into(),
                });
            }
            let mut frames = self.frames.lock().expect("not poisoned");
            let kept = frames.entry(key.clone()).or_default();
            for frame in new {
                let next = kept.last().map_or(1, |last| last.seq.0 + 1);
                if frame.seq.0 >= next {
                    assert_eq!(frame.seq.0, next, "a gap in the output of {key}");
                    kept.push(frame);
                }
            }
            Ok(kept.last().map_or(Seq(0), |last| last.seq))
        })
    }
}

/// Blobs `<hex>` in a directory; kept outputs are copied beside them.
struct Files(PathBuf);

impl Content for Files {
    fn blob<'a>(
        &'a self,
        _: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        let path = self.0.join(digest.hex());
        Box::pin(async move {
            let missing = || EngineError::Failed {
                operation: format!("reading {digest}"),
                source: "no such content".into(),
            };
            path.exists().then_some(path).ok_or_else(missing)
        })
    }
    fn environment<'a>(
        &'a self,
        project: &'a str,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        self.blob(project, digest)
    }
    fn keep<'a>(
        &'a self,
        _: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<(Digest, u64), EngineError>> {
        Box::pin(async move {
            let bytes = if path.is_dir() {
                Vec::new()
            } else {
                std::fs::read(path).expect("an output that is there")
            };
            let mut digest = [0; 32];
            digest[0] = u8::try_from(bytes.len() % 256).expect("below 256");
            Ok((Digest(digest), bytes.len() as u64))
        })
    }
    fn secret<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
        version: u32,
    ) -> BoxFuture<'a, Result<SecretEntries, EngineError>> {
        Box::pin(async move {
            assert_eq!((name, version), ("suite", 1));
            Ok(vec![("password".to_owned(), SECRET.as_bytes().to_vec())])
        })
    }
}

/// One engine and all that it was built from.
pub(crate) struct Machine {
    /// `None` while the server is away.
    local: Option<Arc<Local>>,
    pub(crate) config: Config,
    pub(crate) sink: Arc<Memory>,
    pub(crate) dir: tempfile::TempDir,
    /// A small file system under the root, to be taken away at the end.
    mounted: Option<PathBuf>,
}

impl Machine {
    pub(crate) async fn new() -> Machine {
        Machine::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Machine {
        Machine::make(change, None).await
    }

    /// The root on a file system of so many bytes.
    pub(crate) async fn on_small_disk(n_bytes: u64) -> Machine {
        Machine::make(|_| {}, Some(n_bytes)).await
    }

    async fn make(change: impl FnOnce(&mut Config), disk: Option<u64>) -> Machine {
        let dir = tempfile::tempdir().expect("temporary directory");
        let sink = Arc::new(Memory::default());
        let contents = dir.path().join("contents");
        let root = dir.path().join("engine");
        std::fs::create_dir(&contents).expect("made");
        std::fs::create_dir(&root).expect("made");
        if let Some(n_bytes) = disk {
            let size = std::ffi::CString::new(format!("size={n_bytes}")).expect("no zero");
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", &root, "tmpfs", flags, size.as_c_str()).expect("mounted");
        }
        let mut config = Config {
            limits: local::limits::detect(&root).ok(),
            root: root.clone(),
            shim: SHIM.clone(),
            nodes: 2,
            reserve: Resources::default(),
            ports: local::config::PORTS,
            address: "127.0.0.1".to_owned(),
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            spool_max: local::config::SPOOL_MAX,
            backoff: Backoff {
                base: Span::from_ms(200),
                max: Span::from_secs(2),
                reset: Span::from_secs(600),
            },
            boot: shim::identity::boot_id().expect("a boot id"),
            gpus: local::gpu::detect(2),
            sink: Arc::clone(&sink) as Arc<dyn OutputSink>,
            content: Arc::new(Files(contents)),
        };
        let detected = config.limits.clone();
        change(&mut config);
        if let (None, Some(unused)) = (&config.limits, detected) {
            unused.close();
        }
        let mut machine = Machine {
            local: None,
            config,
            sink,
            dir,
            mounted: disk.map(|_| root),
        };
        machine.reopen().await;
        machine
    }

    pub(crate) fn local(&self) -> &Arc<Local> {
        self.local.as_ref().expect("the server is there")
    }

    /// The server goes away without a word to what runs.
    pub(crate) async fn close(&mut self) {
        let local = self.local.take().expect("the server is there");
        local.shutdown().await;
        assert_eq!(
            Arc::strong_count(&local),
            1,
            "nobody else holds the old server"
        );
    }

    pub(crate) async fn reopen(&mut self) {
        let local = Local::open(self.config.clone(), None)
            .await
            .expect("opened");
        self.local = Some(Arc::new(local));
    }

    pub(crate) fn replica_dir(&self, key: &ReplicaKey) -> PathBuf {
        self.config.root.join("replicas").join(name(key))
    }

    pub(crate) fn content_path(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join("contents").join(digest.hex())
    }

    /// SIGKILL to the shim of a run.
    pub(crate) fn kill_shim(&self, key: &ReplicaKey, run: u32) {
        let path = self.replica_dir(key).join(format!("runs/{run}/started"));
        let started: shim::record::Started =
            shim::record::read(&path).expect("read").expect("started");
        let pid = i32::try_from(started.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    }

    pub(crate) async fn wait_for(&self, what: &str, is: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is() {
            assert!(begun.elapsed().as_secs() < 60, "waited for {what}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Removes every replica and looks for leftovers: processes, cgroups, files.
    pub(crate) async fn assert_clean(&self) {
        let stage = Stage::new(self).await;
        let keys: Vec<ReplicaKey> = stage
            .observe(None)
            .await
            .replicas
            .into_iter()
            .map(|report| report.key)
            .collect();
        let begun = std::time::Instant::now();
        loop {
            let left = stage.observe(None).await;
            if left.replicas.is_empty() {
                break;
            }
            assert!(
                begun.elapsed().as_secs() < 60,
                "not forgotten: {:#?}",
                left.replicas
            );
            for report in &left.replicas {
                stage.remove(&report.key, Span::ZERO).await;
            }
            stage.observe(Some(left.cursor)).await;
        }
        for key in &keys {
            assert_eq!(count_processes(self, key), 0, "processes of {key} are left");
        }
        let left = std::fs::read_dir(self.config.root.join("replicas")).expect("listed");
        assert_eq!(left.count(), 0, "directories are left");
        if let Some(limits) = &self.config.limits {
            assert_eq!(limits.names(), Vec::<String>::new(), "cgroups are left");
        }
        let secrets = Path::new("/dev/shm").join(Config::tag(&self.config.root));
        let n_secrets = std::fs::read_dir(secrets).map_or(0, Iterator::count);
        assert_eq!(n_secrets, 0, "secrets are left");
    }
}

impl Drop for Machine {
    /// A failed test leaves nothing behind either.
    fn drop(&mut self) {
        self.local = None;
        for pid in processes(&self.config.root.display().to_string()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if let Some(root) = &self.mounted {
            let _ = rustix::mount::unmount(root, rustix::mount::UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir(Path::new("/dev/shm").join(Config::tag(&self.config.root)));
        if let Some(limits) = &self.config.limits {
            // Shims follow their programs in a moment, and the kernel lets go of the groups.
            for _ in 0..200 {
                let left: Vec<String> = limits.names();
                if left.iter().all(|name| limits.remove(name).is_ok()) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            limits.close();
        }
    }
}

fn name(key: &ReplicaKey) -> String {
    format!("{}.{}.{}.{}", key.owner, key.group, key.index, key.attempt)
}

/// Processes that a replica's program started, by the directory in their environment.
pub(crate) fn count_processes(machine: &Machine, key: &ReplicaKey) -> usize {
    processes(&machine.replica_dir(key).display().to_string()).len()
}

fn processes(path: &str) -> Vec<rustix::process::Pid> {
    let home = format!("HOME={path}/");
    let entries = std::fs::read_dir("/proc").expect("listed").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ
            .split(|byte| *byte == 0)
            .any(|variable| variable.starts_with(home.as_bytes()))
    };
    pids.filter(is_ours)
        .filter_map(rustix::process::Pid::from_raw)
        .collect()
}

pub(crate) fn has_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A test that cannot run here says so.
pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
}

/// A zstd-compressed tar of these files.
pub(crate) fn packed(path: &Path, files: &[(&str, &str)]) {
    let file = std::fs::File::create(path).expect("created");
    let mut builder =
        tar::Builder::new(zstd::stream::write::Encoder::new(file, 1).expect("encoder"));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .expect("appended");
    }
    builder.into_inner().expect("tar").finish().expect("zstd");
}

impl Bench for Machine {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(self.local()) as Arc<dyn Engine>
    }

    fn command(&self, program: &Program) -> Vec<String> {
        let sh = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        match program {
            Program::Exit(code) => sh(&format!("exit {code}")),
            Program::Signal(signal) => sh(&format!("kill -{signal} $$$$")),
            Program::Missing => vec!["no-such-program".to_owned()],
            Program::Lines(n) => sh(&format!(
                "i=1; while [ $i -le {n} ]; do echo line $i; i=$((i+1)); done; echo warning >&2"
            )),
            Program::Say(text, names) => {
                let values: String = names
                    .iter()
                    .map(|name| format!("; echo \"${name}\""))
                    .collect();
                let mut command = sh(&format!("echo \"$1\"{values}"));
                command.extend(["sh".to_owned(), text.clone()]);
                command
            }
            Program::Sleep => sh("exec sleep 600"),
            Program::Stubborn => sh("trap '' TERM; echo ready; while :; do sleep 0.1; done"),
            Program::Serve => ["python3", "-c", SERVER].map(str::to_owned).to_vec(),
        }
    }

    fn output(&self, key: &ReplicaKey) -> Vec<Frame> {
        self.sink.of(key)
    }

    fn port(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port()
    }
}

const SERVER: &str = "
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'ok')
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Answer).serve_forever()
";
