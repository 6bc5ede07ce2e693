//! The OpenAPI document: schemas of the Rust types, made strict, and the paths of [`crate::routes`].
//!
//! The derived schemas are tidied before anyone sees them, because validation runs on them:
//! flattened structs (`allOf`) become one object, so that unknown fields can be refused; `null` is
//! not part of any type, because an absent field says the same; integers get the range of their
//! Rust type.

use crate::kind::Kind;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::routes::{Answer, Body, ROUTES, Route};
use crate::{answer, app, environment, event, job, kind, model, platform};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

/// Where schemas are, as a reference begins.
pub(crate) const SCHEMAS: &str = "#/components/schemas/";

static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

/// The whole document.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// The document as it is checked in under `openapi/`, and served.
pub fn text() -> String {
    let mut text =
        serde_json::to_string_pretty(document()).expect("a JSON value always serialises");
    text.push('\n');
    text
}

fn build() -> Value {
    let schemas = schemas();
    let mut paths = Map::new();
    for route in ROUTES {
        for (path, kind) in route.paths() {
            let methods = paths.entry(path.clone()).or_insert_with(|| json!({}));
            methods[route.method.as_str().to_ascii_lowercase()] = operation(route, &path, kind);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Moonshot",
            "description": "One pool of machines on which teams train models (Jobs) and serve them (Apps).",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

// ---- paths ----

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{SCHEMAS}{name}") })
}

fn operation(route: &Route, path: &str, kind: Option<Kind>) -> Value {
    let id = match kind {
        Some(kind) if route.path.contains("{plural}") => format!("{}{}", route.id, kind.as_str()),
        Some(_) | None => route.id.to_owned(),
    };
    let mut operation = json!({
        "operationId": id,
        "summary": route.summary,
        "tags": [kind.map_or("Platform", Kind::as_str)],
    });
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    for param in route.query {
        let schema = match param.ty {
            "strings" => json!({ "type": "array", "items": { "type": "string" } }),
            ty => json!({ "type": ty }),
        };
        parameters.push(json!({ "name": param.name, "in": "query", "description": param.about, "schema": schema }));
    }
    for header in ["Idempotency-Key", "If-Match", "Last-Event-ID"] {
        if route.summary.contains(&format!("`{header}`"))
            || (header == "Last-Event-ID" && route.id == "watch")
        {
            parameters
                .push(json!({ "name": header, "in": "header", "schema": { "type": "string" } }));
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = request_body(route.body, kind) {
        operation["requestBody"] = body;
    }
    let mut responses = Map::new();
    let (status, good) = response(route.answer, kind);
    responses.insert(status.to_owned(), good);
    responses.insert(
        "default".to_owned(),
        json!({ "description": "What went wrong and what to do.", "content": { PROBLEM_JSON: { "schema": reference("Problem") } } }),
    );
    operation["responses"] = Value::Object(responses);
    operation
}

fn object_schema(kind: Option<Kind>) -> Value {
    reference(kind.map_or("Object", Kind::as_str))
}

fn request_body(body: Body, kind: Option<Kind>) -> Option<Value> {
    let (content, required) = match body {
        Body::None => return None,
        Body::Object => (
            json!({ "application/json": { "schema": object_schema(kind) }, "application/yaml": { "schema": object_schema(kind) } }),
            true,
        ),
        Body::MergePatch => (
            json!({ "application/merge-patch+json": { "schema": { "type": "object" } } }),
            true,
        ),
        Body::Manifest => (
            json!({ "application/yaml": { "schema": { "type": "string" } }, "application/json": { "schema": reference("Object") } }),
            true,
        ),
        Body::Bytes => (json!({ "application/octet-stream": {} }), true),
        Body::Of(name) => (
            json!({ "application/json": { "schema": reference(name) } }),
            name != "RollbackRequest",
        ),
    };
    Some(json!({ "required": required, "content": content }))
}

fn response(answer: Answer, kind: Option<Kind>) -> (&'static str, Value) {
    let json_body = |schema: Value, description: &str| json!({ "description": description, "content": { "application/json": { "schema": schema } } });
    let items = |schema: Value| json!({ "type": "object", "required": ["items"], "properties": { "items": { "type": "array", "items": schema } } });
    match answer {
        Answer::Nothing => ("204", json!({ "description": "Done." })),
        Answer::Object => (
            "200",
            json_body(object_schema(kind), "The object as it is now."),
        ),
        Answer::Page => {
            let mut page = reference("Page");
            page["properties"] =
                json!({ "items": { "type": "array", "items": object_schema(kind) } });
            let mut answer = json_body(page, "A page; with `watch`, changes.");
            answer["content"]["text/event-stream"] = json!({ "schema": reference("Change") });
            ("200", answer)
        }
        Answer::Of(name) => ("200", json_body(reference(name), "The answer.")),
        Answer::Items(name) => ("200", json_body(items(reference(name)), "All of them.")),
        Answer::Events(name) => (
            "200",
            json!({ "description": "Server-sent events.", "content": { "text/event-stream": { "schema": reference(name) } } }),
        ),
        Answer::Log => (
            "200",
            json!({ "description": "The output.", "content": { "text/plain": {}, "application/x-ndjson": { "schema": reference("LogFrame") }, "text/event-stream": { "schema": reference("LogFrame") } } }),
        ),
        Answer::Bytes(media) => (
            "200",
            json!({ "description": "Bytes.", "content": { media: {} } }),
        ),
        Answer::WebSocket => ("101", json!({ "description": "A WebSocket." })),
    }
}

// ---- schemas ----

fn schemas() -> Map<String, Value> {
    let mut found: Vec<(String, RefOr<Schema>)> = Vec::new();
    macro_rules! add {
        ($($type:ty),* $(,)?) => {
            $(
                found.push((<$type as ToSchema>::name().into_owned(), <$type as PartialSchema>::schema()));
                <$type as ToSchema>::schemas(&mut found);
            )*
        };
    }
    add!(kind::Object, Problem);
    add!(
        kind::Tenant,
        kind::Project,
        kind::Queue,
        kind::Pool,
        kind::Cluster,
        kind::Node,
        kind::Environment,
        kind::Secret,
        kind::Model,
        kind::ModelVersion,
        kind::Job,
        kind::App,
        kind::PodGroup,
        kind::Event,
    );
    add!(
        answer::ApplyAnswer,
        answer::Change,
        answer::Why,
        answer::Overview,
        answer::WhoAmI,
        answer::Token,
        answer::TokenRequest,
        answer::LoginRequest,
        answer::ScaleRequest,
        answer::RollbackRequest,
        answer::PushRequest,
        answer::Blob,
        answer::LogFrame,
        answer::IngestAnswer,
        answer::IngestRequest,
        answer::JobAttempt,
        answer::AuditRecord,
        answer::Top,
        app::Revision,
    );
    // Named here so that a module whose types are only reached through others is seen to be covered.
    add!(
        job::JobSpec,
        platform::QueueSpec,
        environment::EnvironmentSpec,
        model::Lineage,
        event::EventSpec
    );
    let mut schemas = Map::new();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, schema) in found {
        let value = serde_json::to_value(schema).expect("a derived schema always serialises");
        schemas.insert(name, value);
    }
    let raw = schemas.clone();
    for schema in schemas.values_mut() {
        merge_flattened(schema, &raw);
        tidy(schema);
    }
    schemas.insert(
        "Page".to_owned(),
        json!({
            "type": "object",
            "description": "One page of objects.",
            "required": ["apiVersion", "kind", "items", "hasMore", "resourceVersion"],
            "properties": {
                "apiVersion": { "type": "string" },
                "kind": { "type": "string", "description": "`<Kind>List`." },
                "items": { "type": "array", "items": { "type": "object" } },
                "hasMore": { "type": "boolean", "description": "Whether another page follows." },
                "continue": { "type": "string", "description": "Pass as `?continue=` for the next page." },
                "resourceVersion": { "type": "integer", "format": "int64", "description": "Watch from here." },
            },
        }),
    );
    schemas
}

/// `#[serde(flatten)]` is derived as `allOf`; as one object it can refuse unknown fields.
fn merge_flattened(schema: &mut Value, all: &Map<String, Value>) {
    let Some(parts) = schema.get("allOf").and_then(Value::as_array).cloned() else {
        return;
    };
    let mut merged = json!({ "type": "object" });
    if let Some(description) = schema.get("description") {
        merged["description"] = description.clone();
    }
    let mut properties = Map::new();
    let mut required: Vec<Value> = Vec::new();
    // A struct's own fields come last in `allOf`, and first for a reader.
    for part in parts.iter().rev() {
        let resolved = match part.get("$ref").and_then(Value::as_str) {
            Some(path) => all
                .get(path.trim_start_matches(SCHEMAS))
                .expect("a derived reference names a derived schema"),
            None => part,
        };
        if let Some(own) = resolved.get("properties").and_then(Value::as_object) {
            properties.extend(own.clone());
        }
        if let Some(own) = resolved.get("required").and_then(Value::as_array) {
            required.extend(own.iter().cloned());
        }
    }
    merged["properties"] = Value::Object(properties);
    if !required.is_empty() {
        merged["required"] = Value::Array(required);
    }
    // Only specs are flattened, and every spec refuses unknown fields.
    merged["additionalProperties"] = json!(false);
    *schema = merged;
}

fn tidy(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    drop_null(map);
    bound_integer(map);
    for key in ["properties", "$defs"] {
        if let Some(Value::Object(children)) = map.get_mut(key) {
            children.values_mut().for_each(tidy);
        }
    }
    for key in ["items", "additionalProperties", "propertyNames"] {
        if let Some(child) = map.get_mut(key) {
            tidy(child);
        }
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(Value::Array(children)) = map.get_mut(key) {
            children.iter_mut().for_each(tidy);
        }
    }
}

/// Takes `null` out of a type; a lone alternative that remains takes its place.
fn drop_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|ty| ty != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            map.insert("type".to_owned(), one);
        }
    }
    for key in ["oneOf", "anyOf"] {
        let Some(Value::Array(choices)) = map.get_mut(key) else {
            continue;
        };
        choices.retain(|choice| choice.get("type").is_none_or(|ty| ty != "null"));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            map.remove(key);
            for (name, value) in one {
                map.entry(name).or_insert(value);
            }
        }
    }
}

/// An integer's format says its width; the range that follows from it is written out.
fn bound_integer(map: &mut Map<String, Value>) {
    if map.get("type").is_none_or(|ty| ty != "integer") {
        return;
    }
    let unsigned = map.get("minimum").and_then(Value::as_u64).is_some();
    let range = match (map.get("format").and_then(Value::as_str), unsigned) {
        (Some("int32"), true) => (json!(0), json!(u32::MAX)),
        (Some("int32"), false) => (json!(i32::MIN), json!(i32::MAX)),
        // JSON numbers are exact up to 2^53 for every reader.
        (Some("int64"), true) => (json!(0), json!(1_u64 << 53)),
        _ => return,
    };
    map.entry("minimum").or_insert(range.0);
    map.entry("maximum").or_insert(range.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/moonshot.json");
        let text = text();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi")).unwrap();
            std::fs::write(path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            golden == text,
            "openapi/moonshot.json is not what the code says; run with UPDATE_EXPECT=1 and read the difference"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = text();
        for part in text.split("\"$ref\": \"").skip(1) {
            let path = part.split('"').next().unwrap();
            let name = path.strip_prefix(SCHEMAS).unwrap();
            assert!(
                document()["components"]["schemas"].get(name).is_some(),
                "{path}"
            );
        }
    }

    #[test]
    fn what_a_client_writes_refuses_unknown_fields_at_every_level() {
        let mut todo: Vec<String> = Kind::ALL
            .iter()
            .map(|kind| format!("{}Spec", kind.as_str()))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(name) = todo.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let schema = &document()["components"]["schemas"][&name];
            let is_object = schema["type"] == "object";
            assert!(
                !is_object || schema.get("additionalProperties").is_some(),
                "{name} takes unknown fields"
            );
            for part in schema.to_string().split("#/components/schemas/").skip(1) {
                todo.push(part.split('"').next().unwrap().to_owned());
            }
        }
        assert!(seen.contains("ProbeSpec") && seen.contains("GitSource"));
    }
}
