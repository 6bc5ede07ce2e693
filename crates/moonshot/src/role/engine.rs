//! The engine on this machine, as the settings say.

use super::server::chain;
use super::settings::Settings;
use local::{Backoff, Config, Local};
use server::content::Content;
use std::path::Path;
use std::sync::Arc;

/// Opens it: running work of an earlier server is found again.
pub(crate) async fn open(
    settings: &Settings,
    shim: &Path,
    content: Arc<Content>,
) -> Result<Arc<dyn engine::Engine>, String> {
    let root = settings.data_dir.join("engine");
    let config = Config {
        shim: shim.to_owned(),
        nodes: settings.nodes,
        reserve: base::Resources::default(),
        ports: local::config::PORTS,
        address: "127.0.0.1".to_owned(),
        spool_max: local::config::SPOOL_MAX,
        backoff: Backoff::STANDARD,
        boot: local::boot_id(),
        limits: local::limits::detect(&root),
        gpus: local::gpu::detect(settings.fake_gpus),
        sink: Arc::clone(&content) as Arc<dyn engine::OutputSink>,
        content,
        root,
    };
    let local = Local::open(config).await.map_err(|error| format!("cannot open the engine: {}", chain(&error)))?;
    Ok(Arc::new(local))
}
