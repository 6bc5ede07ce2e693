//! What can be done, apart from how it is asked for. Each use case authorises, then reads or writes.

pub mod apply;
pub mod intent;
pub mod pin;
pub mod read;
pub mod route_table;
pub mod seal;
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
    let hash = Sha256::digest(value.to_string().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
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
