use super::*;
use std::time::{Duration, Instant};

fn yaml(text: &str) -> Result<Vec<Document>, Box<Problem>> {
    parse(text.as_bytes(), Format::Yaml)
}

#[track_caller]
fn refused(text: &str) -> Vec<String> {
    let problem = yaml(text).expect_err("it is not valid");
    assert_eq!((problem.status, problem.code.as_str()), (422, "invalid"));
    problem.errors.iter().map(ToString::to_string).collect()
}

const TENANT: &str = "apiVersion: moonshot/v1\nkind: Tenant\nmetadata:\n  name: a\n";

#[test]
fn many_documents() {
    let text = format!("# only a comment\n---\n{TENANT}---\n---\n{TENANT}status: {{old: 1}}\n");
    let documents = yaml(&text).unwrap();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1].object.metadata.name, "a");
    assert_eq!(documents[1].object.status, None);
    assert_eq!(yaml("").unwrap(), []);
}

#[test]
fn json_and_lists() {
    let one = br#"{"apiVersion": "moonshot/v1", "kind": "Tenant", "metadata": {"name": "a"}}"#;
    assert_eq!(parse(one, Format::Json).unwrap().len(), 1);
    let many = format!("[{0}, {0}]", String::from_utf8_lossy(one));
    assert_eq!(parse(many.as_bytes(), Format::Json).unwrap().len(), 2);
    let list = format!(r#"{{"apiVersion": "moonshot/v1", "kind": "TenantList", "items": {many}}}"#);
    assert_eq!(parse(list.as_bytes(), Format::Json).unwrap().len(), 2);
    let problem = parse(b"{\n  \"a\": }", Format::Json).unwrap_err();
    assert_eq!(
        problem.detail,
        "this is not valid JSON in line 2, column 8: expected value"
    );
}

#[test]
fn bad_yaml_is_told_with_line_and_column() {
    let problem = yaml("apiVersion: moonshot/v1\nkind: Job\nmetadata:\n  name: a\n labels: {}\n")
        .unwrap_err();
    assert_eq!(
        (problem.errors[0].line, problem.errors[0].column),
        (Some(5), Some(2)),
        "{}",
        problem.detail
    );
    assert!(
        problem
            .detail
            .starts_with("this is not valid YAML in line 5, column 2: "),
        "{}",
        problem.detail
    );
    let problem = yaml("a: 1\nb: 2\na: 3\n").unwrap_err();
    assert_eq!(problem.errors[0].line, Some(3), "{}", problem.detail);
    assert!(problem.detail.contains("duplicate"), "{}", problem.detail);
}

#[test]
fn unknown_kinds_and_fields_name_the_nearest() {
    assert_eq!(
        refused("apiVersion: v1\nkind: jobs\nmetadata: {name: a}\nspecs: {}\n"),
        [
            "line 4, column 1: specs: unknown field; did you mean `spec`?",
            "line 1, column 1: apiVersion: is `v1`; write `moonshot/v1`",
            "line 2, column 1: kind: unknown kind `jobs`; did you mean `Job`?",
        ]
    );
    assert_eq!(
        refused("apiVersion: moonshot/v1\nkind: Evironment\nmetadata: {name: a}\n"),
        ["line 2, column 1: kind: unknown kind `Evironment`; did you mean `Environment`?"]
    );
    assert_eq!(
        refused("- 1\n"),
        [
            "line 1, column 1: an object with `apiVersion`, `kind`, `metadata` and `spec` is expected here"
        ]
    );
}

#[test]
fn errors_of_all_documents_come_together() {
    let text =
        format!("{TENANT}---\nkind: Job\n---\n{TENANT}  labls: {{}}\n  labels: {{version: 1.0}}\n");
    assert_eq!(
        refused(&text),
        [
            "line 6, column 1: [1].apiVersion: is missing; write `moonshot/v1`",
            "line 6, column 1: [1].metadata: is missing; at least `metadata.name` is needed",
            "line 13, column 12: [2].metadata.labels.version: is `1.0`; text is expected: write it in quotes, `\"1.0\"`",
            "line 12, column 3: [2].metadata.labls: unknown field; did you mean `labels`?",
        ]
    );
}

#[test]
fn words_of_other_yaml_versions_stay_text() {
    let text = format!("{TENANT}  labels: {{a: no, b: on, c: 007, d: 1_000}}\n");
    let documents = yaml(&text).unwrap();
    let labels = &documents[0].object.metadata.labels;
    assert_eq!(
        labels.values().collect::<Vec<_>>(),
        ["no", "on", "007", "1_000"]
    );
}

#[test]
fn anchors_work() {
    let text = format!("{TENANT}  labels: &l {{a: b}}\n  annotations: *l\n");
    assert_eq!(
        yaml(&text).unwrap()[0].object.metadata.annotations["a"],
        "b"
    );
}

/// Bounded in time, so in memory too: every value that is made costs time.
#[track_caller]
fn refused_quickly(text: &str) -> String {
    let start = Instant::now();
    let problem = yaml(text).expect_err("it is over a bound");
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!(problem.status, 422);
    assert!(problem.detail.len() < 1_000 && problem.errors.len() <= FIELD_ERRORS_MAX);
    problem.detail
}

#[test]
fn ten_megabytes_are_refused() {
    let text = format!("{TENANT}spec:\n  description: {}\n", "x".repeat(10 << 20));
    let detail = refused_quickly(&text);
    assert!(
        detail.starts_with("the manifest has 11 MiB; at most 4 MiB are read at once"),
        "{detail}"
    );
}

#[test]
fn alias_bombs_are_refused() {
    // Ten to the ninth.
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        text.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    refused_quickly(&text);
    // One long text, many times.
    let text = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(5_000)
    );
    refused_quickly(&text);
    // Merge keys.
    let mut text = "a0: &a0 {k: v}\n".to_owned();
    for n in 1..2_000 {
        text.push_str(&format!("a{n}: &a{n} {{<<: *a{}, k{n}: v}}\n", n - 1));
    }
    refused_quickly(&text);
}

#[test]
fn depth_is_bounded() {
    refused_quickly(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    refused_quickly(&"- ".repeat(100_000));
    let problem = parse("[".repeat(100_000).as_bytes(), Format::Json).unwrap_err();
    assert_eq!(problem.status, 422);
}

#[test]
fn documents_and_values_are_bounded() {
    refused_quickly(&"---\na\n".repeat(DOCUMENTS_MAX + 1));
    refused_quickly(&"- \n".repeat(NODES_MAX + 1));
}

#[test]
fn hostile_bytes_are_refused_not_panicked_at() {
    for bytes in [
        &b"\xff\xfe\x00"[..],
        b"\x00",
        b"%YAML 9.9\n---\n",
        b"!!binary x",
        b"&a *a",
        b"? [a]\n: b\n",
        b"{a: .nan}",
    ] {
        let _ = parse(bytes, Format::Yaml);
        let _ = parse(bytes, Format::Json);
    }
}
