//! The real server with the engine in memory: `bench host DATA LISTEN N_NODES SLOTS_PER_NODE`. Everything but what
//! runs the programs is what `moonshot server` is made of.

use crate::Failure;
use base::{Bytes, MilliCpu, Resources, Span};
use engine::fake::Fake;
use server::control::{leader, venv::Venvs};
use server::platform::{Clock, Hosts, LogBounds, Parts, Platform, SystemClock};
use server::{auth, usecase};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What every installation under test is called with.
pub(crate) fn main(args: &[String]) -> Result<(), Failure> {
    let [data, listen, nodes, slots] = args else {
        return Err("usage: bench host DATA LISTEN N_NODES SLOTS_PER_NODE".into());
    };
    let (nodes, slots): (u32, u64) = (nodes.parse()?, slots.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(data.into(), listen, nodes, slots))
}

async fn serve(data: PathBuf, listen: &str, nodes: u32, slots: u64) -> Result<(), Failure> {
    let reports = (0..nodes).map(|n| {
        let allocatable = Resources {
            cpu: MilliCpu(1_000 * slots),
            memory: Bytes(slots << 30),
            ..Resources::default()
        };
        Fake::node(&format!("node-{n}"), allocatable)
    });
    let engine = Fake::new(reports.collect(), None, None);
    let clock = SystemClock::default();
    let db = db::Db::open(db::Config {
        location: db::Location::Sqlite(data.join("moonshot.sqlite")),
        clock: Arc::new(move || clock.now()),
    })
    .await?;
    let stop = CancellationToken::new();
    let platform = Arc::new(Platform::new(Parts {
        db,
        store: store::Store::directory(&data.join("store"))?,
        content_grace: Span::from_secs(6 * 3_600),
        model_sources: Vec::new(),
        logs: logs::Logs::open(data.join("logs"))?,
        dropped: Arc::default(),
        log_bounds: LogBounds {
            kept: Span::from_secs(86_400),
            bytes: Bytes(1 << 30),
        },
        sched_log: None,
        engine: Arc::new(engine),
        cluster: "local".to_owned(),
        clock: Arc::new(clock),
        venvs: Venvs::new(data.join("environments")),
        key: vec![7; 32],
        gateway_url: String::new(),
        console_url: None,
        console: None,
        hosts: Hosts::default(),
        node_lost_after: Span::from_secs(60),
        stop: stop.clone(),
    }));
    auth::bootstrap(&platform, &data.join("admin.token")).await?;
    usecase::apply::seed(&platform).await?;
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let router = server::http::router(Arc::clone(&platform));
    let lead = leader::run(platform, "bench".to_owned(), stop.clone());
    // It is killed when the bench is done.
    let (served, ()) = tokio::join!(server::http::serve(listener, router, stop), lead);
    Ok(served?)
}
