//! `[traffic]` of a `model.toml`: which version answers requests that name none.

use canary::Limits;
use http::HeaderName;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;

/// Shares add up to this.
const WHOLE: u32 = 100;

/// `[traffic]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Of a hundred requests that name no version, how many each version answers.
    #[serde(default, deserialize_with = "by_number")]
    pub(crate) percent: BTreeMap<u64, u32>,
    /// A header (in gRPC, metadata) whose value is a version's number or label.
    pub(crate) header: Option<String>,
    /// When the newer of two versions that share requests gets no more.
    step_back: Option<StepBack>,
    /// A version that is only compared.
    pub(crate) shadow: Option<Shadow>,
}

/// How much worse the newer version may be; what is not said is as in [`Limits::USUAL`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBack {
    errors: Option<f64>,
    latency: Option<f64>,
}

/// A version that gets copies of requests.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shadow {
    pub(crate) version: u64,
    /// Of a hundred requests, how many are copied.
    #[serde(default = "whole")]
    pub(crate) percent: u32,
}

fn whole() -> u32 {
    WHOLE
}

/// The keys of TOML are text.
fn by_number<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<u64, u32>, D::Error> {
    let shares = BTreeMap::<String, u32>::deserialize(input)?;
    let number = |(key, share): (String, u32)| match key.parse() {
        Ok(number) => Ok((number, share)),
        Err(_) => Err(de::Error::custom(format!(
            "`{key}` is no version number; write `percent = {{4 = 90, 5 = 10}}`"
        ))),
    };
    shares.into_iter().map(number).collect()
}

impl Settings {
    /// What is wrong with them.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sum: u64 = self.percent.values().map(|share| u64::from(*share)).sum();
        if !self.percent.is_empty() && sum != u64::from(WHOLE) {
            return Err(format!(
                "`traffic.percent`: the shares add up to {sum}, they must be {WHOLE}"
            ));
        }
        if let Some(header) = &self.header
            && HeaderName::try_from(header.as_str()).is_err()
        {
            return Err(format!("`traffic.header`: `{header}` is no header's name"));
        }
        if let Some(shadow) = &self.shadow {
            self.check_shadow(shadow)?;
        }
        let Some(step_back) = &self.step_back else {
            return Ok(());
        };
        for (name, limit, least) in [
            ("errors", step_back.errors, 0.0),
            ("latency", step_back.latency, 1.0),
        ] {
            let is_fit = |limit: f64| limit == 0.0 || (limit.is_finite() && limit > least);
            if !limit.is_none_or(is_fit) {
                return Err(format!(
                    "`traffic.step_back.{name}` must be more than {least}, or 0 to switch it off"
                ));
            }
        }
        match self.pair() {
            Some(_) => Ok(()),
            None => Err(
                "`traffic.step_back` needs two versions in `traffic.percent` whose shares are above 0"
                    .to_owned(),
            ),
        }
    }

    fn check_shadow(&self, shadow: &Shadow) -> Result<(), String> {
        let number = shadow.version;
        if self.percent.is_empty() {
            return Err(
                "`traffic.shadow` needs `traffic.percent`, which says who answers".to_owned(),
            );
        }
        if self.percent.get(&number).is_some_and(|share| *share > 0) {
            return Err(format!(
                "`traffic.shadow`: version {number} answers requests itself; compare another one"
            ));
        }
        if shadow.percent == 0 || shadow.percent > WHOLE {
            return Err(format!(
                "`traffic.shadow.percent` is {}, it must be 1 to {WHOLE}",
                shadow.percent
            ));
        }
        Ok(())
    }

    /// The versions that must be held.
    pub(crate) fn versions(&self) -> impl Iterator<Item = u64> {
        let shadow = self.shadow.as_ref().map(|shadow| shadow.version);
        self.percent.keys().copied().chain(shadow)
    }

    /// The older and the newer of two versions that share requests.
    pub(crate) fn pair(&self) -> Option<(u64, u64)> {
        let shares = self.percent.iter().filter(|(_, share)| **share > 0);
        let numbers: Vec<u64> = shares.map(|(number, _)| *number).collect();
        match numbers[..] {
            [old, new] => Some((old, new)),
            _ => None,
        }
    }

    /// How much worse the newer of the two may be.
    pub(crate) fn limits(&self) -> Limits {
        let own = self.step_back.as_ref();
        Limits {
            errors: own
                .and_then(|own| own.errors)
                .unwrap_or(Limits::USUAL.errors),
            latency: own
                .and_then(|own| own.latency)
                .unwrap_or(Limits::USUAL.latency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map(|()| settings)
    }

    #[test]
    fn what_is_not_said_is_usual() {
        let settings = read("percent = {4 = 90, 10 = 10}\nshadow = {version = 11}").unwrap();
        assert_eq!(settings.pair(), Some((4, 10)));
        assert_eq!(settings.limits(), Limits::USUAL);
        assert_eq!(settings.versions().collect::<Vec<_>>(), [4, 10, 11]);
        assert_eq!(settings.shadow.unwrap().percent, 100);
        let settings = read("percent = {1 = 50, 2 = 50}\nstep_back = {errors = 0}").unwrap();
        assert_eq!(
            (settings.limits().errors, settings.limits().latency),
            (0.0, 1.5)
        );
        assert_eq!(read("percent = {1 = 100, 2 = 0}").unwrap().pair(), None);
        assert_eq!(read("").unwrap(), Settings::default());
    }

    #[test]
    fn slips_name_their_field() {
        for (text, wanted) in [
            ("percent = {4 = 90}", "add up to 90"),
            ("percent = {new = 100}", "`new` is no version number"),
            ("percent = {4 = -1, 5 = 101}", "percent"),
            ("header = \"x y\"", "`x y` is no header's name"),
            ("step_back = {errors = 3}", "needs two versions"),
            (
                "percent = {1 = 50, 2 = 50}\nstep_back = {latency = 0.5}",
                "`traffic.step_back.latency` must be more than 1",
            ),
            (
                "percent = {1 = 50, 2 = 50}\nstep_back = {errors = -1}",
                "`traffic.step_back.errors`",
            ),
            ("shadow = {version = 3}", "needs `traffic.percent`"),
            (
                "percent = {3 = 100}\nshadow = {version = 3}",
                "answers requests itself",
            ),
            (
                "percent = {3 = 100}\nshadow = {version = 4, percent = 0}",
                "`traffic.shadow.percent` is 0",
            ),
            ("percents = {3 = 100}", "unknown field `percents`"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }
}
