//! The contract suite on Kubernetes.

use crate::bench::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    engine::suite::all(async || Cluster::fresh().await).await;
}
