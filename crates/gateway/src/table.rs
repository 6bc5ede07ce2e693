//! Where a request goes: the most specific host, then the longest path prefix, then a Revision by its share, then
//! the next endpoint.

use canary::{Counts, Reading, turns};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One state of the table, as the server sends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The format; this program knows 1.
    pub version: u32,
    /// All routes.
    pub routes: Vec<RouteSpec>,
}

/// One App's route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSpec {
    /// The App.
    pub app: String,
    /// Its project.
    pub project: String,
    /// A host, `*.suffix`, or every host.
    pub host: Option<String>,
    /// A path prefix, whole segments.
    pub path: String,
    /// Whether the prefix is taken off.
    pub strip_prefix: bool,
    /// `http` or `h2c`.
    pub protocol: String,
    /// `token` or `none`.
    pub auth: String,
    /// SHA-256 of the tokens that may call.
    pub tokens: Vec<String>,
    /// The longest a request may wait for its answer to begin.
    pub timeout_ms: u64,
    /// Revisions with ready endpoints.
    pub targets: Vec<TargetSpec>,
    /// When the newer of two Revisions that share requests is given up.
    pub step_back: Option<StepBackSpec>,
}

/// How much worse the newer of two Revisions may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepBackSpec {
    /// Errors in a hundred answers more than the older one's; 0: any.
    pub errors: f64,
    /// Times of the older one's time to answer; 0: any.
    pub latency: f64,
    /// Whether answers of class 4xx are errors, too.
    pub refusals: bool,
}

/// A newer Revision that shares requests with an older one, and what was counted of both.
#[derive(Debug)]
pub struct Canary<'a> {
    /// Their App's.
    pub route: &'a Route,
    /// How much worse it may be.
    pub rule: &'a StepBackSpec,
    /// The older Revision.
    pub before: u32,
    /// The newer one.
    pub revision: u32,
    /// Counted of the older one.
    pub old: Reading,
    /// Counted of the newer one.
    pub new: Reading,
}

/// One Revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetSpec {
    /// Its number.
    pub revision: u32,
    /// Its share, against the other targets'.
    pub percent: u32,
    /// Its ready replicas.
    pub endpoints: Vec<EndpointSpec>,
}

/// One ready replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSpec {
    /// Its identity.
    pub id: String,
    /// `ip:port`.
    pub address: String,
    /// Its share within the Revision.
    pub weight: u32,
}

/// A snapshot made ready for look-ups.
#[derive(Debug, Default)]
pub struct Table {
    routes: Vec<Route>,
}

/// One route with its turn counters.
#[derive(Debug)]
pub struct Route {
    /// As the server sent it.
    pub spec: RouteSpec,
    /// Addresses in turn: each Revision as often as its share says, its endpoints one after the other.
    turns: Vec<String>,
    next: AtomicUsize,
    /// By Revision.
    counts: HashMap<u32, Arc<Counts>>,
    /// The same by address: looked up for every answer.
    counts_of: HashMap<String, Arc<Counts>>,
}

impl Table {
    /// From a snapshot. Counters of routes that were there before go on.
    pub fn new(snapshot: Snapshot, before: Option<&Table>) -> Table {
        let old: HashMap<(&str, &str), &Route> = before
            .iter()
            .flat_map(|table| &table.routes)
            .map(|route| {
                let spec = &route.spec;
                ((spec.project.as_str(), spec.app.as_str()), route)
            })
            .collect();
        let mut routes: Vec<Route> = snapshot
            .routes
            .into_iter()
            .map(|spec| {
                let old = old.get(&(spec.project.as_str(), spec.app.as_str()));
                let next = old.map_or(0, |route| route.next.load(Ordering::Relaxed));
                let counts = spec.targets.iter().map(|target| {
                    let kept = old.and_then(|route| route.counts.get(&target.revision));
                    (target.revision, kept.cloned().unwrap_or_default())
                });
                let counts: HashMap<u32, Arc<Counts>> = counts.collect();
                let counts_of = spec.targets.iter().flat_map(|target| {
                    let own = &counts[&target.revision];
                    let addresses = target.endpoints.iter();
                    addresses.map(|endpoint| (endpoint.address.clone(), Arc::clone(own)))
                });
                Route {
                    counts_of: counts_of.collect(),
                    counts,
                    turns: addresses(&spec.targets),
                    next: AtomicUsize::new(next),
                    spec,
                }
            })
            .collect();
        // The first match is the best one: exact hosts, then the longest suffix, then any; longest path first.
        routes.sort_by_key(|route| {
            let host = match route.spec.host.as_deref() {
                Some(host) if host.starts_with('*') => (1, usize::MAX - host.len()),
                Some(_) => (0, 0),
                None => (2, 0),
            };
            (
                host,
                usize::MAX - route.spec.path.trim_end_matches('/').len(),
            )
        });
        Table { routes }
    }

    /// The route of a request.
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let host = without_port(host);
        self.routes
            .iter()
            .find(|route| route.has_host(host) && route.has_path(path))
    }

    /// The route of a gRPC request, whose path names a method and nothing else: its authority names the App, `APP.PROJECT`
    /// or `APP.PROJECT.localhost`. Any other is the host of a route. Names come first: a host that another Project
    /// claims takes nobody's requests away.
    pub fn find_grpc(&self, authority: &str, path: &str) -> Option<&Route> {
        let host = without_port(authority);
        let name = host.to_ascii_lowercase();
        let name = name.strip_suffix(".localhost").unwrap_or(&name);
        let named = self.routes.iter().find(|Route { spec, .. }| {
            let rest = name.strip_prefix(spec.app.as_str());
            rest.and_then(|rest| rest.strip_prefix('.')) == Some(spec.project.as_str())
        });
        named.or_else(|| self.find(host, path))
    }

    /// Every canary that is judged.
    pub fn canaries(&self) -> impl Iterator<Item = Canary<'_>> {
        self.routes.iter().filter_map(Route::canary)
    }

    /// The counters of all Revisions, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        let mut text = String::from(
            "# TYPE moonshot_gateway_answer_seconds histogram\n# TYPE moonshot_gateway_errors_total counter\n",
        );
        for route in &self.routes {
            for (revision, counts) in &route.counts {
                // Names of projects and Apps need no escapes.
                let labels = format!(
                    "project=\"{}\",app=\"{}\",revision=\"{revision}\"",
                    route.spec.project, route.spec.app
                );
                counts.write(&mut text, "moonshot_gateway", &labels);
            }
        }
        text
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl Route {
    fn has_host(&self, host: &str) -> bool {
        match self.spec.host.as_deref() {
            None => true,
            Some(own) => match own.strip_prefix('*') {
                Some(suffix) => {
                    host.len() > suffix.len() && host.to_ascii_lowercase().ends_with(suffix)
                }
                None => host.eq_ignore_ascii_case(own),
            },
        }
    }

    fn has_path(&self, path: &str) -> bool {
        let prefix = self.spec.path.trim_end_matches('/');
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path that the program sees.
    pub fn inner_path(&self, path_and_query: &str) -> String {
        if !self.spec.strip_prefix {
            return path_and_query.to_owned();
        }
        let prefix = self.spec.path.trim_end_matches('/');
        let rest = path_and_query
            .strip_prefix(prefix)
            .unwrap_or(path_and_query);
        if rest.starts_with('/') {
            rest.to_owned()
        } else {
            format!("/{rest}")
        }
    }

    /// Endpoints to try, the next in turn first; each once.
    pub fn endpoints(&self) -> Vec<&str> {
        let n = self.turns.len();
        if n == 0 {
            return Vec::new();
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed) % n;
        let mut order: Vec<&str> = Vec::new();
        for at in 0..n {
            let address = self.turns[(start + at) % n].as_str();
            if !order.contains(&address) {
                order.push(address);
            }
        }
        order
    }

    /// What the server sent.
    pub fn spec(&self) -> &RouteSpec {
        &self.spec
    }

    fn canary(&self) -> Option<Canary<'_>> {
        let rule = self.spec.step_back.as_ref()?;
        let asked = self.spec.targets.iter().filter(|target| target.percent > 0);
        let mut asked: Vec<u32> = asked.map(|target| target.revision).collect();
        asked.sort_unstable();
        let [before, revision] = asked[..] else {
            return None;
        };
        Some(Canary {
            route: self,
            rule,
            before,
            revision,
            old: self.counts.get(&before)?.read(),
            new: self.counts.get(&revision)?.read(),
        })
    }

    /// Which answers speak against who made them.
    pub fn errors(&self) -> Errors {
        let rule = self.spec.step_back.as_ref();
        Errors {
            refusals: rule.is_some_and(|rule| rule.refusals),
        }
    }

    /// The counters of the Revision that an endpoint is of.
    pub fn counts_of(&self, address: &str) -> Option<&Arc<Counts>> {
        self.counts_of.get(address)
    }

    /// Whether a caller needs a token. Then it is the gateway's, and the program does not see it.
    pub fn needs_token(&self) -> bool {
        self.spec.auth != "none"
    }

    /// Whether a token may call. Hashes are compared whole, whatever matches first.
    pub fn accepts(&self, token: Option<&str>) -> bool {
        if !self.needs_token() {
            return true;
        }
        let Some(token) = token else { return false };
        let hash: String = Sha256::digest(token.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.spec.tokens.iter().fold(false, |found, own| {
            found | equal(own.as_bytes(), hash.as_bytes())
        })
    }
}

/// Which answers speak against who made them: class 5xx, and where the route says so, 4xx.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    refusals: bool,
}

impl Errors {
    /// Whether this one does.
    pub fn has(self, status: StatusCode) -> bool {
        status.is_server_error() || (self.refusals && status.is_client_error())
    }
}

fn without_port(authority: &str) -> &str {
    authority
        .rsplit_once(':')
        .map_or(authority, |(name, _)| name)
}

/// Compares in the same time wherever they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// One round over the Revisions by their shares, the endpoints of each in turn.
fn addresses(targets: &[TargetSpec]) -> Vec<String> {
    let usable: Vec<&TargetSpec> = targets
        .iter()
        .filter(|target| target.percent > 0 && !target.endpoints.is_empty())
        .collect();
    // Long enough that each endpoint has the same number of turns within its Revision.
    let widest = usable.iter().map(|target| target.endpoints.len()).max();
    let rounds = u32::try_from(widest.unwrap_or(1)).unwrap_or(1);
    let shares: Vec<u32> = usable.iter().map(|target| target.percent).collect();
    let mut used = vec![0_usize; usable.len()];
    let next = |at: usize| {
        let endpoints = &usable[at].endpoints;
        let address = endpoints[used[at] % endpoints.len()].address.clone();
        used[at] += 1;
        address
    };
    turns(&shares, rounds).into_iter().map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: Option<&str>, path: &str, targets: &[(u32, &[&str])]) -> RouteSpec {
        let endpoint = |address: &&str| EndpointSpec {
            id: (*address).to_owned(),
            address: (*address).to_owned(),
            weight: 1,
        };
        let target = |(percent, addresses): &(u32, &[&str])| TargetSpec {
            revision: 1,
            percent: *percent,
            endpoints: addresses.iter().map(endpoint).collect(),
        };
        RouteSpec {
            app: path.to_owned(),
            host: host.map(str::to_owned),
            path: path.to_owned(),
            strip_prefix: true,
            auth: "none".to_owned(),
            targets: targets.iter().map(target).collect(),
            ..RouteSpec::default()
        }
    }

    fn table(routes: Vec<RouteSpec>) -> Table {
        Table::new(Snapshot { version: 1, routes }, None)
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table = table(vec![
            route(None, "/", &[]),
            route(None, "/a", &[]),
            route(None, "/a/b", &[]),
            route(Some("*.example.org"), "/", &[]),
            route(Some("x.example.org"), "/a", &[]),
        ]);
        let found = |host: &str, path: &str| {
            table.find(host, path).map(|route| {
                (
                    route.spec.host.clone().unwrap_or_default(),
                    route.spec.path.clone(),
                )
            })
        };
        let expect = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
        assert_eq!(found("h:80", "/a/b/c"), expect("", "/a/b"));
        assert_eq!(found("h", "/ab"), expect("", "/"));
        assert_eq!(found("h", "/a"), expect("", "/a"));
        assert_eq!(
            found("x.example.org:7080", "/a/1"),
            expect("x.example.org", "/a")
        );
        assert_eq!(found("x.example.org", "/b"), expect("*.example.org", "/"));
        assert_eq!(found("example.org", "/b"), expect("", "/"));
    }

    #[test]
    fn an_authority_names_an_app_or_is_a_host() {
        let named = |app: &str, host: Option<&str>, path: &str| RouteSpec {
            app: app.to_owned(),
            project: "default".to_owned(),
            ..route(host, path, &[])
        };
        let table = table(vec![
            named("late", None, "/default/late"),
            named("other", Some("late.default"), "/"),
            named("third", Some("grpc.example.org"), "/"),
        ]);
        let found = |authority: &str| {
            let route = table.find_grpc(authority, "/inference.GRPCInferenceService/ModelInfer")?;
            Some(route.spec.app.as_str())
        };
        assert_eq!(
            found("late.default"),
            Some("late"),
            "before the other's host"
        );
        assert_eq!(found("LATE.default.localhost:7080"), Some("late"));
        assert_eq!(found("grpc.example.org:80"), Some("third"));
        assert_eq!(found("nobody.default"), None);
        assert_eq!(found("127.0.0.1:7080"), None);
        let route = table.find_grpc("late.default", "/a.B/C").unwrap();
        assert_eq!(route.inner_path("/a.B/C"), "/a.B/C");
    }

    #[test]
    fn shares_are_kept_exactly_and_evenly() {
        let table = table(vec![route(None, "/", &[(90, &["a", "b"]), (10, &["c"])])]);
        let route = table.find("h", "/").unwrap();
        let mut counts = HashMap::new();
        for _ in 0..1_000 {
            *counts.entry(route.endpoints()[0].to_owned()).or_insert(0) += 1;
        }
        assert_eq!(counts["c"], 100);
        assert_eq!((counts["a"], counts["b"]), (450, 450));
        let all = route.endpoints();
        assert_eq!(all.len(), 3, "the others are there to be tried");
    }

    #[test]
    fn counters_outlive_a_new_table_and_go_with_their_revision() {
        let mut spec = route(None, "/", &[(90, &["a"]), (10, &["c"])]);
        spec.targets[1].revision = 2;
        let first = table(vec![spec.clone()]);
        let counts = first.find("h", "/").unwrap().counts_of("c").unwrap();
        counts.record(true, std::time::Duration::from_millis(1));
        let snapshot = |spec: &RouteSpec| Snapshot {
            version: 1,
            routes: vec![spec.clone()],
        };
        let second = Table::new(snapshot(&spec), Some(&first));
        let errors = |revision, n| {
            format!(
                "moonshot_gateway_errors_total{{project=\"\",app=\"/\",revision=\"{revision}\"}} {n}\n"
            )
        };
        assert!(
            second.metrics().contains(&errors(2, 1)),
            "{}",
            second.metrics()
        );
        assert!(second.metrics().contains(&errors(1, 0)));
        spec.targets.pop();
        let third = Table::new(snapshot(&spec), Some(&second));
        assert!(!third.metrics().contains("revision=\"2\""));
    }

    #[test]
    fn the_newer_of_two_revisions_that_share_is_judged() {
        let mut spec = route(None, "/", &[(80, &["a"]), (20, &["c"])]);
        spec.targets[0].revision = 4;
        spec.targets[1].revision = 3;
        let canaries = |spec: &RouteSpec| {
            let table = table(vec![spec.clone()]);
            let found = table
                .canaries()
                .map(|canary| (canary.before, canary.revision));
            found.collect::<Vec<_>>()
        };
        assert_eq!(canaries(&spec), Vec::new(), "nobody asked for it");
        spec.step_back = Some(StepBackSpec::default());
        assert_eq!(canaries(&spec), [(3, 4)]);
        spec.targets[0].percent = 0;
        assert_eq!(canaries(&spec), Vec::new(), "it gets nothing any more");
    }

    #[test]
    fn prefixes_are_taken_off_by_segment() {
        let table = table(vec![route(None, "/p/app", &[])]);
        let route = table.find("h", "/p/app/x").unwrap();
        assert_eq!(route.inner_path("/p/app/x?q=1"), "/x?q=1");
        assert_eq!(route.inner_path("/p/app"), "/");
        assert_eq!(route.inner_path("/p/app?q=1"), "/?q=1");
        assert!(table.find("h", "/p/application").is_none());
    }

    #[test]
    fn only_known_tokens_may_call() {
        let hash = Sha256::digest(b"secret")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let spec = RouteSpec {
            auth: "token".to_owned(),
            tokens: vec![hash],
            ..route(None, "/", &[])
        };
        let table = table(vec![spec]);
        let route = table.find("h", "/").unwrap();
        assert!(route.accepts(Some("secret")));
        assert!(!route.accepts(Some("wrong")) && !route.accepts(None));
    }

    #[test]
    fn without_ready_endpoints_there_is_nobody_to_ask() {
        let table = table(vec![route(None, "/", &[(100, &[]), (0, &["a"])])]);
        assert!(table.find("h", "/").unwrap().endpoints().is_empty());
    }
}
