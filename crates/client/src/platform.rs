//! The platform itself: status, tokens, audit, use.

use crate::error::ClientError;
use crate::http::Client;
use api::answer::{AuditRecord, Overview, Token, TokenRequest, Top, WhoAmI};
use api::routes::Method;

/// What an App answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Sends a request to an App through the gateway, under this client's token: a POST where there is a
    /// body. `url` is the App's, as its status says.
    pub async fn call_app(
        &self,
        url: &str,
        path: &str,
        body: Option<Vec<u8>>,
        media: &str,
    ) -> Result<AppAnswer, ClientError> {
        let url = format!(
            "{}/{}",
            url.trim_end_matches('/'),
            path.trim_start_matches('/')
        );
        let response = self
            .outside(&url, body, media)?
            .send()
            .await
            .map_err(|source| self.failed(source))?;
        let status = response.status().as_u16();
        let body = self.bytes(response, crate::http::ANSWER_BYTES_MAX).await?;
        Ok(AppAnswer { status, body })
    }

    /// The state of the platform on one page.
    pub async fn status(&self) -> Result<Overview, ClientError> {
        self.value(self.request(Method::Get, &["v1", "status"]))
            .await
    }

    /// Whether the server can serve.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.done(self.request(Method::Get, &["readyz"])).await
    }

    /// Who this client is.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.value(self.request(Method::Get, &["v1", "whoami"]))
            .await
    }

    /// Tokens, without their text.
    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        self.items(&["v1", "tokens"]).await
    }

    /// Makes a token; the answer has its text, this once.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<Token, ClientError> {
        self.exchange(self.request(Method::Post, &["v1", "tokens"]), request)
            .await
    }

    /// Revokes a token.
    pub async fn delete_token(&self, id: &str) -> Result<(), ClientError> {
        self.done(self.request(Method::Delete, &["v1", "tokens", id]))
            .await
    }

    /// Who did what, newest first; at most `limit`.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditRecord>, ClientError> {
        let request = self
            .request(Method::Get, &["v1", "audit"])
            .query(&[("limit", limit)]);
        let items: api::answer::Items<AuditRecord> = self.value(request).await?;
        Ok(items.items)
    }

    /// Who uses what right now.
    pub async fn top(&self, project: Option<&str>) -> Result<Top, ClientError> {
        let mut request = self.request(Method::Get, &["v1", "top"]);
        if let Some(project) = project {
            request = request.query(&[("project", project)]);
        }
        self.value(request).await
    }
}
