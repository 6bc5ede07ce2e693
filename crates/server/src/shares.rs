//! Which Revisions of an App share its requests.

use crate::usecase::revision;
use api::app::{AppSpec, TrafficShare};
use db::objects::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A Revision that has a part of the requests while the one before keeps the rest. In the row of the App, apart from
/// what its owner wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The Revision before.
    pub from: u32,
    /// The new one.
    pub to: u32,
    /// What the new one gets, of a hundred.
    pub percent: u8,
    /// It has its replicas, and gets nothing yet: it must answer sample requests first.
    #[serde(default)]
    pub is_closed: bool,
}

impl Canary {
    /// The App's canary, as long as it is what is rolled out.
    pub fn of(app: &Object) -> Option<Canary> {
        let canary: Canary = serde_json::from_value(app.desired["canary"].clone()).ok()?;
        let is_target = revision::target(app) == Some(canary.to);
        (is_target && app.desired["ignoreTraffic"] != true).then_some(canary)
    }

    /// Writes it into an App's `desired`, or takes it away.
    pub fn put(desired: &mut Value, canary: Option<Canary>) {
        desired["canary"] = serde_json::to_value(canary).expect("a canary is JSON");
    }
}

/// How requests are shared out; empty gives everything to the newest that is ready. A delivery's canary goes before what the
/// spec says, and nothing is shared after a step back.
pub fn of(app: &Object, spec: &AppSpec) -> Vec<TrafficShare> {
    if app.desired["ignoreTraffic"] == true {
        return Vec::new();
    }
    match Canary::of(app) {
        Some(Canary {
            from, to, percent, ..
        }) => {
            let share = |revision, percent| TrafficShare { revision, percent };
            vec![share(from, 100 - percent.min(100)), share(to, percent)]
        }
        None => spec.traffic.clone(),
    }
}

/// The same as callers come to them: a canary that is closed has its replicas and no request.
pub fn open(app: &Object, spec: &AppSpec) -> Vec<TrafficShare> {
    let mut shares = of(app, spec);
    if let Some(canary) = Canary::of(app).filter(|canary| canary.is_closed) {
        for share in &mut shares {
            share.percent = if share.revision == canary.to { 0 } else { 100 };
        }
    }
    shares
}
