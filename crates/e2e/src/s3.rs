//! A real S3 server on this machine, over a directory: it checks signatures (AWS Signature Version 4) and takes
//! multipart uploads. It is the server of the `s3s` project, not ours.

use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The key that the server knows.
const ACCESS_KEY: &str = "AKIATESTONLY00000000";
const SECRET_KEY: &str = "a-secret-that-only-tests-use-0123456789";

/// Key id and secret that the server takes.
pub fn credentials() -> (String, String) {
    (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned())
}

/// A server with one bucket, on a thread of its own. Ends with it.
pub struct S3Server {
    dir: tempfile::TempDir,
    endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts one with this bucket.
    pub fn start(bucket: &str) -> S3Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join(bucket)).expect("the directory is ours");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("it is a socket");
        let (stop, stopped) = oneshot::channel();
        let root = dir.path().to_owned();
        let thread = std::thread::spawn(move || serve(&root, listener, stopped));
        S3Server {
            dir,
            endpoint: format!("http://{address}"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// `http://127.0.0.1:N`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The key id that it knows.
    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    /// Puts an object, as `BUCKET/KEY`.
    pub fn put(&self, key: &str, content: &[u8]) {
        let path = self.dir.path().join(key);
        let parent = path.parent().expect("it is below the directory");
        std::fs::create_dir_all(parent).expect("a directory");
        std::fs::write(&path, content).expect("written");
    }

    /// How many objects its buckets hold.
    pub fn objects(&self) -> usize {
        self.files().len()
    }

    /// The file behind an object whose key ends so.
    #[track_caller]
    pub fn file_of(&self, name: &str) -> PathBuf {
        let mut files = self.files();
        files.retain(|path| path.ends_with(name));
        assert_eq!(files.len(), 1, "objects named `{name}`");
        files.remove(0)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(self.dir.path(), &mut files);
        files
    }
}

/// What the server keeps for itself has names that begin with a dot.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn serve(root: &Path, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let files = s3s_fs::FileSystem::new(root).expect("the directory is ours");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is non-blocking");
        let http =
            hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((socket, _)) = accepted else { continue };
                    let socket = hyper_util::rt::TokioIo::new(socket);
                    let connection = http.serve_connection(socket, service.clone()).into_owned();
                    connections.spawn(async move { let _ = connection.await; });
                }
                _ = &mut stopped => break,
            }
        }
    });
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
