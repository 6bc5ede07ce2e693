//! Verbs on Jobs, Apps, Nodes and Models.

use crate::error::ClientError;
use crate::http::Client;
use crate::objects::about;
use api::answer::{Items, JobAttempt, PushRequest, RollbackRequest, ScaleRequest, Why};
use api::app::Revision;
use api::kind::{App, Job, Kind, ModelVersion, Node};
use api::routes::Method;

impl Client {
    /// Stops a Job for good.
    pub async fn cancel(&self, project: &str, job: &str) -> Result<Job, ClientError> {
        self.act(Kind::Job, project, job, "cancel").await
    }

    /// Stops a Job until it is resumed.
    pub async fn suspend(&self, project: &str, job: &str) -> Result<Job, ClientError> {
        self.act(Kind::Job, project, job, "suspend").await
    }

    /// Lets a suspended Job go on.
    pub async fn resume(&self, project: &str, job: &str) -> Result<Job, ClientError> {
        self.act(Kind::Job, project, job, "resume").await
    }

    /// Makes a new Job from a finished one's spec.
    pub async fn rerun(&self, project: &str, job: &str) -> Result<Job, ClientError> {
        self.act(Kind::Job, project, job, "rerun").await
    }

    /// Replaces every replica of an App, as a rollout.
    pub async fn restart(&self, project: &str, app: &str) -> Result<App, ClientError> {
        self.act(Kind::App, project, app, "restart").await
    }

    /// Nothing new starts on a node.
    pub async fn cordon(&self, node: &str) -> Result<Node, ClientError> {
        self.act(Kind::Node, "", node, "cordon").await
    }

    /// Work may start on a node again.
    pub async fn uncordon(&self, node: &str) -> Result<Node, ClientError> {
        self.act(Kind::Node, "", node, "uncordon").await
    }

    /// Cordons a node and moves its work away.
    pub async fn drain(&self, node: &str) -> Result<Node, ClientError> {
        self.act(Kind::Node, "", node, "drain").await
    }

    async fn act<T: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        project: &str,
        name: &str,
        verb: &str,
    ) -> Result<T, ClientError> {
        self.value(self.request(Method::Post, &about(kind, project, name, verb)))
            .await
    }

    /// Goes back to a Revision; `None` is the stable one before the present one.
    pub async fn rollback(
        &self,
        project: &str,
        app: &str,
        revision: Option<u32>,
    ) -> Result<App, ClientError> {
        let request = self.request(Method::Post, &about(Kind::App, project, app, "rollback"));
        let asked = RollbackRequest {
            revision,
            reason: None,
        };
        self.exchange(request, &asked).await
    }

    /// Wants another number of replicas.
    pub async fn scale(&self, project: &str, app: &str, replicas: u32) -> Result<App, ClientError> {
        let request = self.request(Method::Put, &about(Kind::App, project, app, "scale"));
        self.exchange(request, &ScaleRequest { replicas }).await
    }

    /// An App's Revisions, newest first.
    pub async fn revisions(&self, project: &str, app: &str) -> Result<Vec<Revision>, ClientError> {
        self.items(&about(Kind::App, project, app, "revisions"))
            .await
    }

    /// Every try of a Job's restart units.
    pub async fn attempts(&self, project: &str, job: &str) -> Result<Vec<JobAttempt>, ClientError> {
        self.items(&about(Kind::Job, project, job, "attempts"))
            .await
    }

    /// Why a Job, an App or an Environment waits.
    pub async fn why(&self, kind: Kind, project: &str, name: &str) -> Result<Why, ClientError> {
        self.value(self.request(Method::Get, &about(kind, project, name, "why")))
            .await
    }

    /// A Model's versions, newest first.
    pub async fn model_versions(
        &self,
        project: &str,
        model: &str,
    ) -> Result<Vec<ModelVersion>, ClientError> {
        self.items(&about(Kind::Model, project, model, "versions"))
            .await
    }

    /// Adds a version to a Model.
    pub async fn push_model(
        &self,
        project: &str,
        model: &str,
        push: &PushRequest,
    ) -> Result<ModelVersion, ClientError> {
        let request = self.request(
            Method::Post,
            &about(Kind::Model, project, model, "versions"),
        );
        self.exchange(request, push).await
    }

    pub(crate) async fn items<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Vec<T>, ClientError> {
        let items: Items<T> = self.value(self.request(Method::Get, path)).await?;
        Ok(items.items)
    }
}
