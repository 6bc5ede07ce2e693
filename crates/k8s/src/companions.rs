//! Objects that stand beside an owner's Jobs and Deployments: the headless Service under which its batch replicas find each other, and
//! the templates from which claims of devices are made. One that is deleted by hand is made again; one that nobody needs any more goes.

use crate::manifest;
use crate::names;
use crate::port::{Shared, only};
use crate::view::{Holder, HolderKind, Place, place};
use base::Uid;
use engine::{EngineError, Group, Life};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between attempts of a replica nobody needs them: they stay so long.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Use {
    /// Batch replicas of this owner.
    Peers(Uid),
    /// Pods of this Group of an owner.
    Devices(Uid, String),
}

/// One that is there.
#[derive(Clone, Debug)]
pub(crate) struct Companion {
    pub(crate) of: Use,
    pub(crate) place: Place,
    uid: String,
    /// Since when nobody needs it.
    idle: Option<Instant>,
}

impl Companion {
    pub(crate) fn of_service(service: &Service) -> Option<Companion> {
        Companion::new(&service.metadata, |owner, _| Some(Use::Peers(owner)))
    }

    pub(crate) fn of_template(template: &ResourceClaimTemplate) -> Option<Companion> {
        Companion::new(&template.metadata, |owner, group| {
            Some(Use::Devices(owner, group?.clone()))
        })
    }

    /// `None` where its labels are not ours.
    fn new(
        meta: &ObjectMeta,
        of: impl Fn(Uid, Option<&String>) -> Option<Use>,
    ) -> Option<Companion> {
        let labels = meta.labels.as_ref()?;
        let owner = labels.get(names::OWNER)?.parse().ok()?;
        Some(Companion {
            of: of(owner, labels.get(names::GROUP))?,
            place: place(meta),
            uid: meta.uid.clone()?,
            idle: None,
        })
    }
}

/// All that are there.
#[derive(Default)]
pub(crate) struct Companions(BTreeMap<Use, Companion>);

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Groups that lack some.
    pub(crate) make: Vec<Arc<Group>>,
    /// Those that nobody needs.
    pub(crate) delete: Vec<Companion>,
}

impl Companions {
    pub(crate) fn put(&mut self, companion: Companion) {
        self.0.insert(companion.of.clone(), companion);
    }

    pub(crate) fn remove(&mut self, is_service: bool, place: &Place) {
        self.0
            .retain(|of, known| of.is_service() != is_service || known.place != *place);
    }

    /// After a new list.
    pub(crate) fn keep(&mut self, is_service: bool, there: &HashSet<Place>) {
        self.0
            .retain(|of, known| of.is_service() != is_service || there.contains(&known.place));
    }

    /// What is missing for these holders, and what none of them needs.
    pub(crate) fn due<'a>(
        &mut self,
        holders: impl Iterator<Item = &'a Holder>,
        claims_devices: impl Fn(&Group) -> bool,
        now: Instant,
    ) -> Due {
        let mut due = Due::default();
        let mut needed: BTreeSet<Use> = BTreeSet::new();
        for holder in holders.filter(|holder| !holder.is_over && holder.n_live() > 0) {
            let group = &holder.group;
            let peers = (holder.kind == HolderKind::Job).then_some(Use::Peers(group.owner));
            let devices = claims_devices(group);
            let devices = devices.then(|| Use::Devices(group.owner, group.name.clone()));
            let mut is_missing = false;
            for of in peers.into_iter().chain(devices) {
                is_missing |= !self.0.contains_key(&of) && !needed.contains(&of);
                needed.insert(of);
            }
            if is_missing {
                due.make.push(Arc::clone(group));
            }
        }
        for companion in self.0.values_mut() {
            if needed.contains(&companion.of) {
                companion.idle = None;
            } else if now.duration_since(*companion.idle.get_or_insert(now)) >= IDLE_MAX {
                due.delete.push(companion.clone());
            }
        }
        due
    }
}

impl Use {
    fn is_service(&self) -> bool {
        matches!(self, Use::Peers(_))
    }
}

/// Makes those of a Group, unless they are there.
pub(crate) async fn make(shared: &Shared, group: &Group) -> Result<(), EngineError> {
    if group.life == Life::Batch {
        let api = Api::<Service>::namespaced(shared.client.clone(), &group.project);
        let made = shared.create(api, manifest::peers(group)).await?;
        shared
            .cache
            .put_companion(made.as_ref().and_then(Companion::of_service));
    }
    let template: Option<Value> = manifest::template(&shared.config, group);
    if let Some(template) = template {
        let api = Api::<ResourceClaimTemplate>::namespaced(shared.client.clone(), &group.project);
        let made = shared.create(api, template).await?;
        shared
            .cache
            .put_companion(made.as_ref().and_then(Companion::of_template));
    }
    Ok(())
}

/// Deletes one.
pub(crate) async fn delete(shared: &Shared, companion: &Companion) -> kube::Result<()> {
    let (namespace, name) = &companion.place;
    let params = only(&companion.uid);
    let client = shared.client.clone();
    if companion.of.is_service() {
        let api = Api::<Service>::namespaced(client, namespace);
        api.delete(name, &params).await?;
    } else {
        let api = Api::<ResourceClaimTemplate>::namespaced(client, namespace);
        api.delete(name, &params).await?;
    }
    tracing::info!(place = ?companion.place, "nobody needs it any more: deleted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::group;
    use crate::view::Slots;
    use base::{Epoch, Time};
    use engine::StopReason;
    use serde_json::json;

    fn holder(kind: HolderKind) -> Holder {
        Holder {
            kind,
            place: ("air".to_owned(), "it".to_owned()),
            uid: "u".to_owned(),
            version: "1".to_owned(),
            group: Arc::new(group()),
            epoch: Epoch(1),
            slots: Slots::default(),
            replicas: None,
            is_over: false,
            is_deleting: false,
        }
    }

    fn service(name: &str, owner: &str) -> Option<Companion> {
        let meta = json!({"metadata": {
            "name": name, "namespace": "air", "uid": name, "labels": {names::OWNER: owner},
        }});
        Companion::of_service(&serde_json::from_value(meta).expect("a Service"))
    }

    fn due(companions: &mut Companions, holders: &[Holder], now: Instant) -> (usize, Vec<String>) {
        let due = companions.due(holders.iter(), |_| true, now);
        let names = due.delete.into_iter().map(|gone| gone.place.1);
        (due.make.len(), names.collect())
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_idle_goes() {
        let (mut companions, now) = (Companions::default(), Instant::now());
        let owner = group().owner.to_string();
        let (job, deployment) = (holder(HolderKind::Job), holder(HolderKind::Deployment));
        // A Job lacks its Service and its template: one call makes both.
        assert_eq!(due(&mut companions, &[job.clone(), job.clone()], now).0, 1);
        // Pods of a Deployment are not found by name.
        assert_eq!(due(&mut companions, &[deployment], now).0, 1);
        companions.put(service("peers", &owner).expect("it is ours"));
        assert_eq!(due(&mut companions, std::slice::from_ref(&job), now).0, 1);

        // One that nobody needs waits a while, and begins anew when it was needed in between.
        let nothing = (0, Vec::new());
        assert_eq!(due(&mut companions, &[], now), nothing);
        due(&mut companions, std::slice::from_ref(&job), now + IDLE_MAX);
        let later = now + IDLE_MAX * 2;
        assert_eq!(due(&mut companions, &[], later), nothing);
        let gone = (0, vec!["peers".to_owned()]);
        assert_eq!(due(&mut companions, &[], later + IDLE_MAX), gone);

        // A Job whose replica was asked to end needs nothing any more.
        let mut ending = job;
        let slot = &group().slots[0];
        ending.slots.entry(slot.index, slot.attempt).stop = Some(crate::view::Stop {
            reason: StopReason::Cancelled,
            grace_ms: 0,
            at: Time::from_ms(0),
        });
        assert_eq!(due(&mut companions, &[ending], later + IDLE_MAX), gone);
        companions.remove(false, &("air".to_owned(), "peers".to_owned()));
        assert_eq!(
            companions.0.len(),
            1,
            "a template of that name is another thing"
        );
        companions.keep(true, &HashSet::new());
        assert_eq!(companions.0.len(), 0);
    }

    #[test]
    fn services_of_others_are_let_be() {
        assert!(service("theirs", "not a uid").is_none());
    }
}
