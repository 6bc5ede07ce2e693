//! A server that starts anew on a full cluster, beside a bare list of the same objects.

use crate::gang::Plan;
use crate::process::Usage;
use crate::report::{Figure, Report};
use crate::server::Server;
use crate::space::{PAGE, Space, Watch};
use crate::{Failure, note};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::time::Instant;

/// Fills the cluster up with pods that have their nodes already, ends the server, and starts it again: until a pod that
/// was made meanwhile is bound.
pub(crate) async fn run(
    client: &Client,
    server: &mut Server,
    project: &'static str,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), Failure> {
    let nodes = Api::<Node>::all(client.clone());
    let nodes = nodes.list_metadata(&ListParams::default()).await?.items;
    let pods = Api::<Pod>::all(client.clone());
    let n_there = pods
        .list_metadata(&ListParams::default())
        .await?
        .items
        .len();
    let n_more = plan.n_pods.saturating_sub(n_there);
    note(&format!("{n_more} pods more, of others"));
    let space = Space::new(client, "bench-others").await?;
    let mut watch = Watch::new(&space.pods, None).await?;
    let node = |at: usize| nodes[at % nodes.len()].metadata.name.clone();
    let more = (0..n_more).map(|at| Space::pod(&format!("o-{at}"), json!({"nodeName": node(at)})));
    space.fill(more).await?;
    watch.running(n_more).await?;
    drop(watch);

    server.stop()?;
    let probe: Api<Pod> = Api::namespaced(client.clone(), project);
    let spec = json!({"schedulerName": "moonshot"});
    let pod: Pod = serde_json::from_value(Space::pod("probe", spec))?;
    probe.create(&PostParams::default(), &pod).await?;
    note("a bare list, a server's start, a bare list");
    let first = listed(client).await?;
    let mut watch = Watch::of_pod(&probe, "probe").await?;
    let started = Instant::now();
    server.spawn()?;
    watch.bound(1).await?;
    let seconds = started.elapsed().as_secs_f64();
    let second = listed(client).await?;
    let bare = (first.seconds + second.seconds) / 2.0;
    note(&format!(
        "    bare lists {:.1} and {:.1} s, the server {seconds:.1} s",
        first.seconds, second.seconds
    ));
    let case = format!("start with {} nodes, {} pods", first.n_nodes, first.n_pods);
    let peer = ("bare paged list", bare);
    let mut add = |metric, unit, value, peer, aim| {
        report.add(&Figure {
            case: &case,
            metric,
            unit,
            value,
            peer: Some(peer),
            aim,
            more_is_better: false,
        })
    };
    add("first_bind_s", "s", seconds, peer, None)?;
    let times = seconds / bare.max(1e-9);
    add(
        "times_list",
        "x",
        times,
        ("bare paged list", 1.0),
        Some(1.5),
    )?;
    let rss = Usage::of(server.pid())?.rss_mb;
    report.add(&Figure {
        case: &case,
        metric: "rss_mb",
        unit: "MB",
        value: rss,
        peer: None,
        aim: None,
        more_is_better: false,
    })
}

struct Listed {
    seconds: f64,
    n_nodes: usize,
    n_pods: usize,
}

/// Every node and pod once, in pages.
async fn listed(client: &Client) -> Result<Listed, Failure> {
    let started = Instant::now();
    let n_nodes = count_all(Api::<Node>::all(client.clone())).await?;
    let n_pods = count_all(Api::<Pod>::all(client.clone())).await?;
    Ok(Listed {
        seconds: started.elapsed().as_secs_f64(),
        n_nodes,
        n_pods,
    })
}

async fn count_all<K: Clone + DeserializeOwned + Debug>(api: Api<K>) -> Result<usize, Failure> {
    let (mut n, mut page) = (0, ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        n += list.items.len();
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(n);
        }
    }
}
