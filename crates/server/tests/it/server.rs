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
    pub(crate) router: Router,
    pub(crate) token: String,
    pub(crate) stop: CancellationToken,
    tasks: JoinSet<()>,
    dir: Arc<tempfile::TempDir>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Server {
    /// A fresh one.
    pub(crate) async fn start() -> Server {
        Server::on(
            Arc::new(tempfile::tempdir().unwrap()),
            Arc::new(Words::default()),
        )
        .await
    }

    async fn on(dir: Arc<tempfile::TempDir>, engine: Arc<Words>) -> Server {
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
            store: store::Store::open(data.join("store")).unwrap(),
            logs: logs::Logs::open(data.join("logs")).unwrap(),
            engine: Arc::clone(&engine) as Arc<dyn engine::Engine>,
            cluster: "local".to_owned(),
            clock: Arc::new(clock),
            venvs: Venvs::new(data.join("environments")),
            key: vec![7; 32],
            gateway_url: "http://127.0.0.1:1".to_owned(),
            console_url: None,
            console: None,
            hosts: Hosts::default(),
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
        let router = server::http::router(platform);
        Server {
            engine,
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
        Server::on(Arc::clone(&self.dir), Arc::clone(&self.engine)).await
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
