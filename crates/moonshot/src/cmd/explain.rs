//! `explain`: the fields of a kind, from the schema that manifests are checked by.

use crate::exit::Failure;
use crate::out::Out;
use crate::target;
use api::nearest::nearest;
use api::openapi;
use serde_json::Value;
use std::fmt::Write as _;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND` or `KIND.FIELD.FIELD`: `job.spec.retry`.
    #[arg(value_name = "PATH")]
    path: String,
}

pub(crate) fn run(args: &Args, out: Out) -> Result<(), Failure> {
    out.text(&explain(&args.path)?)
}

fn explain(path: &str) -> Result<String, Failure> {
    let mut steps = path.split('.');
    let kind = target::kind(steps.next().unwrap_or_default())?;
    let mut schema = schema_of(kind.as_str());
    let mut about = &schema["description"];
    let mut shown = kind.as_str().to_owned();
    for step in steps {
        let properties = properties(schema);
        let Some(next) = properties.get(step) else {
            let hint = nearest(
                step,
                properties
                    .as_object()
                    .into_iter()
                    .flat_map(|map| map.keys().map(String::as_str)),
            );
            let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(Failure::NotFound(format!(
                "`{shown}` has no field `{step}`{hint}"
            )));
        };
        about = if next["description"].is_string() {
            &next["description"]
        } else {
            &resolve(next)["description"]
        };
        schema = inner(next);
        shown = format!("{shown}.{step}");
    }
    let mut text = format!("{shown}\n");
    for line in about.as_str().unwrap_or_default().lines() {
        writeln!(text, "  {line}").expect("writing to a String cannot fail");
    }
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if let Some(fields) = properties(schema)
        .as_object()
        .filter(|fields| !fields.is_empty())
    {
        text.push_str("\nFields:\n");
        for (name, field) in fields {
            let mark = if required.contains(&name.as_str()) {
                ", required"
            } else {
                ""
            };
            let about = if field["description"].is_string() {
                &field["description"]
            } else {
                &resolve(field)["description"]
            };
            let about = about.as_str().unwrap_or_default().replace('\n', " ");
            writeln!(text, "  {name} <{}{mark}>\n    {about}", type_of(field))
                .expect("writing to a String cannot fail");
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        writeln!(text, "\nOne of: {}", words.join(", ")).expect("writing to a String cannot fail");
    }
    Ok(text)
}

fn schema_of(name: &str) -> &'static Value {
    &openapi::document()["components"]["schemas"][name]
}

fn resolve(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some(path) => schema_of(path.rsplit('/').next().unwrap_or_default()),
        None => schema,
    }
}

/// The schema of what a field holds: of its items, for lists and maps.
fn inner(schema: &'static Value) -> &'static Value {
    let schema = resolve(schema);
    match () {
        () if schema["items"].is_object() => resolve(&schema["items"]),
        () if schema["additionalProperties"].is_object() => {
            resolve(&schema["additionalProperties"])
        }
        () => schema,
    }
}

fn properties(schema: &'static Value) -> &'static Value {
    &schema["properties"]
}

fn type_of(schema: &'static Value) -> String {
    let whole = resolve(schema);
    if whole["items"].is_object() {
        return format!("list of {}", type_of(&whole["items"]));
    }
    if whole["additionalProperties"].is_object() {
        return format!("map of {}", type_of(&whole["additionalProperties"]));
    }
    if let Some(format) = whole["format"]
        .as_str()
        .filter(|format| ["quantity", "span", "sha256", "date-time"].contains(format))
    {
        return match format {
            "span" => "duration",
            "date-time" => "time",
            other => other,
        }
        .to_owned();
    }
    match &whole["type"] {
        Value::String(name) => name.clone(),
        _ if whole["oneOf"].is_array() => "number or text".to_owned(),
        _ => "anything".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn fields_of_a_struct() {
        expect![[r#"
            Job.spec.array
              Many independent runs of one group. Excludes groups of more than one replica.

            Fields:
              count <integer, required>
                How many, each with its own `$MOONSHOT_ARRAY_INDEX`. At most 10,000.
              parallelism <integer>
                The most at once. Default: as many as fit.
        "#]]
        .assert_eq(&explain("job.spec.array").unwrap());
        expect![[r#"
            Job.spec.framework
              Sets what the framework's launcher expects, and its success rule.

            One of: xgboost, tensorflow, pytorch, mpi, mxnet, caffe
        "#]]
        .assert_eq(&explain("jobs.spec.framework").unwrap());
    }

    #[test]
    fn lists_and_maps_lead_on() {
        assert!(
            explain("job.spec.groups.resources")
                .unwrap()
                .contains("  cpu <quantity>\n")
        );
        assert!(
            explain("queue.spec.quotas.limit")
                .unwrap()
                .contains("  memory <quantity>\n")
        );
        assert_eq!(
            explain("job.spec.group").unwrap_err().to_string(),
            "`Job.spec` has no field `group`; did you mean `groups`?"
        );
        assert!(explain("jbo").is_err());
    }

    #[test]
    fn every_kind_can_be_explained() {
        for kind in api::Kind::ALL {
            for part in ["", ".metadata", ".spec", ".status"] {
                let path = format!("{}{part}", kind.as_str());
                explain(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        }
    }
}
