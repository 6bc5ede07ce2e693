//! Every route of the API as data: the server serves exactly these, the client calls them, the
//! OpenAPI document lists them. Where a path has `{plural}` the route exists once for each kind.

use crate::kind::{Kind, Scope};

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads without the body.
    Head,
    /// Acts.
    Post,
    /// Applies.
    Put,
    /// Merges.
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `strings` (may be repeated).
    pub ty: &'static str,
    /// What it does.
    pub about: &'static str,
}

const fn param(name: &'static str, ty: &'static str, about: &'static str) -> Param {
    Param { name, ty, about }
}

/// Which kinds a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The platform as a whole.
    Platform,
    /// Every kind of this scope; `{plural}` stands for each.
    Each(Scope),
    /// Every kind.
    All,
    /// One kind.
    One(Kind),
}

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// An object of the route's kind, as JSON or YAML.
    Object,
    /// A merge-patch (RFC 7386).
    MergePatch,
    /// One or many documents of any kind, as YAML or JSON.
    Manifest,
    /// Bytes, streamed.
    Bytes,
    /// A schema by name; the body may be left out when it has no required field.
    Of(&'static str),
}

/// What a good answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing (204).
    Nothing,
    /// An object of the route's kind.
    Object,
    /// A page of objects, or with `?watch=true` a stream of [`crate::answer::Change`].
    Page,
    /// One schema by name.
    Of(&'static str),
    /// `{items: [...]}` of a schema.
    Items(&'static str),
    /// Server-sent events of a schema.
    Events(&'static str),
    /// Output of programs: text, or events of [`crate::answer::LogFrame`].
    Log,
    /// Bytes of this media type.
    Bytes(&'static str),
    /// A WebSocket: binary messages both ways.
    WebSocket,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique; the OpenAPI operation id (with the kind where it is one of each).
    pub id: &'static str,
    /// The method.
    pub method: Method,
    /// The path with `{parameters}`.
    pub path: &'static str,
    /// Which kinds.
    pub about: About,
    /// Query parameters.
    pub query: &'static [Param],
    /// The request's body.
    pub body: Body,
    /// The good answer.
    pub answer: Answer,
    /// A sentence.
    pub summary: &'static str,
}

const LIST: &[Param] = &[
    param(
        "limit",
        "integer",
        "At most this many objects; 1 to 1000, default 100.",
    ),
    param("continue", "string", "Where the page before ended."),
    param(
        "labelSelector",
        "string",
        "Kubernetes' selectors: `a=b,c!=d,e in (f, g),!h`.",
    ),
    param(
        "phase",
        "string",
        "Only objects whose `status.phase` is this.",
    ),
    param(
        "watch",
        "boolean",
        "Answer with server-sent events of changes instead of a page.",
    ),
    param(
        "resourceVersion",
        "integer",
        "Where to watch from; an answered list says it.",
    ),
];
const DRY_RUN: Param = param("dryRun", "boolean", "Check and plan, change nothing.");
const REPLACE: Param = param(
    "replace",
    "boolean",
    "A finished object with another spec gives way to a new one.",
);
const GROUP: Param = param(
    "group",
    "string",
    "The group of a Job, or the Revision (`r3`) of an App.",
);
const INDEX: Param = param("index", "integer", "The rank or seat.");
const LOGS: &[Param] = &[
    GROUP,
    INDEX,
    param(
        "attempt",
        "integer",
        "Which try. Default: the newest of each replica.",
    ),
    param("previous", "boolean", "The try before the newest."),
    param("follow", "boolean", "Stay until the object is over."),
    param("tail", "integer", "Only the last lines, at most 100000."),
    param(
        "since",
        "string",
        "Only what was written after this time, or within this duration.",
    ),
    param(
        "timestamps",
        "boolean",
        "Begin each line with its time. Only for text.",
    ),
    param(
        "prefix",
        "boolean",
        "Begin each line with its replica: `worker/1 |`. Only for text.",
    ),
    param(
        "format",
        "string",
        "`text` (default) or `json`: one LogFrame a line.",
    ),
];
const EXEC: &[Param] = &[
    GROUP,
    INDEX,
    param("command", "strings", "The program and its arguments."),
    param("tty", "boolean", "With a terminal."),
];

macro_rules! route {
    ($id:literal, $method:ident, $path:literal, $about:expr, $query:expr, $body:expr, $answer:expr, $summary:literal) => {
        Route {
            id: $id,
            method: Method::$method,
            path: $path,
            about: $about,
            query: $query,
            body: $body,
            answer: $answer,
            summary: $summary,
        }
    };
}

use About::{All, Each, One, Platform};
use Scope::{Global, Project};

/// Every route.
pub const ROUTES: &[Route] = &[
    // ---- objects of every kind ----
    route!(
        "list",
        Get,
        "/v1/{plural}",
        All,
        LIST,
        Body::None,
        Answer::Page,
        "Lists objects, of all projects for kinds that live in one."
    ),
    route!(
        "create",
        Post,
        "/v1/{plural}",
        All,
        &[DRY_RUN],
        Body::Object,
        Answer::Object,
        "Makes an object; `metadata.project` names the project. Takes `Idempotency-Key`."
    ),
    route!(
        "get",
        Get,
        "/v1/{plural}/{name}",
        Each(Global),
        &[],
        Body::None,
        Answer::Object,
        "Reads an object."
    ),
    route!(
        "apply",
        Put,
        "/v1/{plural}/{name}",
        Each(Global),
        &[DRY_RUN, REPLACE],
        Body::Object,
        Answer::Object,
        "Makes the object be so. The same spec changes nothing. Takes `If-Match`."
    ),
    route!(
        "patch",
        Patch,
        "/v1/{plural}/{name}",
        Each(Global),
        &[DRY_RUN],
        Body::MergePatch,
        Answer::Object,
        "Merges a patch into the object. Takes `If-Match`."
    ),
    route!(
        "delete",
        Delete,
        "/v1/{plural}/{name}",
        Each(Global),
        &[DRY_RUN],
        Body::None,
        Answer::Object,
        "Deletes an object; what runs is stopped with grace first."
    ),
    route!(
        "listIn",
        Get,
        "/v1/projects/{project}/{plural}",
        Each(Project),
        LIST,
        Body::None,
        Answer::Page,
        "Lists objects of a project."
    ),
    route!(
        "createIn",
        Post,
        "/v1/projects/{project}/{plural}",
        Each(Project),
        &[DRY_RUN],
        Body::Object,
        Answer::Object,
        "Makes an object. Takes `Idempotency-Key`."
    ),
    route!(
        "getIn",
        Get,
        "/v1/projects/{project}/{plural}/{name}",
        Each(Project),
        &[],
        Body::None,
        Answer::Object,
        "Reads an object."
    ),
    route!(
        "applyIn",
        Put,
        "/v1/projects/{project}/{plural}/{name}",
        Each(Project),
        &[DRY_RUN, REPLACE],
        Body::Object,
        Answer::Object,
        "Makes the object be so. The same spec changes nothing. Takes `If-Match`."
    ),
    route!(
        "patchIn",
        Patch,
        "/v1/projects/{project}/{plural}/{name}",
        Each(Project),
        &[DRY_RUN],
        Body::MergePatch,
        Answer::Object,
        "Merges a patch into the object. Takes `If-Match`."
    ),
    route!(
        "deleteIn",
        Delete,
        "/v1/projects/{project}/{plural}/{name}",
        Each(Project),
        &[DRY_RUN],
        Body::None,
        Answer::Object,
        "Deletes an object; what runs is stopped with grace first."
    ),
    route!(
        "applyManifest",
        Post,
        "/v1/apply",
        Platform,
        &[
            DRY_RUN,
            REPLACE,
            param(
                "project",
                "string",
                "For documents that name no project. Default `default`."
            )
        ],
        Body::Manifest,
        Answer::Of("ApplyAnswer"),
        "Applies one or many documents. Takes `Idempotency-Key`."
    ),
    route!(
        "events",
        Get,
        "/v1/projects/{project}/{plural}/{name}/events",
        Each(Project),
        &[],
        Body::None,
        Answer::Items("Event"),
        "What happened to an object, newest last."
    ),
    route!(
        "watch",
        Get,
        "/v1/watch",
        Platform,
        &[
            param(
                "kinds",
                "string",
                "Kinds, separated by commas. Default: all."
            ),
            param("project", "string", "Only this project."),
            param(
                "resourceVersion",
                "integer",
                "Where to begin; `Last-Event-ID` wins."
            )
        ],
        Body::None,
        Answer::Events("Change"),
        "All changes as server-sent events; an event's id is its feed position."
    ),
    // ---- Jobs ----
    route!(
        "jobLogs",
        Get,
        "/v1/projects/{project}/jobs/{name}/logs",
        One(Kind::Job),
        LOGS,
        Body::None,
        Answer::Log,
        "Output of a Job's replicas."
    ),
    route!(
        "jobWhy",
        Get,
        "/v1/projects/{project}/jobs/{name}/why",
        One(Kind::Job),
        &[],
        Body::None,
        Answer::Of("Why"),
        "Why a Job waits."
    ),
    route!(
        "jobAttempts",
        Get,
        "/v1/projects/{project}/jobs/{name}/attempts",
        One(Kind::Job),
        &[INDEX],
        Body::None,
        Answer::Items("JobAttempt"),
        "Every try of a Job's restart units."
    ),
    route!(
        "jobOutput",
        Get,
        "/v1/projects/{project}/jobs/{name}/outputs/{output}",
        One(Kind::Job),
        &[],
        Body::None,
        Answer::Bytes("application/zstd"),
        "A kept output as tar, compressed with zstd."
    ),
    route!(
        "jobCancel",
        Post,
        "/v1/projects/{project}/jobs/{name}/cancel",
        One(Kind::Job),
        &[],
        Body::None,
        Answer::Object,
        "Stops a Job for good. Takes `Idempotency-Key`."
    ),
    route!(
        "jobSuspend",
        Post,
        "/v1/projects/{project}/jobs/{name}/suspend",
        One(Kind::Job),
        &[],
        Body::None,
        Answer::Object,
        "Stops a Job until it is resumed. Takes `Idempotency-Key`."
    ),
    route!(
        "jobResume",
        Post,
        "/v1/projects/{project}/jobs/{name}/resume",
        One(Kind::Job),
        &[],
        Body::None,
        Answer::Object,
        "Lets a suspended Job go on. Takes `Idempotency-Key`."
    ),
    route!(
        "jobRerun",
        Post,
        "/v1/projects/{project}/jobs/{name}/rerun",
        One(Kind::Job),
        &[],
        Body::None,
        Answer::Object,
        "Makes a new Job from a finished one's spec. Takes `Idempotency-Key`."
    ),
    route!(
        "jobExec",
        Get,
        "/v1/projects/{project}/jobs/{name}/exec",
        One(Kind::Job),
        EXEC,
        Body::None,
        Answer::WebSocket,
        "Runs a program beside a replica's: see the exec protocol."
    ),
    route!(
        "jobPortForward",
        Get,
        "/v1/projects/{project}/jobs/{name}/portforward",
        One(Kind::Job),
        &[
            GROUP,
            INDEX,
            param("port", "string", "The port's name or number.")
        ],
        Body::None,
        Answer::WebSocket,
        "One connection to a replica's port."
    ),
    // ---- Apps ----
    route!(
        "appLogs",
        Get,
        "/v1/projects/{project}/apps/{name}/logs",
        One(Kind::App),
        LOGS,
        Body::None,
        Answer::Log,
        "Output of an App's replicas."
    ),
    route!(
        "appWhy",
        Get,
        "/v1/projects/{project}/apps/{name}/why",
        One(Kind::App),
        &[],
        Body::None,
        Answer::Of("Why"),
        "Why an App's replicas wait or are not ready."
    ),
    route!(
        "appRevisions",
        Get,
        "/v1/projects/{project}/apps/{name}/revisions",
        One(Kind::App),
        &[],
        Body::None,
        Answer::Items("Revision"),
        "An App's Revisions, newest first."
    ),
    route!(
        "appRollback",
        Post,
        "/v1/projects/{project}/apps/{name}/rollback",
        One(Kind::App),
        &[],
        Body::Of("RollbackRequest"),
        Answer::Object,
        "Goes back to a Revision. Takes `Idempotency-Key`."
    ),
    route!(
        "appRestart",
        Post,
        "/v1/projects/{project}/apps/{name}/restart",
        One(Kind::App),
        &[],
        Body::None,
        Answer::Object,
        "Replaces every replica, as a rollout. Takes `Idempotency-Key`."
    ),
    route!(
        "appScale",
        Put,
        "/v1/projects/{project}/apps/{name}/scale",
        One(Kind::App),
        &[],
        Body::Of("ScaleRequest"),
        Answer::Object,
        "Wants another number of replicas."
    ),
    route!(
        "appExec",
        Get,
        "/v1/projects/{project}/apps/{name}/exec",
        One(Kind::App),
        EXEC,
        Body::None,
        Answer::WebSocket,
        "Runs a program beside a replica's: see the exec protocol."
    ),
    route!(
        "appPortForward",
        Get,
        "/v1/projects/{project}/apps/{name}/portforward",
        One(Kind::App),
        &[
            GROUP,
            INDEX,
            param("port", "string", "The port's name or number.")
        ],
        Body::None,
        Answer::WebSocket,
        "One connection to a replica's port."
    ),
    // ---- pods of others ----
    route!(
        "podGroupWhy",
        Get,
        "/v1/projects/{project}/podgroups/{name}/why",
        One(Kind::PodGroup),
        &[],
        Body::None,
        Answer::Of("Why"),
        "Why pods of others wait."
    ),
    // ---- environments, models, blobs ----
    route!(
        "environmentWhy",
        Get,
        "/v1/projects/{project}/environments/{name}/why",
        One(Kind::Environment),
        &[],
        Body::None,
        Answer::Of("Why"),
        "Why an Environment is not ready."
    ),
    route!(
        "modelVersions",
        Get,
        "/v1/projects/{project}/models/{name}/versions",
        One(Kind::Model),
        &[],
        Body::None,
        Answer::Items("ModelVersion"),
        "A Model's versions, newest first."
    ),
    route!(
        "modelPush",
        Post,
        "/v1/projects/{project}/models/{name}/versions",
        One(Kind::Model),
        &[],
        Body::Of("PushRequest"),
        Answer::Of("ModelVersion"),
        "Adds a version; the Model is made when it is new. Takes `Idempotency-Key`."
    ),
    route!(
        "blobPut",
        Put,
        "/v1/projects/{project}/blobs",
        Platform,
        &[param("digest", "string", "Refuse other content than this.")],
        Body::Bytes,
        Answer::Of("Blob"),
        "Keeps content by its digest. What nothing refers to is dropped after a while (`content_grace`)."
    ),
    route!(
        "blobHead",
        Head,
        "/v1/projects/{project}/blobs/{digest}",
        Platform,
        &[],
        Body::None,
        Answer::Nothing,
        "Whether content is kept; `Content-Length` says how large."
    ),
    route!(
        "blobGet",
        Get,
        "/v1/projects/{project}/blobs/{digest}",
        Platform,
        &[],
        Body::None,
        Answer::Bytes("application/octet-stream"),
        "Kept content."
    ),
    // ---- nodes ----
    route!(
        "nodeCordon",
        Post,
        "/v1/nodes/{name}/cordon",
        One(Kind::Node),
        &[],
        Body::None,
        Answer::Object,
        "Nothing new starts on the node. Takes `Idempotency-Key`."
    ),
    route!(
        "nodeUncordon",
        Post,
        "/v1/nodes/{name}/uncordon",
        One(Kind::Node),
        &[],
        Body::None,
        Answer::Object,
        "Work may start on the node again. Takes `Idempotency-Key`."
    ),
    route!(
        "nodeDrain",
        Post,
        "/v1/nodes/{name}/drain",
        One(Kind::Node),
        &[],
        Body::None,
        Answer::Object,
        "Cordons the node and moves its work away with grace. Takes `Idempotency-Key`."
    ),
    // ---- the platform ----
    route!(
        "status",
        Get,
        "/v1/status",
        Platform,
        &[],
        Body::None,
        Answer::Of("Overview"),
        "The state of the platform on one page."
    ),
    route!(
        "whoami",
        Get,
        "/v1/whoami",
        Platform,
        &[],
        Body::None,
        Answer::Of("WhoAmI"),
        "Who the caller is."
    ),
    route!(
        "login",
        Post,
        "/v1/login",
        Platform,
        &[],
        Body::Of("LoginRequest"),
        Answer::Nothing,
        "Opens a session of the console: a cookie for a token."
    ),
    route!(
        "logout",
        Post,
        "/v1/logout",
        Platform,
        &[],
        Body::None,
        Answer::Nothing,
        "Ends the session."
    ),
    route!(
        "tokens",
        Get,
        "/v1/tokens",
        Platform,
        &[],
        Body::None,
        Answer::Items("Token"),
        "Tokens, without their text."
    ),
    route!(
        "tokenCreate",
        Post,
        "/v1/tokens",
        Platform,
        &[],
        Body::Of("TokenRequest"),
        Answer::Of("Token"),
        "Makes a token; its text is shown this once."
    ),
    route!(
        "tokenDelete",
        Delete,
        "/v1/tokens/{id}",
        Platform,
        &[],
        Body::None,
        Answer::Nothing,
        "Revokes a token."
    ),
    route!(
        "audit",
        Get,
        "/v1/audit",
        Platform,
        &[
            param(
                "limit",
                "integer",
                "At most this many, newest first; 1 to 1000, default 100."
            ),
            param("kind", "string", "Only objects of this kind."),
            param("project", "string", "Only this project."),
            param("name", "string", "Only objects of this name.")
        ],
        Body::None,
        Answer::Items("AuditRecord"),
        "Who did what."
    ),
    route!(
        "top",
        Get,
        "/v1/top",
        Platform,
        &[param("project", "string", "Only this project's replicas.")],
        Body::None,
        Answer::Of("Top"),
        "Who uses what right now."
    ),
    route!(
        "ingest",
        Post,
        "/v1/ingest",
        Platform,
        &[],
        Body::Of("IngestRequest"),
        Answer::Of("IngestAnswer"),
        "Output of a replica, under its attempt's token. No frames at all only asks what is kept."
    ),
    route!(
        "gatewayFeed",
        Get,
        "/v1/gateway/feed",
        Platform,
        &[],
        Body::None,
        Answer::Bytes("text/event-stream"),
        "What the gateway routes to: the whole table at first, and again when it has changed."
    ),
    route!(
        "rsh",
        Get,
        "/v1/rsh",
        Platform,
        &[
            GROUP,
            INDEX,
            param("command", "strings", "The program and its arguments.")
        ],
        Body::None,
        Answer::WebSocket,
        "Runs a program beside another replica of the same attempt, under the attempt's token: see the exec protocol."
    ),
    route!(
        "openapi",
        Get,
        "/v1/openapi.json",
        Platform,
        &[],
        Body::None,
        Answer::Bytes("application/json"),
        "This document."
    ),
    route!(
        "healthz",
        Get,
        "/healthz",
        Platform,
        &[],
        Body::None,
        Answer::Bytes("text/plain"),
        "Whether the process lives. Needs no token."
    ),
    route!(
        "readyz",
        Get,
        "/readyz",
        Platform,
        &[],
        Body::None,
        Answer::Bytes("text/plain"),
        "Whether it can serve. Needs no token."
    ),
    route!(
        "metrics",
        Get,
        "/metrics",
        Platform,
        &[],
        Body::None,
        Answer::Bytes("text/plain"),
        "Figures in Prometheus' text format."
    ),
];

impl Route {
    /// The paths of this route with the kind each is about: one, or one for each kind.
    pub fn paths(&self) -> Vec<(String, Option<Kind>)> {
        let of = |kind: Kind| (self.path.replace("{plural}", kind.plural()), Some(kind));
        match self.about {
            About::Platform => vec![(self.path.to_owned(), None)],
            About::One(kind) => vec![(self.path.to_owned(), Some(kind))],
            About::All => Kind::ALL.iter().copied().map(of).collect(),
            About::Each(scope) => Kind::ALL
                .iter()
                .copied()
                .filter(|kind| (kind.scope() == Scope::Project) == (scope == Scope::Project))
                .map(of)
                .collect(),
        }
    }
}

/// The route that serves a path, such as `/v1/projects/default/jobs/flights/why`.
pub fn find(method: Method, path: &str) -> Option<&'static Route> {
    let asked: Vec<&str> = path.split('/').collect();
    let score = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        let fits = parts.len() == asked.len()
            && parts
                .iter()
                .zip(&asked)
                .all(|(part, word)| part.starts_with('{') && !word.is_empty() || part == word);
        fits.then(|| parts.iter().filter(|part| !part.starts_with('{')).count())
    };
    ROUTES
        .iter()
        .filter(|route| route.method == method)
        .flat_map(|route| {
            route
                .paths()
                .into_iter()
                .map(move |(path, _)| (route, path))
        })
        .filter_map(|(route, path)| score(&path).map(|literals| (literals, route)))
        .max_by_key(|(literals, _)| *literals)
        .map(|(_, route)| route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_id_and_every_method_with_path_is_there_once() {
        let mut ids = BTreeSet::new();
        let mut paths = BTreeSet::new();
        for route in ROUTES {
            assert!(ids.insert(route.id), "{} twice", route.id);
            for (path, kind) in route.paths() {
                assert!(paths.insert((route.method, path.clone())), "{path} twice");
                assert!(!path.contains("{plural}"), "{path}");
                let in_project = path.starts_with("/v1/projects/{project}/");
                if let Some(kind) = kind.filter(|_| path.contains("{name}")) {
                    assert_eq!(in_project, kind.scope() == Scope::Project, "{path}");
                }
            }
        }
    }

    #[test]
    fn paths_find_their_route() {
        let check =
            |method, path, id| assert_eq!(find(method, path).map(|route| route.id), id, "{path}");
        check(Method::Get, "/v1/jobs", Some("list"));
        check(Method::Get, "/v1/projects", Some("list"));
        check(Method::Get, "/v1/projects/default", Some("get"));
        check(Method::Put, "/v1/projects/default/jobs/a", Some("applyIn"));
        check(
            Method::Get,
            "/v1/projects/default/jobs/a/why",
            Some("jobWhy"),
        );
        check(Method::Get, "/v1/projects/default/secrets/a/why", None);
        check(Method::Post, "/v1/nodes/n1/drain", Some("nodeDrain"));
        check(Method::Get, "/v1/jobs/a", None);
        check(Method::Get, "/v1/projects//jobs", None);
    }
}
