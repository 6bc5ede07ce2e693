//! The server role: everything of the control plane in one process, and the watch over the gateway's process.

use super::files;
use super::settings::Settings;
use rustix::process::setsid;
use server::auth;
use server::control::{leader, venv::Venvs};
use server::platform::{Hosts, Parts, Platform, SystemClock};
use server::{content::Content, usecase};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// At the end, requests and loops get this long.
const DRAIN: Duration = Duration::from_secs(10);
/// Between looks at the gateway's process: Apps are out of reach while it is gone.
const WATCH: Duration = Duration::from_millis(100);

/// Where things are under the data directory.
pub(crate) fn token_file(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// The shim: embedded at build time, else beside this program.
const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim"));

/// Runs until SIGTERM or Ctrl-C. Running work goes on without it.
pub(crate) async fn run(settings: Settings, detach: bool) -> Result<(), String> {
    if detach {
        // A terminal that closes does not take it along. Fails only where it leads a session already.
        let _ = setsid();
    }
    let _telemetry = telemetry::start("moonshot-server");
    let data = settings.data_dir.clone();
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: &dyn std::error::Error| format!("{what}: {}", chain(error))
    };
    std::fs::create_dir_all(&data)
        .map_err(|error| failed(&format!("cannot make `{}`", data.display()))(&error))?;
    let _lock = take_role(&settings)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}; choose another with MOONSHOT_LISTEN",
            settings.listen
        )
    })?;
    let stop = CancellationToken::new();
    let platform = Arc::new(build(&settings, &stop).await?);
    auth::bootstrap(&platform, &token_file(&data))
        .await
        .map_err(|error| failed("cannot make the first token")(&error))?;
    usecase::apply::seed(&platform)
        .await
        .map_err(|error| failed("cannot make what every installation has")(&error))?;
    if !platform.db.is_shared() {
        // This process holds the directory's lock: the server before it is gone.
        db::leases::clear(&platform.db, "leader")
            .await
            .map_err(|error| failed("cannot take the lead")(&error))?;
    }
    let holder = leader::holder(
        &settings.listen.to_string(),
        server::platform::new_uid(base::Time::from_ms(0)),
    );
    let mut tasks = server::control::tasks::Tasks::new(stop.clone());
    let (leading, term) = (Arc::clone(&platform), stop.clone());
    tasks.start("leader", move || {
        leader::run(Arc::clone(&leading), holder.clone(), term.clone())
    });
    let (gateway, watch) = (settings.clone(), stop.clone());
    tasks.start("gateway", move || {
        watch_gateway(gateway.clone(), watch.clone())
    });
    let (signals, ended) = (stop.clone(), stop.clone());
    tasks.start("signals", move || wait_for_signal(signals.clone()));
    let app = server::http::router(Arc::clone(&platform));
    tracing::info!(listen = %settings.listen, data = %data.display(), "server serves");
    let serve = axum_serve(listener, app, ended);
    let both = async {
        tokio::join!(serve, tasks.run());
        platform.streams.ended().await;
    };
    tokio::pin!(both);
    tokio::select! {
        () = &mut both => {}
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("not everything ended in {} s", DRAIN.as_secs());
        }
    }
    Ok(())
}

/// The lock of the first server here, or of a further one where the database can be shared.
fn take_role(settings: &Settings) -> Result<files::RoleLock, String> {
    let data = &settings.data_dir;
    let n_servers = match settings.database {
        Some(_) => usize::MAX,
        None => 1,
    };
    for role in files::server_roles().take(n_servers) {
        let taken = files::take(data, &role, &settings.listen.to_string());
        let taken =
            taken.map_err(|error| format!("cannot take the server's lock: {}", chain(&error)))?;
        if let Some(lock) = taken {
            return Ok(lock);
        }
    }
    let more = match settings.database {
        Some(_) => "",
        None => "; more than one needs PostgreSQL (MOONSHOT_DATABASE)",
    };
    Err(format!(
        "a server runs already on `{}`; `moonshot down` stops it{more}",
        data.display()
    ))
}

async fn axum_serve(listener: TcpListener, app: server::http::App, stop: CancellationToken) {
    if let Err(error) = server::http::serve(listener, app, stop).await {
        tracing::error!(%error, "the listener failed");
    }
}

async fn build(settings: &Settings, stop: &CancellationToken) -> Result<Platform, String> {
    let data = &settings.data_dir;
    let clock = SystemClock {
        offset_ms: settings.clock_offset_ms,
    };
    let database = db::Db::open(super::database::config(settings))
        .await
        .map_err(|error| super::database::words(settings, &error))?;
    let store = super::store::open(settings).await?;
    let log_clock = Arc::new(move || server::platform::Clock::now(&clock));
    let logs =
        logs::Logs::with_clock(data.join("logs"), log_clock).map_err(|error| chain(&error))?;
    let dropped = Arc::default();
    let key = super::database::key(settings)?;
    let venvs = Venvs::new(data.join("environments"));
    let content = Content {
        db: database.clone(),
        store: store.clone(),
        logs: logs.clone(),
        venvs: venvs.clone(),
        key: key.clone(),
        dropped: Arc::clone(&dropped),
    };
    let content = Arc::new(content);
    let engine = super::engine::Seat::new(settings, shim(data)?, content, logs.clone());
    Ok(Platform::new(Parts {
        db: database,
        store,
        content_grace: settings.content_grace,
        model_sources: settings.model_sources.clone(),
        logs,
        dropped,
        log_bounds: server::platform::LogBounds {
            kept: settings.log_retention,
            bytes: settings.log_storage,
        },
        sched_log: Some(server::control::sched_log::LogPlace {
            dir: data.join("sched"),
            bytes: settings.sched_log,
        }),
        engine: Arc::new(engine),
        cluster: settings.cluster().to_owned(),
        clock: Arc::new(clock),
        venvs,
        key,
        gateway_url: format!("http://{}", settings.gateway_listen),
        console_url: crate::console::FILES.map(|_| format!("http://{}/", settings.listen)),
        console: crate::console::FILES,
        hosts: Hosts {
            names: settings.hosts.clone(),
        },
        node_lost_after: settings.node_lost_after,
        stop: stop.clone(),
    }))
}

/// The shim as a file that can be run.
fn shim(data: &Path) -> Result<PathBuf, String> {
    if SHIM.is_empty() {
        let beside = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.join("moonshot-shim")));
        return beside.filter(|path| path.exists()).ok_or_else(|| {
            "this program was built without its shim, and `moonshot-shim` is not beside it: build with `cargo xtask build`".to_owned()
        });
    }
    // Named by its content: a running shim's file is never written to.
    use std::os::unix::fs::PermissionsExt;
    let name = format!("moonshot-shim-{:08x}", short_hash(SHIM));
    let path = data.join("bin").join(name);
    if !path.exists() {
        let dir = data.join("bin");
        let draft = dir.join(format!("shim-{}", std::process::id()));
        let written = std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(&draft, SHIM))
            .and_then(|()| std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)))
            .and_then(|()| std::fs::rename(&draft, &path));
        written
            .map_err(|error| format!("cannot write the shim to `{}`: {error}", path.display()))?;
    }
    Ok(path)
}

/// A short name for content; nothing hangs on its strength (FNV-1a).
pub(crate) fn short_hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Starts the gateway's process when it does not run. It outlives the server: Apps stay reachable.
async fn watch_gateway(settings: Settings, stop: CancellationToken) {
    let mut child: Option<Child> = None;
    loop {
        // Whoever started it reaps it.
        if child
            .as_mut()
            .is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
        {
            child = None;
        }
        if child.is_none() && files::holder(&settings.data_dir, "gateway").is_none() {
            match start_role(&settings, "gateway") {
                Ok(started) => child = Some(started),
                Err(error) => tracing::error!(%error, "cannot start the gateway"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Starts a role in the background, its output in a file under the data directory.
pub(crate) fn start_role(settings: &Settings, role: &str) -> std::io::Result<Child> {
    let dir = settings.data_dir.join("run");
    std::fs::create_dir_all(&dir)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join(format!("{role}.log")))?;
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(kubernetes) = &settings.kubernetes {
        command.env("MOONSHOT_ENGINE", "k8s");
        if let Some(path) = &kubernetes.kubeconfig {
            command.env("MOONSHOT_KUBECONFIG", path);
        }
    }
    command
        .args([role, "--detach"])
        // What flags of `up` said, so that both roles agree with it.
        .env("MOONSHOT_DATA_DIR", &settings.data_dir)
        .env("MOONSHOT_LISTEN", settings.listen.to_string())
        .env(
            "MOONSHOT_GATEWAY_LISTEN",
            settings.gateway_listen.to_string(),
        )
        .env("MOONSHOT_NODES", settings.nodes.to_string())
        .env("MOONSHOT_FAKE_GPUS", settings.fake_gpus.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

pub(crate) async fn wait_for_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
