//! `docs api`: the reference of the API in Markdown, from the table of routes and the schemas that requests are
//! checked by.

use api::kind::Kind;
use api::openapi;
use api::routes::{About, Answer, Body, ROUTES, Route};
use api::{Scope, meta};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const HEAD: &str = "\
# API

<!-- Printed by `moonshot docs api`; do not edit. -->

The server speaks HTTP at the address that `moonshot status` shows; the document for programs is `/v1/openapi.json`. Every request
carries `Authorization: Bearer TOKEN` (`moonshot token show`). Bodies are JSON or, with `Content-Type: application/yaml`, YAML.

- **Errors** are `application/problem+json` (RFC 9457) with a stable `code`, a sentence, the request's id, and every invalid field by
  its path; for YAML with line and column. Unknown fields are errors.
- **`PUT` applies**: the same spec changes nothing. A changed immutable field of running work is a conflict that names the fields.
  `If-Match: GENERATION` refuses to change what somebody else has changed. `PATCH` is a merge-patch (RFC 7386).
- **`?dryRun=true`** checks and answers what would happen.
- **Lists** come page by page: `hasMore`, then `?continue=`. **`?watch=true`** answers server-sent events of changes from
  `?resourceVersion=` on; an event's id is its position, and `410` means that the position is too old: list again.
- **`Idempotency-Key`** makes a repeated `POST` answer what the first one did, for 24 hours.
";

/// The whole page.
pub(super) fn reference() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Routes\n");
    let mut named = BTreeSet::new();
    for (title, routes) in sections() {
        write!(text, "\n### {title}\n").expect(WRITES);
        for each in routes {
            route(&mut text, each, &mut named);
        }
    }
    text.push_str("\n## Kinds\n\n| kind | in paths | short | belongs to | spec | status |\n|---|---|---|---|---|---|\n");
    for kind in Kind::ALL {
        let scope = match kind.scope() {
            Scope::Global => "platform",
            Scope::Tenant => "tenant",
            Scope::Project => "project",
        };
        let part = |name: &str, named: &mut BTreeSet<String>| {
            let part = &schema(kind.as_str())["properties"][name];
            reference_of(part).map_or_else(String::new, |to| link(to, named))
        };
        let (spec, status) = (part("spec", &mut named), part("status", &mut named));
        let (name, plural, short) = (kind.as_str(), kind.plural(), kind.short_names().join(", "));
        let line = format!("| {name} | `{plural}` | {short} | {scope} | {spec} | {status} |\n");
        text.push_str(&line);
    }
    let metadata = link("Metadata", &mut named);
    write!(
        text,
        "\nEvery object has `apiVersion: {}`, `kind`, `metadata` ({metadata}), `spec` and `status`.\n",
        meta::API_VERSION
    )
    .expect(WRITES);
    text.push_str("\n## Types\n");
    let mut told = BTreeSet::new();
    // Types name others, which are told too.
    while let Some(next) = named.iter().find(|name| !told.contains(*name)).cloned() {
        told.insert(next.clone());
        of_type(&next, &mut named);
    }
    for name in &told {
        text.push_str(&of_type(name, &mut BTreeSet::new()));
    }
    text
}

const WRITES: &str = "writing to a String cannot fail";

fn sections() -> Vec<(&'static str, Vec<&'static Route>)> {
    let title = |route: &Route| match route.about {
        About::All | About::Each(_) => "Objects of every kind",
        About::One(Kind::Job) => "Jobs",
        About::One(Kind::App) => "Apps",
        About::One(Kind::Node) => "Nodes",
        About::One(Kind::PodGroup) => "Pods of others",
        About::One(_) => "Environments and Models",
        About::Platform => "The platform",
    };
    let order = [
        "Objects of every kind",
        "Jobs",
        "Apps",
        "Pods of others",
        "Environments and Models",
        "Nodes",
        "The platform",
    ];
    let of = |wanted: &'static str| {
        let routes = ROUTES.iter().filter(|route| title(route) == wanted);
        (wanted, routes.collect())
    };
    order.into_iter().map(of).collect()
}

fn route(text: &mut String, route: &Route, named: &mut BTreeSet<String>) {
    let body = match route.body {
        Body::None => String::new(),
        Body::Object => " Takes the object.".to_owned(),
        Body::MergePatch => " Takes a merge-patch.".to_owned(),
        Body::Manifest => " Takes documents of any kind.".to_owned(),
        Body::Bytes => " Takes bytes.".to_owned(),
        Body::Of(name) => format!(" Takes {}.", link(name, named)),
    };
    let answer = match route.answer {
        Answer::Nothing => "nothing".to_owned(),
        Answer::Object => "the object".to_owned(),
        Answer::Page => "a page of objects".to_owned(),
        Answer::Of(name) => link(name, named),
        Answer::Items(name) => format!("`items` of {}", link(name, named)),
        Answer::Events(name) => format!("server-sent events of {}", link(name, named)),
        Answer::Log => format!("text, or {} one a line", link("LogFrame", named)),
        Answer::Bytes(media) => format!("`{media}`"),
        Answer::WebSocket => "a WebSocket".to_owned(),
    };
    let (method, path, summary) = (route.method.as_str(), route.path, route.summary);
    write!(
        text,
        "\n`{method} {path}`  \n{summary}{body} Answers {answer}.\n"
    )
    .expect(WRITES);
    for param in route.query {
        let (name, ty, about) = (param.name, param.ty, param.about);
        writeln!(text, "- `?{name}` ({ty}): {about}").expect(WRITES);
    }
}

fn schema(name: &str) -> &'static Value {
    &openapi::document()["components"]["schemas"][name]
}

fn reference_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn link(name: &str, named: &mut BTreeSet<String>) -> String {
    // A kind's own schema is told by its spec and status; `Object` is any of them.
    if name == "Object" || Kind::ALL.iter().any(|kind| kind.as_str() == name) {
        return name.to_owned();
    }
    named.insert(name.to_owned());
    format!("[{name}](#{})", name.to_ascii_lowercase())
}

fn of_type(name: &str, named: &mut BTreeSet<String>) -> String {
    let schema = schema(name);
    let about = schema["description"].as_str().unwrap_or_default();
    let mut text = format!("\n### {name}\n\n{}\n", about.replace('\n', " "));
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        write!(text, "\nOne of {}.\n", words.join(", ")).expect(WRITES);
    }
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if let Some(fields) = schema["properties"]
        .as_object()
        .filter(|map| !map.is_empty())
    {
        text.push_str("\n| field | type | meaning |\n|---|---|---|\n");
        for (field, schema) in fields {
            let mark = if required.contains(&field.as_str()) {
                ", required"
            } else {
                ""
            };
            let about = schema["description"].as_str().unwrap_or_default();
            let about = about.replace('\n', " ").replace('|', "\\|");
            let ty = type_of(schema, named);
            writeln!(text, "| `{field}` | {ty}{mark} | {about} |").expect(WRITES);
        }
    }
    text
}

fn type_of(schema: &Value, named: &mut BTreeSet<String>) -> String {
    if let Some(name) = reference_of(schema) {
        return link(name, named);
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&schema["items"], named)),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&schema["additionalProperties"], named))
        }
        Some("object") => "object".to_owned(),
        Some(word) => word.to_owned(),
        None => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_documents_is_this_one() {
        expect_test::expect_file!["../../../../docs/src/api.md"].assert_eq(&reference());
    }

    #[test]
    fn every_route_is_told_and_every_link_leads_somewhere() {
        let text = reference();
        for route in ROUTES {
            let (method, path) = (route.method.as_str(), route.path);
            assert!(text.contains(&format!("`{method} {path}`")), "{path}");
        }
        for target in text.split("](#").skip(1) {
            let name = target.split(')').next().expect("a link ends");
            let is_told = text
                .lines()
                .filter_map(|line| line.strip_prefix("### "))
                .any(|title| title.to_ascii_lowercase() == name);
            assert!(is_told, "{name}");
        }
    }
}
