//! What becomes of a Job's output when the Job has succeeded: the next version of a Model, and through it an App's.

use base::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Of the requests, what a canary gets where nothing is said, in percent.
pub const CANARY_PERCENT: u8 = 10;
/// How long a canary has them where nothing is said.
pub const CANARY_FOR: Span = Span::from_secs(300);
/// Where metrics are looked for in the output.
pub const METRICS_FILE: &str = "metrics.json";

/// An output that is delivered when the Job has succeeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliverSpec {
    /// The Model of which it becomes the next version. Made when it is new.
    pub model: String,
    /// Which output. Default: the only one, else the one called `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The App that takes the version as a new Revision. It names the Model without a version: `spec.model.uri: model://MODEL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// What must hold; else nothing is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSpec>,
    /// How the App's callers come to the new Revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanarySpec>,
}

/// What must hold of an output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckSpec {
    /// A file in the output: one JSON object, in which the program wrote what it measured. Default `metrics.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Bounds by metric. One that is missing or no number does not hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Bounds>,
    /// A file in the output with requests that the App's new Revision must answer before it gets any other: one JSON object a
    /// line, `{"request": …}` and, where the answer is known, `"response": …`. They are sent to `/v1/models/MODEL:predict`, or
    /// to the line's `"path"`. What a response does not mention may be anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<String>,
    /// How far a number of an answer may be from the expected one, times that one's size or 1, whichever is more. Default 1e-4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

/// From where to where a number may be; both ends belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bounds {
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// See [`CheckSpec::tolerance`].
pub const TOLERANCE: f64 = 1e-4;

/// A part of the requests for a while, then all of them. Where callers fare worse meanwhile, the App's `rollout.stepBack` ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CanarySpec {
    /// Of a hundred requests. Default 10; 100: all at once, as in any rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub percent: Option<u8>,
    /// How long, from the moment when it is ready. Default 5m.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Duration>)]
    pub span: Option<Span>,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum DeliveryPhase {
    /// Its metrics are read.
    #[default]
    Checking,
    /// The App's new Revision is being made ready.
    RollingOut,
    /// It has its part of the requests.
    Canary,
    /// It has all requests, or there is no App to take it.
    Delivered,
    /// A check did not hold: nothing was changed.
    Refused,
    /// The version is there, but the App could not take it or did not keep it.
    NotTaken,
}

impl DeliveryPhase {
    /// Whether nothing more happens.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            DeliveryPhase::Delivered | DeliveryPhase::Refused | DeliveryPhase::NotTaken
        )
    }
}

/// What is known of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// In one word.
    pub phase: DeliveryPhase,
    /// A sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What the program measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The Model's version that was made; 0 when there is none.
    #[serde(default)]
    pub version: u32,
    /// The App's Revision that was made; 0 when there is none.
    #[serde(default)]
    pub revision: u32,
    /// Sample requests that the Revision answered rightly.
    #[serde(default)]
    pub samples: u32,
    /// Since when the Revision has its part of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::schema::Timestamp>)]
    pub canary_since: Option<base::Time>,
}

/// The metrics that do not hold, as a sentence; `None` where all hold.
pub fn broken_bounds(
    metrics: &BTreeMap<String, f64>,
    wanted: &BTreeMap<String, Bounds>,
) -> Option<String> {
    let broken: Vec<String> = wanted
        .iter()
        .filter_map(|(name, bounds)| {
            let Some(value) = metrics.get(name) else {
                return Some(format!("metric `{name}` was not measured"));
            };
            let [low, high] = [bounds.min, bounds.max];
            if low.is_some_and(|low| *value < low) {
                return Some(format!(
                    "metric `{name}` is {value}, at least {} is wanted",
                    low.unwrap_or_default()
                ));
            }
            if high.is_some_and(|high| *value > high) {
                return Some(format!(
                    "metric `{name}` is {value}, at most {} is wanted",
                    high.unwrap_or_default()
                ));
            }
            None
        })
        .collect();
    (!broken.is_empty()).then(|| broken.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_hold_within_their_bounds_and_missing_ones_never() {
        let metrics = BTreeMap::from([("auc".to_owned(), 0.5), ("rmse".to_owned(), 20.0)]);
        let bounds = |min, max| Bounds { min, max };
        for (name, bounds, told) in [
            ("auc", bounds(Some(0.5), None), None),
            ("auc", bounds(None, Some(0.5)), None),
            (
                "auc",
                bounds(Some(0.51), None),
                Some("metric `auc` is 0.5, at least 0.51 is wanted"),
            ),
            (
                "rmse",
                bounds(Some(1.0), Some(19.5)),
                Some("metric `rmse` is 20, at most 19.5 is wanted"),
            ),
            (
                "mae",
                bounds(None, Some(1.0)),
                Some("metric `mae` was not measured"),
            ),
        ] {
            let wanted = BTreeMap::from([(name.to_owned(), bounds)]);
            assert_eq!(broken_bounds(&metrics, &wanted).as_deref(), told);
        }
    }
}
