//! The contract suite on this machine.

use crate::bench::Machine;

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    engine::suite::all(async || Machine::new().await).await;
}
