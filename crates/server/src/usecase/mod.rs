//! What can be done, apart from how it is asked for. Each use case authorises, then reads or writes.

pub mod apply;
pub mod attempts;
pub mod content;
pub mod deliver;
pub mod ingest;
pub mod intent;
pub mod model;
pub mod pin;
pub mod reach;
pub mod read;
pub mod revision;
pub mod route_table;
pub mod seal;
pub mod secret;
pub mod top;
pub mod why;
pub mod wire;

use crate::auth::Actor;
use base::Uid;

/// Who asks, and under which request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// The request's id.
    pub request: String,
}

/// Digest of a JSON value, for the audit trail.
pub fn digest(value: &serde_json::Value) -> String {
    use sha2::{Digest, Sha256};
    base::hex(Sha256::digest(value.to_string().as_bytes()))
}

/// The digest of a stored spec in the audit trail. A Secret's is the keyed one of its entries, kept beside it.
pub fn recorded_digest(object: &db::objects::Object) -> String {
    match object.desired["keyed"].as_str() {
        Some(keyed) => keyed.to_owned(),
        None => digest(&object.spec),
    }
}

/// An entry of the audit trail.
pub fn audit(
    caller: &Caller,
    verb: &str,
    object: &db::objects::Object,
    before: &str,
    after: &str,
) -> db::audit::Entry {
    db::audit::Entry {
        at: object.updated_at,
        actor: caller.actor.name.clone(),
        verb: verb.to_owned(),
        kind: object.kind.clone(),
        project: object.project.clone(),
        name: object.name.clone(),
        uid: Some(object.uid).filter(|uid| *uid != Uid::default()),
        before: before.to_owned(),
        after: after.to_owned(),
        request: caller.request.clone(),
    }
}

/// An entry about a token. Its text is nowhere; the digest is that of what it may do.
pub fn token_audit(
    caller: &Caller,
    verb: &str,
    token: &db::access::Token,
    at: base::Time,
) -> db::audit::Entry {
    let scope = digest(&token.scope);
    let (before, after) = match verb {
        "create" => (String::new(), scope),
        _ => (scope, String::new()),
    };
    db::audit::Entry {
        at,
        actor: caller.actor.name.clone(),
        verb: verb.to_owned(),
        kind: "Token".to_owned(),
        project: token.scope["project"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        name: token.name.clone(),
        uid: Some(token.id),
        before,
        after,
        request: caller.request.clone(),
    }
}
