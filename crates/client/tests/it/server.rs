//! A server for one test: every path it is asked for must be in the API's table of routes.

use api::routes::{self, Method};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use base::Span;
use client::{Client, Config};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A running server; it ends with the test.
pub(crate) struct Server {
    pub(crate) client: Client,
    _tasks: JoinSet<()>,
}

pub(crate) async fn serve(router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router.layer(from_fn(only_known_routes));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Server {
        client: connect(&format!("http://{address}")),
        _tasks: tasks,
    }
}

pub(crate) fn connect(server: &str) -> Client {
    let config = Config {
        server: server.to_owned(),
        token: Some("secret".to_owned()),
        certificates: None,
        timeout: Span::from_secs(10),
    };
    Client::new(&config).unwrap()
}

async fn only_known_routes(request: Request, next: Next) -> Response {
    let method = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Patch,
        Method::Delete,
    ]
    .into_iter()
    .find(|method| method.as_str() == request.method().as_str())
    .unwrap();
    let path = request.uri().path();
    let route =
        routes::find(method, path).unwrap_or_else(|| panic!("{method:?} {path} is no route"));
    for pair in request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let name = pair.split('=').next().unwrap();
        assert!(
            route.query.iter().any(|param| param.name == name),
            "`{name}` is no parameter of {}",
            route.id
        );
    }
    assert_eq!(request.headers()["authorization"], "Bearer secret");
    next.run(request).await
}
