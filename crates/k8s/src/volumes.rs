//! What must happen to a pod's claims before it gets a node, and which nodes reach them. Pure.
//!
//! Whoever schedules a pod is the one who chooses volumes for classes that wait for it: a free volume is given to the claim
//! (`claimRef`), or the claim is told for which node a volume shall be made. Kubernetes' own controllers do the rest, and the pod is
//! bound when its claims are. The rules are those of kube-scheduler's plug-in `volumebinding`.
//!
//! A claim that only some nodes reach is known to the scheduler as a label of these nodes ([`Volumes::labels`]): it follows the
//! claim while the work that names it waits.

use crate::affinity::{Labels, Site};
use crate::storage::{Claim, ClaimStage, Class, Named, Volume, Wish};
use crate::view::Place;
use base::Uid;
use engine::Prepared;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The value of labels that say which nodes reach a claim.
const REACHED: &str = "reachable";
/// The label of nodes where a first checkpoint can be kept.
const NEW: &str = "volume/new-checkpoint";
/// Claims that are asked about in one round.
const UNHEARD_MAX: usize = 16;
/// What Kubernetes says of a claim is asked again after this.
const SAID_AGE: Duration = Duration::from_secs(5);

/// Everything that is known of volumes; bounded by what the cluster holds.
#[derive(Default)]
pub(crate) struct Volumes {
    pub(crate) claims: BTreeMap<Place, Claim>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) classes: BTreeMap<String, Class>,
    /// What Kubernetes said last of claims that are not bound, by uid.
    said: BTreeMap<String, (Instant, Option<String>)>,
    /// Claims of ours about which was asked while they were not bound.
    asked: BTreeSet<Place>,
}

/// What stands between a claim and a pod on a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Ready,
    /// Something is to be done, and then to be waited for.
    Act(Act),
    /// Something is to be waited for.
    Waits(String),
    /// No waiting helps on this node.
    Elsewhere(String),
}

/// A step towards a bound claim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// A free volume becomes the claim's.
    Take {
        volume: String,
        version: String,
        claim: Box<Claim>,
    },
    /// A volume is to be made for this node.
    Select { claim: Box<Claim>, node: String },
}

/// What all claims of a pod want before it goes to a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Needs {
    /// To be done.
    pub(crate) acts: Vec<Act>,
    /// Claims about which Kubernetes is to be asked.
    pub(crate) unheard: Vec<Claim>,
    /// A claim is not there.
    pub(crate) has_missing: bool,
    /// What is waited for first.
    pub(crate) waits: Option<String>,
    /// Why the node will not do.
    pub(crate) elsewhere: Option<String>,
}

impl Needs {
    pub(crate) fn prepared(self) -> Prepared {
        match (self.elsewhere, self.waits) {
            (Some(sentence), _) => Prepared::Elsewhere(sentence),
            (None, Some(sentence)) => Prepared::Waits(sentence),
            (None, None) => Prepared::Ready,
        }
    }
}

impl Volumes {
    /// What is to be done about a claim before a pod that names it goes to a node.
    fn judge(&self, named: &Named, site: Site<'_>, is_node: impl Fn(&str) -> bool) -> Verdict {
        if let Some(sentence) = self.hindered(named) {
            return Verdict::Waits(sentence);
        }
        match self.claims.get(&named.claim) {
            Some(claim) => self.place(&shown(&claim.place), claim.into(), site, is_node),
            // `hindered` has said so.
            None => Verdict::Waits(String::new()),
        }
    }

    /// Why a pod that names this claim can have no node at all now; `None` where one can be chosen.
    pub(crate) fn hindered(&self, named: &Named) -> Option<String> {
        let what = shown(&named.claim);
        let Some(claim) = self.claims.get(&named.claim) else {
            return Some(format!("the claim {what} is not there"));
        };
        if let Some(pod) = &named.for_pod
            && claim.pod.as_ref() != Some(pod)
        {
            return Some(format!(
                "the claim {what} was not made for this pod: delete one of the two"
            ));
        }
        if claim.is_deleting {
            return Some(format!("the claim {what} is being deleted"));
        }
        match &claim.stage {
            ClaimStage::Lost(volume) => {
                return Some(format!(
                    "the claim {what} has lost its volume `{volume}`: delete the claim, what was kept there is gone"
                ));
            }
            ClaimStage::Bound(volume) if !self.volumes.contains_key(volume) => {
                return Some(format!(
                    "the volume `{volume}` of the claim {what} is not there"
                ));
            }
            ClaimStage::Bound(_) => return None,
            ClaimStage::Pending => {}
        }
        let name = claim.wish.class.as_deref().unwrap_or_default();
        if name.is_empty() {
            let remedy = if claim.owner.is_some() {
                "set MOONSHOT_CHECKPOINT_CLASS, or make a class the cluster's default, and submit the Job again"
            } else {
                "name one in `storageClassName`"
            };
            return Some(self.with_said(
                claim,
                format!("the claim {what} has no storage class: {remedy}"),
            ));
        }
        match self.classes.get(name) {
            None => Some(self.with_said(
                claim,
                format!("the storage class `{name}` of the claim {what} is not there"),
            )),
            Some(class) if !class.waits_for_node => {
                Some(self.with_said(claim, format!("the claim {what} is not bound yet")))
            }
            Some(_) => None,
        }
    }

    /// The same of a claim about which nothing stands in the way but the node.
    fn place(
        &self,
        what: &str,
        asked: Asked<'_>,
        site: Site<'_>,
        is_node: impl Fn(&str) -> bool,
    ) -> Verdict {
        let reaches = |volume: &Volume| {
            volume
                .affinity
                .as_ref()
                .is_none_or(|terms| terms.mean(site))
        };
        let node = site.name;
        let unreached = |volume: &Volume| {
            Verdict::Elsewhere(format!(
                "the volume `{}` of the claim {what} is not reached from the node `{node}`",
                volume.name
            ))
        };
        let own = asked.claim.and_then(|claim| self.own(claim));
        match (own, asked.claim.map(|claim| &claim.stage)) {
            (Some(volume), _) if !reaches(volume) => return unreached(volume),
            (Some(_), Some(ClaimStage::Bound(_))) => return Verdict::Ready,
            (Some(volume), _) => {
                let name = &volume.name;
                return Verdict::Waits(format!(
                    "the claim {what} is being bound to the volume `{name}`"
                ));
            }
            (None, _) => {}
        }
        let Some(class) = self.class(asked.wish) else {
            return Verdict::Waits(format!("the claim {what} has no storage class"));
        };
        // One that is made for another node is reached from there alone. A node that is gone holds nobody.
        let selected = asked.claim.and_then(|claim| claim.selected.as_deref());
        if let (Some(selected), Some(claim)) = (selected.filter(|name| is_node(name)), asked.claim)
        {
            return if selected == node {
                let sentence =
                    format!("a volume is being made for the claim {what} and the node `{node}`");
                Verdict::Waits(self.with_said(claim, sentence))
            } else {
                Verdict::Elsewhere(format!(
                    "a volume is being made for the claim {what} and the node `{selected}`"
                ))
            };
        }
        let free = self.volumes.values().filter(|volume| {
            volume.is_free && volume.fulfils(asked.wish, &class.name) && reaches(volume)
        });
        // The smallest that is enough, as Kubernetes chooses.
        if let Some(volume) = free.min_by_key(|volume| (volume.size, &volume.name)) {
            return asked.act(|claim| Act::Take {
                volume: volume.name.clone(),
                version: volume.version.clone(),
                claim: Box::new(claim.clone()),
            });
        }
        let name = &class.name;
        if !class.is_dynamic {
            return Verdict::Elsewhere(format!(
                "no free volume of the class `{name}` that is enough for the claim {what} is reached from the node `{node}`"
            ));
        }
        if class
            .topologies
            .as_ref()
            .is_some_and(|terms| !terms.mean(site))
        {
            return Verdict::Elsewhere(format!(
                "volumes of the class `{name}` are not made for the node `{node}`"
            ));
        }
        asked.act(|claim| Act::Select {
            claim: Box::new(claim.clone()),
            node: node.to_owned(),
        })
    }

    /// The volume that is a claim's, or is on the way to it.
    fn own(&self, claim: &Claim) -> Option<&Volume> {
        if let ClaimStage::Bound(volume) = &claim.stage {
            return self.volumes.get(volume);
        }
        self.volumes.values().find(|volume| {
            volume.claim.as_ref().is_some_and(|(place, uid)| {
                *place == claim.place && uid.as_ref().is_none_or(|uid| *uid == claim.uid)
            })
        })
    }

    fn class(&self, wish: &Wish) -> Option<&Class> {
        self.classes.get(wish.class.as_deref()?)
    }

    /// The cluster's default class, if it has one.
    pub(crate) fn default_class(&self) -> Option<&str> {
        let classes = self.classes.values().filter(|class| class.is_default);
        let newest = classes.max_by_key(|class| class.created);
        newest.map(|class| class.name.as_str())
    }

    /// The same of all claims of a pod.
    pub(crate) fn needs(
        &self,
        named: &[Named],
        site: Site<'_>,
        is_node: impl Fn(&str) -> bool,
    ) -> Needs {
        let mut needs = Needs::default();
        for named in named {
            let claim = self.claims.get(&named.claim);
            needs
                .unheard
                .extend(claim.filter(|claim| self.is_unheard(claim)).cloned());
            needs.has_missing |= claim.is_none();
            match self.judge(named, site, &is_node) {
                Verdict::Ready => {}
                Verdict::Act(act) => {
                    let what = shown(&named.claim);
                    let waits = || format!("the claim {what} is being given a volume");
                    needs.waits.get_or_insert_with(waits);
                    needs.acts.push(act);
                }
                Verdict::Waits(sentence) => drop(needs.waits.get_or_insert(sentence)),
                Verdict::Elsewhere(sentence) => drop(needs.elsewhere.get_or_insert(sentence)),
            }
        }
        // A volume is taken or made only where the pod can go then.
        if needs.elsewhere.is_some() {
            needs.acts.clear();
        }
        needs
    }

    // ---- for whom only some nodes will do ----

    /// Labels that nodes must have for a claim's sake: those that its volume names, else one of ours. Nothing where every node will do,
    /// or where nothing can be said yet.
    pub(crate) fn ties(&self, claim: &Claim) -> Labels {
        let own = self.own(claim).map(|volume| volume.affinity.as_ref());
        match own {
            Some(None) => Labels::new(),
            Some(Some(terms)) if claim.is_bound() => {
                terms.plain().unwrap_or_else(|| self.own_tie(claim))
            }
            Some(Some(_)) => self.own_tie(claim),
            None if claim.selected.is_some() || self.is_limited(&claim.wish) => self.own_tie(claim),
            None => Labels::new(),
        }
    }

    /// The label of ours for a claim, whatever its volume says.
    pub(crate) fn own_tie(&self, claim: &Claim) -> Labels {
        one(label(&claim.place))
    }

    /// Whether somebody asked about a claim that is not bound.
    pub(crate) fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The same before a first checkpoint's claim is made.
    pub(crate) fn new_ties(&self, wish: &Wish) -> Labels {
        if self.is_limited(wish) {
            one(NEW.to_owned())
        } else {
            Labels::new()
        }
    }

    /// Whether only some nodes will do for a claim of which nothing is decided.
    fn is_limited(&self, wish: &Wish) -> bool {
        self.class(wish).is_some_and(|class| {
            class.waits_for_node && (!class.is_dynamic || class.topologies.is_some())
        })
    }

    /// A claim of ours is asked about, so that its label stays while somebody waits with it.
    pub(crate) fn ask(&mut self, claim: &Place) {
        self.asked.insert(claim.clone());
    }

    /// Labels of ours that a node gets: for these claims, those that were asked about, and for first checkpoints.
    pub(crate) fn labels<'a>(
        &'a self,
        site: Site<'_>,
        named: impl Iterator<Item = &'a Place>,
        new: &Wish,
        is_node: impl Fn(&str) -> bool,
    ) -> Labels {
        // Nobody reads the sentence.
        let is_reached =
            |asked| !matches!(self.place("", asked, site, &is_node), Verdict::Elsewhere(_));
        let claims = named
            .chain(&self.asked)
            .filter_map(|place| self.claims.get(place));
        let mut labels: Labels = claims
            .filter(|claim| is_reached((*claim).into()))
            .map(|claim| (label(&claim.place), REACHED.to_owned()))
            .collect();
        let asked = Asked {
            wish: new,
            claim: None,
        };
        if self.is_limited(new) && is_reached(asked) {
            labels.insert(NEW.to_owned(), REACHED.to_owned());
        }
        labels
    }

    // ---- what Kubernetes says ----

    /// Whether it is time to ask what Kubernetes says of a claim.
    fn is_unheard(&self, claim: &Claim) -> bool {
        claim.stage == ClaimStage::Pending
            && self
                .said
                .get(&claim.uid)
                .is_none_or(|(at, _)| at.elapsed() > SAID_AGE)
    }

    /// Some of these claims that are asked about next: those that keep pods outside, for the others are asked about with their pods.
    pub(crate) fn unheard<'a>(
        &'a self,
        places: impl Iterator<Item = &'a Place> + 'a,
    ) -> impl Iterator<Item = &'a Claim> {
        let hindered = |place: &Place| {
            let claim = place.clone();
            self.hindered(&Named {
                claim,
                for_pod: None,
            })
            .is_some()
        };
        let claims = places.filter_map(|place| self.claims.get(place));
        claims
            .filter(move |claim| self.is_unheard(claim) && hindered(&claim.place))
            .take(UNHEARD_MAX)
    }

    /// What it said; whether that is news.
    pub(crate) fn hear(&mut self, uid: &str, said: Option<String>) -> bool {
        let before = self
            .said
            .insert(uid.to_owned(), (Instant::now(), said.clone()));
        before.and_then(|(_, before)| before) != said
    }

    fn with_said(&self, claim: &Claim, sentence: String) -> String {
        match self.said.get(&claim.uid) {
            Some((_, Some(said))) => format!("{sentence}; Kubernetes says: {said}"),
            Some((_, None)) | None => sentence,
        }
    }

    pub(crate) fn remove_claim(&mut self, place: &Place) {
        self.asked.remove(place);
        if let Some(claim) = self.claims.remove(place) {
            self.said.remove(&claim.uid);
        }
    }

    /// Jobs that have a claim here which nobody deletes yet.
    pub(crate) fn owners(&self) -> BTreeSet<Uid> {
        let there = self.claims.values().filter(|claim| !claim.is_deleting);
        there.filter_map(|claim| claim.owner).collect()
    }
}

/// What is asked of a volume, and by which claim if there is one already.
#[derive(Clone, Copy)]
struct Asked<'a> {
    wish: &'a Wish,
    claim: Option<&'a Claim>,
}

impl<'a> From<&'a Claim> for Asked<'a> {
    fn from(claim: &'a Claim) -> Self {
        Asked {
            wish: &claim.wish,
            claim: Some(claim),
        }
    }
}

impl Asked<'_> {
    /// The step, where there is a claim to take it for.
    fn act(&self, act: impl FnOnce(&Claim) -> Act) -> Verdict {
        self.claim
            .map_or(Verdict::Ready, |claim| Verdict::Act(act(claim)))
    }
}

impl Volume {
    fn fulfils(&self, wish: &Wish, class: &str) -> bool {
        let has_modes = wish.modes.iter().all(|mode| self.modes.contains(mode));
        self.class == class
            && has_modes
            && self.size >= wish.size
            && self.is_block == wish.is_block
            && wish.marks.are_on(&self.labels)
    }
}

/// The label of nodes that reach a claim. Known here alone: Kubernetes never sees it.
fn label((namespace, name): &Place) -> String {
    format!("volume/{namespace}/{name}")
}

fn one(label: String) -> Labels {
    Labels::from([(label, REACHED.to_owned())])
}

/// How people read of it.
fn shown((namespace, name): &Place) -> String {
    format!("`{namespace}/{name}`")
}

#[cfg(test)]
mod tests;
