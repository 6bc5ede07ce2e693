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

/// Whether a Revision has a share of the requests now.
pub fn has(app: &Object, revision: u32) -> bool {
    let spec: AppSpec = serde_json::from_value(app.spec.clone()).unwrap_or_default();
    let mut shares = of(app, &spec).into_iter();
    shares.any(|share| share.revision == revision && share.percent > 0)
}

/// The Revision that was given up while it shared requests, or before it had any: it gets none from that moment on, as
/// long as its replicas may still run. `desired.left` says so.
pub fn shut(app: &Object) -> Option<u32> {
    let left = &app.desired["left"];
    let number = u32::try_from(left["revision"].as_u64()?).ok()?;
    (left["shut"] == true && revision::target(app) != Some(number)).then_some(number)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(spec: Value, desired: Value) -> Object {
        Object {
            uid: crate::platform::new_uid(base::Time::from_ms(0)),
            kind: "App".to_owned(),
            tenant: String::new(),
            project: String::new(),
            cluster: String::new(),
            name: "web".to_owned(),
            owner: String::new(),
            creator: String::new(),
            generation: base::Generation(1),
            seq: base::Seq(1),
            phase: String::new(),
            spec,
            desired,
            status: json!({}),
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
            created_at: base::Time::from_ms(0),
            updated_at: base::Time::from_ms(0),
            deleted_at: None,
            finished_at: None,
            is_current: true,
        }
    }

    #[test]
    fn a_revision_that_was_given_up_is_shut_until_it_is_wanted_again() {
        let left = |target: u32, shut: bool| {
            let left = json!({"revision": 2, "reason": "wrong", "shut": shut});
            shut_of(json!({"target": target, "left": left}))
        };
        fn shut_of(desired: Value) -> Option<u32> {
            shut(&app(json!({}), desired))
        }
        assert_eq!(left(1, true), Some(2));
        assert_eq!(left(3, true), Some(2), "a third is rolled out meanwhile");
        assert_eq!(left(2, true), None);
        assert_eq!(
            left(1, false),
            None,
            "replicas of the other are yet to come"
        );
        assert_eq!(shut_of(json!({"target": 1})), None);
    }

    #[test]
    fn who_shares_is_a_canary_or_stands_in_the_spec() {
        let canary = json!({"from": 1, "to": 2, "percent": 10});
        let app_of = |desired: Value| {
            app(
                json!({"traffic": [{"revision": 7, "percent": 100}]}),
                desired,
            )
        };
        let shared = app_of(json!({"target": 2, "canary": canary}));
        assert!(has(&shared, 1) && has(&shared, 2) && !has(&shared, 7));
        assert!(has(&app_of(json!({"target": 7})), 7));
        assert!(!has(
            &app_of(json!({"target": 7, "ignoreTraffic": true})),
            7
        ));
    }
}
