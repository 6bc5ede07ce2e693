//! Objects of every kind: read, list, apply, patch, delete.

use crate::error::ClientError;
use crate::http::Client;
use api::answer::{ApplyAnswer, Items};
use api::kind::{Event, Kind, Object, Scope};
use api::manifest::Format;
use api::routes::Method;
use base::Generation;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One page of objects.
pub type Page<T> = api::List<T>;

/// Which objects to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only this project; `None` lists all of them.
    pub project: Option<String>,
    /// Kubernetes' label selector.
    pub labels: Option<String>,
    /// Only this phase.
    pub phase: Option<String>,
    /// Objects a page; the server's default when `None`.
    pub limit: Option<u32>,
}

/// How a manifest is applied.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// Check and plan, change nothing.
    pub dry_run: bool,
    /// Finished objects give way to new ones.
    pub replace: bool,
    /// For documents that name no project.
    pub project: Option<String>,
}

/// The path of an object or, without a name, of its kind.
pub(crate) fn path<'a>(kind: Kind, project: &'a str, name: Option<&'a str>) -> Vec<&'a str> {
    let mut path = vec!["v1"];
    if kind.scope() == Scope::Project {
        path.extend(["projects", project]);
    }
    path.push(kind.plural());
    path.extend(name);
    path
}

/// The path of something about an object.
pub(crate) fn about<'a>(
    kind: Kind,
    project: &'a str,
    name: &'a str,
    what: &'a str,
) -> Vec<&'a str> {
    let mut path = path(kind, project, Some(name));
    path.push(what);
    path
}

impl Client {
    /// Reads an object, as its own type or as [`Object`]. `project` is ignored for kinds of a wider scope.
    pub async fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
    ) -> Result<T, ClientError> {
        self.value(self.request(Method::Get, &path(kind, project, Some(name))))
            .await
    }

    /// Reads one page; `from` is where the page before ended.
    pub async fn list_page<T: DeserializeOwned>(
        &self,
        kind: Kind,
        query: &ListQuery,
        from: Option<&str>,
    ) -> Result<Page<T>, ClientError> {
        let path = match (&query.project, kind.scope()) {
            (Some(project), Scope::Project) => path(kind, project, None),
            (_, Scope::Global | Scope::Tenant) | (None, Scope::Project) => {
                vec!["v1", kind.plural()]
            }
        };
        let mut request = self.request(Method::Get, &path);
        let words = [
            ("labelSelector", query.labels.as_deref()),
            ("phase", query.phase.as_deref()),
            ("continue", from),
        ];
        for (name, value) in words {
            if let Some(value) = value {
                request = request.query(&[(name, value)]);
            }
        }
        if let Some(limit) = query.limit {
            request = request.query(&[("limit", limit)]);
        }
        self.value(request).await
    }

    /// Reads all pages, but at most `max` objects; whether there are more is said in the page.
    pub async fn list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        query: &ListQuery,
        max: usize,
    ) -> Result<Page<T>, ClientError> {
        let mut all: Page<T> = self.list_page(kind, query, None).await?;
        while all.has_more && all.items.len() < max {
            let Some(from) = all.continue_.take() else {
                break;
            };
            let next: Page<T> = self.list_page(kind, query, Some(&from)).await?;
            all.items.extend(next.items);
            all.has_more = next.has_more;
            all.continue_ = next.continue_;
        }
        if all.items.len() > max {
            all.items.truncate(max);
            all.has_more = true;
        }
        Ok(all)
    }

    /// Makes an object; its metadata may have `generateName`.
    pub async fn create(
        &self,
        object: &Object,
        kind: Kind,
        dry_run: bool,
    ) -> Result<Object, ClientError> {
        let path = path(kind, &object.metadata.project, None);
        let request = self
            .request(Method::Post, &path)
            .query(&[("dryRun", dry_run)]);
        self.exchange(request, object).await
    }

    /// Makes an object be so. `generation` refuses the change when somebody was faster.
    pub async fn apply(
        &self,
        object: &Object,
        kind: Kind,
        generation: Option<Generation>,
    ) -> Result<Object, ClientError> {
        let path = path(kind, &object.metadata.project, Some(&object.metadata.name));
        let mut request = self.request(Method::Put, &path);
        if let Some(generation) = generation {
            request = request.header("If-Match", generation.to_string());
        }
        self.exchange(request, object).await
    }

    /// Applies a manifest of one or many documents.
    pub async fn apply_manifest(
        &self,
        manifest: Vec<u8>,
        format: Format,
        options: &ApplyOptions,
    ) -> Result<ApplyAnswer, ClientError> {
        let media = match format {
            Format::Yaml => "application/yaml",
            Format::Json => "application/json",
        };
        let mut request = self
            .request(Method::Post, &["v1", "apply"])
            .query(&[("dryRun", options.dry_run), ("replace", options.replace)])
            .header("Content-Type", media)
            .body(manifest);
        if let Some(project) = &options.project {
            request = request.query(&[("project", project)]);
        }
        self.value(request).await
    }

    /// Merges a patch (RFC 7386) into an object.
    pub async fn patch(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Object, ClientError> {
        let body = serde_json::to_vec(patch).expect("a JSON value always serialises");
        let request = self
            .request(Method::Patch, &path(kind, project, Some(name)))
            .header("Content-Type", "application/merge-patch+json")
            .body(body);
        self.value(request).await
    }

    /// Deletes an object; what runs is stopped with grace first.
    pub async fn delete(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
        dry_run: bool,
    ) -> Result<(), ClientError> {
        let request = self
            .request(Method::Delete, &path(kind, project, Some(name)))
            .query(&[("dryRun", dry_run)]);
        self.done(request).await
    }

    /// What happened to an object, newest last.
    pub async fn events(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
    ) -> Result<Vec<Event>, ClientError> {
        let items: Items<Event> = self
            .value(self.request(Method::Get, &about(kind, project, name, "events")))
            .await?;
        Ok(items.items)
    }
}
