//! Models: pushes, versions, pins; and content that is named without being there.

use crate::server::Server;
use serde_json::{Value, json};

const VERSIONS: &str = "/v1/projects/default/models/flights/versions";

#[tokio::test]
async fn versions_are_numbered_immutable_and_pinned() {
    let server = Server::start().await;
    let [one, two] = [server.upload(b"one").await, server.upload(b"two").await];
    let push = async |body: Value| server.call("POST", VERSIONS, body).await;
    let first = push(json!({"digest": one, "format": "onnx", "metrics": {"rmse": 1.5}})).await;
    assert_eq!(first.status, 201, "{:#}", first.body);
    assert_eq!(first.body["metadata"]["name"], "flights-v1");
    assert_eq!(first.body["spec"]["size"], "3");
    // The same again is the same version.
    let again = push(json!({"digest": one, "format": "onnx", "metrics": {"rmse": 1.5}})).await;
    assert_eq!(again.body["metadata"]["uid"], first.body["metadata"]["uid"]);
    let second = push(json!({"digest": two})).await;
    assert_eq!(second.body["spec"]["version"], 2, "{:#}", second.body);

    let listed = server.call("GET", VERSIONS, Value::Null).await.body;
    let numbers: Vec<u64> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|version| version["spec"]["version"].as_u64())
        .collect();
    assert_eq!(numbers, [2, 1]);
    let model = server
        .call("GET", "/v1/projects/default/models/flights", Value::Null)
        .await
        .body;
    assert_eq!(model["status"]["latest"], 2);

    // A version cannot be changed, and the next one is the next number.
    let yaml = |version: &str| {
        format!(
            "apiVersion: moonshot/v1\nkind: ModelVersion\nmetadata: {{name: flights-v{version}, labels: {{model: flights}}}}\nspec: {{model: flights, version: {version}, digest: '{one}'}}\n"
        )
    };
    let changed = server.call("POST", "/v1/apply", json!(yaml("2"))).await;
    assert_eq!(changed.status, 409, "{:#}", changed.body);
    let skipped = server.call("POST", "/v1/apply", json!(yaml("7"))).await;
    assert_eq!(skipped.status, 422, "{:#}", skipped.body);
    assert_eq!(server.apply(&yaml("3")).await[0]["action"], "created");
    assert_eq!(server.apply(&yaml("3")).await[0]["action"], "unchanged");

    // An App pins what the name means when it is applied; another version is another Revision.
    let app = |model: &str| {
        format!(
            "apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: a}}\nspec: {{replicas: 1, template: {{command: [serve], inputs: [{{name: m, model: {model}}}]}}}}\n"
        )
    };
    server.apply(&app("flights@1")).await;
    assert_eq!(
        server.apply(&app("flights@1")).await[0]["action"],
        "unchanged"
    );
    server.apply(&app("flights@2")).await;
    let revisions = server
        .call("GET", "/v1/projects/default/apps/a/revisions", Value::Null)
        .await;
    assert_eq!(
        revisions.body["items"].as_array().unwrap().len(),
        2,
        "{:#}",
        revisions.body
    );
    let unknown = server
        .call("POST", "/v1/apply", json!(app("flights@9")))
        .await;
    assert!(
        unknown.body.to_string().contains("versions 1 to 3"),
        "{:#}",
        unknown.body
    );

    // A Model goes with its versions; the numbers of a new one begin again.
    let gone = server
        .call("DELETE", "/v1/projects/default/models/flights", Value::Null)
        .await;
    assert_eq!(gone.status, 200, "{:#}", gone.body);
    let left = server
        .call("GET", "/v1/projects/default/modelversions", Value::Null)
        .await;
    assert_eq!(left.body["items"], json!([]));
    assert_eq!(
        push(json!({"digest": one})).await.body["spec"]["version"],
        1
    );
}

#[tokio::test]
async fn a_push_says_exactly_one_thing_that_is_there() {
    let server = Server::start().await;
    let kept = server.upload(b"one").await;
    let missing = base::Digest([3; 32]);
    let check = async |body: Value, status: u16, word: &str| {
        let answer = server.call("POST", VERSIONS, body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {:#}", answer.body);
        assert!(
            answer.body.to_string().contains(word),
            "{body}: {:#}",
            answer.body
        );
    };
    check(json!({}), 422, "exactly one").await;
    check(json!({"digest": kept, "job": "j"}), 422, "exactly one").await;
    check(
        json!({"digest": kept, "output": "o"}),
        422,
        "name it in `job`",
    )
    .await;
    check(json!({"digest": missing}), 422, "upload it first").await;
    check(json!({"job": "j"}), 404, "no job `j`").await;
    check(json!({"digest": kept, "colour": "red"}), 422, "colour").await;
    let key = [("idempotency-key", "k1")];
    let first = server
        .call_with("POST", VERSIONS, json!({"digest": kept}), &key)
        .await;
    let again = server
        .call_with("POST", VERSIONS, json!({"digest": kept}), &key)
        .await;
    assert_eq!(first.body, again.body);
    let reader = json!({"name": "r", "role": "viewer"});
    let token = server.call("POST", "/v1/tokens", reader).await.body["secret"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap_or_default());
    let headers = [("authorization", bearer.as_str())];
    let refused = server
        .call_with("POST", VERSIONS, json!({"digest": kept}), &headers)
        .await;
    assert!(matches!(refused.status, 401 | 403), "{:#}", refused.body);
}

#[tokio::test]
async fn content_that_is_not_kept_is_refused_by_its_field() {
    let server = Server::start().await;
    let missing = base::Digest([3; 32]);
    let yaml = format!(
        "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: one}}\nspec: {{command: [exit, '0'], code: {{digest: '{missing}'}}}}\n"
    );
    let answer = server.call("POST", "/v1/apply", json!(yaml)).await;
    assert_eq!(answer.status, 422, "{:#}", answer.body);
    let text = answer.body.to_string();
    assert!(
        text.contains("spec.code.digest") && text.contains("not kept in this project"),
        "{text}"
    );
    let head = format!("/v1/projects/default/blobs/{missing}");
    assert_eq!(server.call("HEAD", &head, Value::Null).await.status, 404);
    let kept = server.upload(b"here").await;
    let head = format!("/v1/projects/default/blobs/{kept}");
    assert_eq!(server.call("HEAD", &head, Value::Null).await.status, 200);
    assert_eq!(
        server.call("GET", &head, Value::Null).await.body,
        json!("here")
    );
}
