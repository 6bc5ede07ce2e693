//! Takes a canary's requests away from it when its callers fare worse than those of the Revision before.
//!
//! Looks at the counters every two seconds; `canary` judges. The server then goes back, as `moonshot rollout undo`
//! would: this gateway, and all others, learn of it by the table.

use crate::feed::Source;
use crate::table::{Route, Table};
use bytes::Bytes;
use canary::{LOOK, Limits, Window};
use http::{Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// For the server to answer.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Judges the canaries of the table until `stop`.
pub(crate) async fn watch(
    source: Source,
    table: watch::Receiver<Option<Arc<Table>>>,
    stop: CancellationToken,
) {
    let begun = Instant::now();
    let mut watched: HashMap<(String, String, u32), Window> = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let Some(table) = table.borrow().clone() else {
            continue;
        };
        let mut present: HashMap<(String, String, u32), Window> = HashMap::new();
        for canary in table.canaries() {
            let spec = canary.route.spec();
            let key = (spec.project.clone(), spec.app.clone(), canary.revision);
            let mut window = watched.remove(&key).unwrap_or_default();
            let limits = Limits {
                errors: canary.rule.errors,
                latency: canary.rule.latency,
            };
            let before = "the Revision before";
            let why = window.look(begun.elapsed(), &limits, before, canary.old, canary.new);
            if let Some(why) = why {
                let why = format!("revision {}: {why}", canary.revision);
                match ask(&source, canary.route, canary.before, &why).await {
                    Ok(()) => tracing::warn!(app = spec.app, why, "stepped back"),
                    // The next look tries again.
                    Err(error) => tracing::warn!(app = spec.app, why, error, "cannot step back"),
                }
            }
            present.insert(key, window);
        }
        watched = present;
    }
}

/// Has a server go back to a Revision.
async fn ask(source: &Source, route: &Route, to: u32, why: &str) -> Result<(), String> {
    let servers = (source.servers)();
    let spec = route.spec();
    let path = format!("/v1/projects/{}/apps/{}/rollback", spec.project, spec.app);
    let body = serde_json::json!({"revision": to, "reason": why}).to_string();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut last = "no server is known".to_owned();
    for server in servers {
        let request = Request::post(format!("http://{server}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", source.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.clone())))
            .map_err(|error| error.to_string())?;
        match tokio::time::timeout(ASK_MAX, client.request(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return Ok(()),
            Ok(Ok(response)) => last = format!("`{server}` answered {}", response.status()),
            Ok(Err(error)) => last = format!("`{server}` cannot be reached: {error}"),
            Err(_) => last = format!("`{server}` did not answer"),
        }
    }
    Err(last)
}
