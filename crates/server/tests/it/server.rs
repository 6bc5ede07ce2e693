//! A server in this process, and requests to it.

use crate::engine::Words;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::control::{leader, venv::Venvs};
use server::platform::{Hosts, Parts, Platform, SystemClock};
use server::{auth, usecase};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A server with its directory; its loops end with it.
pub(crate) struct Server {
    pub(crate) engine: Arc<Words>,
    pub(crate) platform: Arc<Platform>,
    pub(crate) router: Router,
    pub(crate) token: String,
    pub(crate) stop: CancellationToken,
    tasks: JoinSet<()>,
    dir: Arc<tempfile::TempDir>,
}

/// The installation's key.
pub(crate) const KEY: [u8; 32] = [7; 32];
/// After this long a silent node is given up.
const NODE_LOST_AFTER: base::Span = base::Span::from_ms(300);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Server {
    /// A fresh one.
    pub(crate) async fn start() -> Server {
        let words = Arc::new(Words::default());
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Server::on(dir, Arc::clone(&words), words).await
    }

    /// A fresh one on another engine.
    pub(crate) async fn start_on(engine: Arc<dyn engine::Engine>) -> Server {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Server::on(dir, Arc::new(Words::default()), engine).await
    }

    async fn on(
        dir: Arc<tempfile::TempDir>,
        words: Arc<Words>,
        engine: Arc<dyn engine::Engine>,
    ) -> Server {
        let data = dir.path();
        let stop = CancellationToken::new();
        let clock = SystemClock::default();
        let db_clock = Arc::new(move || server::platform::Clock::now(&clock));
        let location = db::Location::Sqlite(data.join("db.sqlite"));
        let db = db::Db::open(db::Config {
            location,
            clock: db_clock,
        })
        .await
        .unwrap();
        let platform = Arc::new(Platform::new(Parts {
            db,
            store: store::Store::directory(&data.join("store")).unwrap(),
            content_grace: base::Span::from_secs(6 * 3_600),
            model_sources: Vec::new(),
            logs: logs::Logs::open(data.join("logs")).unwrap(),
            dropped: Arc::default(),
            log_bounds: server::platform::LogBounds {
                kept: base::Span::from_secs(86_400),
                bytes: base::Bytes(1 << 30),
            },
            sched_log: None,
            engine,
            cluster: "local".to_owned(),
            clock: Arc::new(clock),
            venvs: Venvs::new(data.join("environments")),
            key: KEY.to_vec(),
            gateway_url: "http://127.0.0.1:1".to_owned(),
            console_url: None,
            console: None,
            hosts: Hosts::default(),
            node_lost_after: NODE_LOST_AFTER,
            stop: stop.clone(),
        }));
        let token = auth::bootstrap(&platform, &data.join("token"))
            .await
            .unwrap();
        usecase::apply::seed(&platform).await.unwrap();
        let mut tasks = JoinSet::new();
        // A name of its own, as another process would have.
        let holder = server::platform::new_uid(base::Time::from_ms(0)).to_string();
        tasks.spawn(leader::run(Arc::clone(&platform), holder, stop.clone()));
        let router = server::http::router(Arc::clone(&platform));
        Server {
            engine: words,
            platform,
            router,
            token,
            stop,
            tasks,
            dir,
        }
    }

    /// Ends it in good order and starts another on the same data and engine.
    pub(crate) async fn restart(mut self) -> Server {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let words = Arc::clone(&self.engine);
        Server::on(Arc::clone(&self.dir), Arc::clone(&words), words).await
    }

    /// Keeps content in the default project, as an upload does; its digest.
    pub(crate) async fn upload(&self, bytes: &[u8]) -> base::Digest {
        let (db, store) = (&self.platform.db, &self.platform.store);
        let kept = usecase::content::put(db, store, "default", bytes, None, None).await;
        kept.unwrap().digest
    }

    /// One request.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    /// One request with headers.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            Value::String(yaml) => Body::from(yaml),
            json => {
                request = request.header("content-type", "application/json");
                Body::from(json.to_string())
            }
        };
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let status: StatusCode = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status: status.as_u16(),
            body: serde_json::from_slice(&bytes).unwrap_or(json!(text)),
        }
    }

    /// One request of whose answer only the beginning is read: its status and media type.
    pub(crate) async fn begin(&self, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.token));
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let media = response.headers().get("content-type");
        let media = media.map_or("", |media| media.to_str().unwrap());
        (response.status().as_u16(), media.to_owned())
    }

    /// Everything under its directory, as bytes on disk.
    pub(crate) fn on_disk(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        let database = files.filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("db.sqlite")
        });
        database
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect()
    }

    /// Server-sent events of a stream, id and data, until they are enough.
    pub(crate) async fn events(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        enough: impl Fn(&[(u64, Value)]) -> bool,
    ) -> Vec<(u64, Value)> {
        let mut request = Request::builder()
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (mut body, mut text, mut events) = (response.into_body(), String::new(), Vec::new());
        while !enough(&events) {
            let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await;
            let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&data).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim().to_owned())
                };
                if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                    events.push((id.parse().unwrap(), serde_json::from_str(&data).unwrap()));
                }
                text = rest.to_owned();
            }
        }
        events
    }

    /// Applies YAML; the results.
    pub(crate) async fn apply(&self, yaml: &str) -> Value {
        let answer = self.call("POST", "/v1/apply", json!(yaml)).await;
        assert_eq!(answer.status, 200, "{:#}", answer.body);
        answer.body["results"].clone()
    }

    /// Waits until an object of the default project has a phase.
    pub(crate) async fn wait_for(&self, plural: &str, name: &str, phase: &str) -> Value {
        let path = format!("/v1/projects/default/{plural}/{name}");
        let mut last = Value::Null;
        for _ in 0..400 {
            last = self.call("GET", &path, Value::Null).await.body;
            if last["status"]["phase"] == phase {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{plural}/{name} is not {phase}: {last:#}");
    }
}
