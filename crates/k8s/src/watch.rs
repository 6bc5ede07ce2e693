//! Watches of nodes, pods (ours and those of others), Jobs, Deployments, Services, namespaces, NetworkPolicies, claims, volumes and storage classes, and
//! where the cluster serves them of devices: lists in pages with bookmarks, and starts over by itself when a position is
//! too old (410) or a connection is lost. Each ends up in the [`Cache`].

use crate::cache::Cache;
use crate::companions::Companion;
use crate::devices;
use crate::error::status;
use crate::foreign::{self, Other};
use crate::names;
use crate::storage::{Claim, Class, Volume};
use crate::view::{self, Holder, HolderKind, Place, PodView, place};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::resource::v1::{
    DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What to do with the objects of one kind.
trait Kind {
    type Object;
    fn put(cache: &Cache, object: Self::Object) -> Option<Place>;
    fn remove(cache: &Cache, place: &Place);
    fn keep(cache: &Cache, there: &HashSet<Place>);
}

struct Pods;
struct Others;
struct Jobs;
struct Deployments;
struct Nodes;
struct Namespaces;
struct Policies;
struct Claims;
struct Volumes;
struct Classes;
struct Slices;
struct DeviceClaims;
struct Services;
struct Templates;
struct DeviceClasses;

impl Kind for Pods {
    type Object = Pod;
    fn put(cache: &Cache, pod: Pod) -> Option<Place> {
        let pod = PodView::new(&pod)?;
        let place = pod.place.clone();
        cache.put_pod(pod);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_pod(place);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_pods(there);
    }
}

impl Kind for Others {
    type Object = Pod;
    fn put(cache: &Cache, pod: Pod) -> Option<Place> {
        // One that is held back is not there yet: nothing but its gates can change then.
        if foreign::is_gated(&pod) {
            return None;
        }
        let other = Other::new(&pod)?;
        let place = other.place.clone();
        cache.put_other(other);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_other(place);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_others(there);
    }
}

impl Kind for Jobs {
    type Object = Job;
    fn put(cache: &Cache, job: Job) -> Option<Place> {
        put_holder(cache, Holder::of_job(&job))
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_holder(&(HolderKind::Job, place.clone()));
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_holders(HolderKind::Job, there);
    }
}

impl Kind for Deployments {
    type Object = Deployment;
    fn put(cache: &Cache, deployment: Deployment) -> Option<Place> {
        put_holder(cache, Holder::of_deployment(&deployment))
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_holder(&(HolderKind::Deployment, place.clone()));
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_holders(HolderKind::Deployment, there);
    }
}

fn put_holder(cache: &Cache, holder: Option<Holder>) -> Option<Place> {
    let holder = holder?;
    let place = holder.place.clone();
    cache.put_holder(holder);
    Some(place)
}

impl Kind for Nodes {
    type Object = Node;
    fn put(cache: &Cache, node: Node) -> Option<Place> {
        let report = view::node(&node)?;
        let place = place(&node.metadata);
        cache.put_node(report);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_node(&place.1);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_nodes(there);
    }
}

impl Kind for Namespaces {
    type Object = Namespace;
    fn put(cache: &Cache, namespace: Namespace) -> Option<Place> {
        cache.spaces.put_namespace(&namespace);
        let place = place(&namespace.metadata);
        let labels = namespace.metadata.labels.unwrap_or_default();
        cache.put_space_labels(&place.1, labels);
        cache.poke.notify_one();
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.spaces.remove_namespace(&place.1);
        cache.remove_space_labels(&place.1);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.spaces.keep_namespaces(there);
    }
}

impl Kind for Policies {
    type Object = NetworkPolicy;
    fn put(cache: &Cache, policy: NetworkPolicy) -> Option<Place> {
        let place = place(&policy.metadata);
        if place.1 != names::POLICY {
            return None;
        }
        let version = policy.metadata.resource_version;
        cache.spaces.put_policy(&place.0, version);
        cache.poke.notify_one();
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        if place.1 == names::POLICY {
            cache.spaces.put_policy(&place.0, None);
            cache.poke.notify_one();
        }
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.spaces.keep_policies(there);
        cache.poke.notify_one();
    }
}

impl Kind for Claims {
    type Object = PersistentVolumeClaim;
    fn put(cache: &Cache, claim: PersistentVolumeClaim) -> Option<Place> {
        let place = place(&claim.metadata);
        cache.put_claim(Claim::new(&claim));
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_claim(place);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_claims(there);
    }
}

impl Kind for Volumes {
    type Object = PersistentVolume;
    fn put(cache: &Cache, volume: PersistentVolume) -> Option<Place> {
        let place = place(&volume.metadata);
        cache.put_volume(Volume::new(&volume)?);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_volume(&place.1);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_volumes(there);
    }
}

impl Kind for Classes {
    type Object = StorageClass;
    fn put(cache: &Cache, class: StorageClass) -> Option<Place> {
        let place = place(&class.metadata);
        cache.put_class(Class::new(&class)?);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_class(&place.1);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_classes(there);
    }
}

impl Kind for Slices {
    type Object = ResourceSlice;
    fn put(cache: &Cache, slice: ResourceSlice) -> Option<Place> {
        let place = place(&slice.metadata);
        cache.put_slice(devices::Slice::new(slice)?);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_slice(&place.1);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_slices(there);
    }
}

impl Kind for DeviceClaims {
    type Object = ResourceClaim;
    fn put(cache: &Cache, claim: ResourceClaim) -> Option<Place> {
        let place = place(&claim.metadata);
        cache.see_device_claim(devices::Claim::new(claim)?);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_device_claim(place);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_device_claims(there);
    }
}

impl Kind for Services {
    type Object = Service;
    fn put(cache: &Cache, service: Service) -> Option<Place> {
        cache.put_companion(Companion::of_service(&service));
        Some(place(&service.metadata))
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_companion(true, place);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_companions(true, there);
    }
}

impl Kind for Templates {
    type Object = ResourceClaimTemplate;
    fn put(cache: &Cache, template: ResourceClaimTemplate) -> Option<Place> {
        cache.put_companion(Companion::of_template(&template));
        Some(place(&template.metadata))
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_companion(false, place);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_companions(false, there);
    }
}

impl Kind for DeviceClasses {
    type Object = DeviceClass;
    fn put(cache: &Cache, class: DeviceClass) -> Option<Place> {
        let place = place(&class.metadata);
        cache.put_device_class(devices::Class::new(class)?);
        Some(place)
    }
    fn remove(cache: &Cache, place: &Place) {
        cache.remove_device_class(&place.1);
    }
    fn keep(cache: &Cache, there: &HashSet<Place>) {
        cache.keep_device_classes(there);
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Objects of our own making.
fn ours() -> watcher::Config {
    config().labels(&names::selector())
}

/// Runs all of them until `stop`; `listed` counts the kinds whose first list is complete.
pub(crate) async fn run(
    client: Client,
    cache: Arc<Cache>,
    listed: Sender<u8>,
    stop: CancellationToken,
) {
    let pods = watch::watcher(Api::<Pod>::all(client.clone()), ours());
    let theirs = config().labels(&format!("{}!={}", names::MANAGED.0, names::MANAGED.1));
    let others = watch::watcher(Api::<Pod>::all(client.clone()), theirs);
    let jobs = watch::watcher(Api::<Job>::all(client.clone()), ours());
    let deployments = watch::watcher(Api::<Deployment>::all(client.clone()), ours());
    let spaces = watch::watcher(Api::<Namespace>::all(client.clone()), config());
    let policies = watch::watcher(Api::<NetworkPolicy>::all(client.clone()), ours());
    let claims = watch::watcher(Api::<PersistentVolumeClaim>::all(client.clone()), config());
    let volumes = watch::watcher(Api::<PersistentVolume>::all(client.clone()), config());
    let classes = watch::watcher(Api::<StorageClass>::all(client.clone()), config());
    let nodes = watch::watcher(Api::<Node>::all(client.clone()), config());
    let services = watch::watcher(Api::<Service>::all(client.clone()), ours());
    let all = async {
        tokio::join!(
            follow::<Pods>("pods", pods, &cache, &listed),
            follow::<Others>("pods of others", others, &cache, &listed),
            follow::<Jobs>("jobs", jobs, &cache, &listed),
            follow::<Deployments>("deployments", deployments, &cache, &listed),
            follow::<Nodes>("nodes", nodes, &cache, &listed),
            follow::<Namespaces>("namespaces", spaces, &cache, &listed),
            follow::<Policies>("network policies", policies, &cache, &listed),
            follow::<Claims>("claims", claims, &cache, &listed),
            follow::<Volumes>("volumes", volumes, &cache, &listed),
            follow::<Classes>("storage classes", classes, &cache, &listed),
            follow::<Services>("services", services, &cache, &listed),
            follow_devices(client, &cache, &listed),
        )
    };
    tokio::select! {
        _ = all => {}
        () = stop.cancelled() => {}
    }
}

/// Clusters before Kubernetes 1.34 know no devices, and a role from an older chart may not read them: both are asked once, for the rest
/// works without.
async fn follow_devices(client: Client, cache: &Cache, listed: &Sender<u8>) {
    let slices = Api::<ResourceSlice>::all(client.clone());
    let missing = match slices.list(&ListParams::default().limit(1)).await {
        Err(error) => match status(&error) {
            Some(404) => Some("this cluster does not serve `resource.k8s.io/v1`"),
            Some(403) => Some("the server may not read `resource.k8s.io`: install its chart anew"),
            _ => None,
        },
        Ok(_) => None,
    };
    if let Some(missing) = missing {
        tracing::info!(missing, "devices are not known");
        cache.miss_devices(missing);
        listed.send_modify(|n| *n += 4);
        return;
    }
    let slices = watch::watcher(slices, config());
    let claims = watch::watcher(Api::<ResourceClaim>::all(client.clone()), config());
    let classes = watch::watcher(Api::<DeviceClass>::all(client.clone()), config());
    let templates = watch::watcher(Api::<ResourceClaimTemplate>::all(client), ours());
    tokio::join!(
        follow::<Slices>("resource slices", slices, cache, listed),
        follow::<DeviceClaims>("resource claims", claims, cache, listed),
        follow::<DeviceClasses>("device classes", classes, cache, listed),
        follow::<Templates>("templates of resource claims", templates, cache, listed),
    );
}

async fn follow<K: Kind>(
    what: &str,
    events: impl Stream<Item = watcher::Result<Event<K::Object>>>,
    cache: &Cache,
    listed: &Sender<u8>,
) where
    K::Object: Resource,
{
    let mut events = std::pin::pin!(events.default_backoff());
    let mut there: HashSet<Place> = HashSet::new();
    let mut is_first = true;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => there.clear(),
            Ok(Event::InitApply(object)) => there.extend(K::put(cache, object)),
            Ok(Event::InitDone) => {
                K::keep(cache, &there);
                there = HashSet::new();
                if std::mem::take(&mut is_first) {
                    listed.send_modify(|n| *n += 1);
                }
            }
            Ok(Event::Apply(object)) => drop(K::put(cache, object)),
            Ok(Event::Delete(object)) => K::remove(cache, &place(object.meta())),
            // It starts over by itself, with a pause.
            Err(error) => tracing::warn!(what, %error, "the cluster cannot be watched now"),
        }
    }
}

/// How many kinds are watched.
pub(crate) const KINDS: u8 = 15;
