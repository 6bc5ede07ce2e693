//! A machine of its own for each test: a temporary root, a sink in memory, contents in a directory.

use base::{Digest, Resources, Seq, Span};
use engine::suite::{Bench, Program, SECRET};
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
pub(crate) static SHIM: LazyLock<PathBuf> = LazyLock::new(|| {
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
    pub(crate) is_down: Mutex<bool>,
}

impl Memory {
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
pub(crate) struct Files(pub(crate) PathBuf);

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
    pub(crate) local: Arc<Local>,
    pub(crate) config: Config,
    pub(crate) sink: Arc<Memory>,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl Machine {
    pub(crate) async fn new() -> Machine {
        Machine::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Machine {
        let dir = Arc::new(tempfile::tempdir().expect("temporary directory"));
        let sink = Arc::new(Memory::default());
        let contents = dir.path().join("contents");
        std::fs::create_dir(&contents).expect("made");
        let root = dir.path().join("engine");
        let mut config = Config {
            limits: local::limits::detect(&local::Config::tag(&root)).ok(),
            root,
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
        change(&mut config);
        let local = Local::open(config.clone(), None).await.expect("opened");
        Machine {
            local: Arc::new(local),
            config,
            sink,
            dir,
        }
    }
}

impl Bench for Machine {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.local) as Arc<dyn Engine>
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
