//! Stored objects as the API shows them.

use api::{Kind, Metadata, Object as Wire};
use db::events::Event;
use db::objects::Object;
use serde_json::{Value, json};

/// An object as it is shown. Secret values are not in it: they are not in the row either.
pub fn object(object: &Object) -> Wire {
    let scoped = |text: &String| text.clone();
    Wire {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: object.kind.clone(),
        metadata: Metadata {
            name: object.name.clone(),
            generate_name: None,
            project: scoped(&object.project),
            tenant: scoped(&object.tenant),
            uid: Some(object.uid),
            generation: Some(object.generation),
            resource_version: Some(object.seq.0),
            labels: object.labels.clone(),
            annotations: object.annotations.clone(),
            creator: Some(object.creator.clone()),
            owner: Some(object.owner.clone()),
            created_at: Some(object.created_at),
            deleted_at: object.deleted_at,
        },
        spec: object.spec.clone(),
        status: Some(status(object))
            .filter(|status| status.as_object().is_some_and(|map| !map.is_empty())),
    }
}

/// The status, with what is kept apart from it because others write it.
fn status(object: &Object) -> Value {
    let mut status = object.status.clone();
    let delivery = &object.desired["delivery"];
    if let Some(status) = status.as_object_mut().filter(|_| delivery.is_object()) {
        status.insert("delivery".to_owned(), delivery.clone());
    }
    status
}

/// What a Revision keeps of an App's spec ([`api::app::Revised`]): the template, and the model in it.
pub fn revised(spec: &Value) -> Value {
    let mut revised = map_or_empty(spec["template"].clone());
    if let Some(model) = spec.get("model") {
        revised["model"] = model.clone();
    }
    revised
}

/// The template and the model of what a Revision keeps.
pub fn unrevised(revised: &Value) -> (Value, Option<Value>) {
    let mut template = map_or_empty(revised.clone());
    let model = template.as_object_mut().and_then(|map| map.remove("model"));
    (template, model)
}

/// An event as an object.
pub fn event(event: &Event) -> Wire {
    Wire {
        api_version: api::meta::API_VERSION.to_owned(),
        kind: Kind::Event.as_str().to_owned(),
        metadata: Metadata {
            name: event.uid.to_string(),
            project: event.project.clone(),
            tenant: event.tenant.clone(),
            uid: Some(event.uid),
            resource_version: Some(event.seq),
            created_at: Some(event.first_at),
            ..Metadata::default()
        },
        spec: json!({
            "objectKind": event.object_kind,
            "objectName": event.object_name,
            "objectUid": event.object,
            "type": event.kind,
            "reason": event.reason,
            "message": event.message,
            "params": event.params,
            "firstAt": event.first_at,
            "lastAt": event.last_at,
            "count": event.count,
        }),
        status: None,
    }
}

/// An empty object instead of `null`.
pub fn map_or_empty(value: Value) -> Value {
    if value.is_object() { value } else { json!({}) }
}
