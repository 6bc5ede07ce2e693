//! The next Revision of an App, however it comes to be: applied, or delivered by a Job.

use super::{pin, wire};
use crate::pinned::Pinned;
use base::Time;
use db::objects::Object;
use db::versions::{self, Revision};
use db::{DbError, Tx, blobs};
use serde_json::json;

/// The number of the Revision that the App shall have now, as it was last written.
pub fn target(app: &Object) -> Option<u32> {
    let number = app.desired["target"].as_u64()?;
    u32::try_from(number).ok()
}

/// Makes the Revision of the App's spec with these pins, holds what they name, and writes into `app`, which the caller
/// stores, that it is the target now.
pub async fn add(
    tx: &mut Tx<'_>,
    app: &mut Object,
    number: u32,
    pinned: &Pinned,
    creator: &str,
    now: Time,
) -> Result<(), DbError> {
    for digest in pin::digests(pinned) {
        let what = format!("revision {number}");
        blobs::hold(tx, &app.project, digest, app.uid, &what).await?;
    }
    let revision = Revision {
        app: app.uid,
        number,
        template: wire::revised(&app.spec),
        pinned: serde_json::to_value(pinned).expect("pins are JSON"),
        state: "Target".to_owned(),
        message: String::new(),
        creator: creator.to_owned(),
        created_at: now,
    };
    versions::put_revision(tx, &revision).await?;
    app.desired = wire::map_or_empty(app.desired.clone());
    app.desired["target"] = json!(number);
    app.desired["ignoreTraffic"] = json!(false);
    Ok(())
}
