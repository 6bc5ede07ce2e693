//! A server in this process, and the least client that can speak to it.

use serve::Server;
use serve::config::{self, Config, Policy, Worker};
use serve::runtimes::Runtimes;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const XGBOOST: &[u8] = include_bytes!("../../../trees/tests/it/golden/xgboost.json");
pub(crate) const LIGHTGBM: &[u8] = include_bytes!("../../../trees/tests/it/golden/lightgbm.txt");

/// A server that is stopped at the end of the test.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} is not JSON"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A worker process is the real program: this one is a test.
pub(crate) fn worker() -> Worker {
    // Without it the tests of worker processes fail, and say that this cannot be started.
    let program = std::env::var_os("MOONSHOT_BIN").unwrap_or_else(|| "moonshot".into());
    Worker {
        program: program.into(),
        args: vec!["serve-worker".into()],
    }
}

/// Writes a file of a repository.
pub(crate) fn put(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    let parent = path.parent().unwrap();
    std::fs::create_dir_all(parent).unwrap();
    // Whole or not at all, as whoever copies models should.
    let part = parent.join(".part");
    std::fs::write(&part, bytes).unwrap();
    std::fs::rename(part, path).unwrap();
}

impl Host {
    /// With the two golden models as `late` (XGBoost) and `gbm` (LightGBM).
    pub(crate) fn golden() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "late/1/model.json", XGBOOST);
        put(dir.path(), "gbm/7/model.txt", LIGHTGBM);
        let host = Host::start(dir.path(), |_| {});
        host.ready();
        (dir, host)
    }

    pub(crate) fn start(dir: &Path, change: impl FnOnce(&mut Config)) -> Host {
        let mut config = Config {
            dir: dir.to_owned(),
            runtimes: Runtimes::new(e2e::python::cache().join("runtimes")),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen_grpc: None,
            versions: Policy::Latest(1),
            poll: Duration::from_millis(20),
            n_workers: 2,
            n_io: 2,
            memory_max: u64::MAX,
            body_max: config::BODY_MAX,
            queue_max: config::QUEUE_MAX,
            strict: false,
            on_demand: false,
            batch_rows_max: config::BATCH_ROWS_MAX,
            timeout: config::TIMEOUT,
            worker: worker(),
        };
        change(&mut config);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (sender, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::start(config).await.unwrap();
                sender.send(server.address().unwrap()).unwrap();
                server.run(stopped).await;
            });
        });
        Host {
            address: started.recv().unwrap(),
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until every model answers.
    pub(crate) fn ready(&self) {
        self.until("the models are ready", || {
            self.get("/v2/health/ready").status == 200
        });
    }

    /// The patience is for machines that do much else.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        e2e::eventually(what, Duration::from_secs(120), holds);
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.call("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Got {
        self.call("POST", path, &[], body.as_bytes())
    }

    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Got {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body answers before all of it is written.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer
            .windows(4)
            .position(|at| at == b"\r\n\r\n")
            .expect("an answer");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        Got {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: answer[end + 4..].to_vec(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                std::thread::panicking() || ended.is_ok(),
                "the server panicked"
            );
        }
    }
}
