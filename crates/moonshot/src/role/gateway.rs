//! The gateway role: a process of its own, so that Apps stay reachable whatever happens to the server.

use super::files;
use super::server::{chain, token_file, wait_for_signal};
use super::settings::Settings;
use gateway::feed::Source;
use rustix::process::setsid;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or Ctrl-C; requests in flight are finished.
pub(crate) async fn run(settings: Settings, detach: bool) -> Result<(), String> {
    if detach {
        // Fails only where it leads a session already.
        let _ = setsid();
    }
    let _telemetry = telemetry::start("moonshot-gateway");
    let data = &settings.data_dir;
    let Some(_lock) = files::take(data, "gateway", &settings.gateway_listen.to_string())
        .map_err(|error| format!("cannot take the gateway's lock: {error}"))?
    else {
        return Err(format!("a gateway runs already on `{}`", data.display()));
    };
    let token_file = token_file(data);
    let token = loop {
        match std::fs::read_to_string(&token_file) {
            Ok(token) => break token.trim().to_owned(),
            // The server makes it at its first start.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let (own, place) = (settings.listen.to_string(), data.clone());
    let source = Source {
        // Whichever servers run: the one that started this gateway may be gone.
        servers: Arc::new(move || {
            let mut servers = files::server_addresses(&place);
            if servers.is_empty() {
                servers.push(own.clone());
            }
            servers
        }),
        token,
        file: data.join("run/routes.json"),
    };
    let stop = CancellationToken::new();
    let config = gateway::Config {
        listen: settings.gateway_listen,
        source,
    };
    let serve = gateway::run(config, stop.clone());
    tokio::pin!(serve);
    tokio::select! {
        ended = &mut serve => ended.map_err(|error| chain(&error)),
        () = wait_for_signal(stop.clone()) => serve.await.map_err(|error| chain(&error)),
    }
}
