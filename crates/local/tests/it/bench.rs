//! A machine of its own for each test: a temporary root, a sink in memory, contents in a directory.

use base::{Digest, Resources, Span};
use engine::suite::{Bench, Files, Memory, Program, Stage};
use engine::{Engine, Frame, OutputSink, ReplicaKey};
use local::{Backoff, Config, Local};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

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
            platform: "/bin/echo".into(),
            platform_env: Vec::new(),
            nodes: 2,
            reserve: Resources::default(),
            ports: local::config::PORTS,
            address: "127.0.0.1".to_owned(),
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            server: "http://127.0.0.1:1".to_owned(),
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

    /// Another server takes over while the first is still there; the first one.
    pub(crate) async fn replace(&mut self) -> Arc<Local> {
        let first = self.local.take().expect("the server is there");
        self.reopen().await;
        first
    }

    pub(crate) async fn reopen(&mut self) {
        let local = Local::open(self.config.clone(), None, None)
            .await
            .expect("opened");
        self.local = Some(Arc::new(local));
    }

    pub(crate) fn replica_dir(&self, key: &ReplicaKey) -> PathBuf {
        self.config.root.join("replicas").join(name(key))
    }

    /// Keeps a directory of these files as content.
    pub(crate) fn packed(&self, files: &[(&str, &str)]) -> Digest {
        use sha2::Digest as _;
        let from = tempfile::tempdir().expect("temporary directory");
        for (name, content) in files {
            let path = from.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let contents = self.dir.path().join("contents");
        let draft = contents.join("draft");
        pack::pack(from.path(), &draft, u64::MAX).expect("packed");
        let bytes = std::fs::read(&draft).expect("read");
        let digest = Digest(sha2::Sha256::digest(bytes).into());
        std::fs::rename(draft, contents.join(digest.hex())).expect("renamed");
        digest
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
            Program::Keep(word) => sh(&format!(
                "echo found `cat $MOONSHOT_CHECKPOINT/kept 2>/dev/null || echo nothing`; echo {word} > $MOONSHOT_CHECKPOINT/kept"
            )),
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
