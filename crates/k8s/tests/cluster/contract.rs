//! The contract suite on Kubernetes.

use crate::bench::Cluster;
use e2e::Storage;

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    // Volumes come from the test's own provisioner.
    let storage = tokio::task::spawn_blocking(|| Storage::on_demand("contract"));
    let storage = storage.await.expect("made");
    engine::suite::all(async || Cluster::keeping(Some(storage.class())).await).await;
}
