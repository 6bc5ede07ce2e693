//! Sample requests: what an App's new Revision must answer before callers reach it.

use api::deliver::TOLERANCE;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Bytes of a file with samples.
pub(super) const BYTES_MAX: u64 = 4 << 20;
/// Samples of one file.
const SAMPLES_MAX: usize = 1_000;
/// For one answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Characters of an answer that a sentence repeats.
const QUOTED_MAX: usize = 200;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    path: Option<String>,
    request: Value,
    response: Option<Value>,
}

/// The samples of a file; else what is wrong with it, as the rest of a sentence.
pub(super) fn read(text: &[u8]) -> Result<Vec<Sample>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let mut samples: Vec<Sample> = Vec::new();
    for (at, line) in lines {
        let at = at + 1;
        let sample: Sample = serde_json::from_str(line)
            .map_err(|error| format!("has no sample in line {at}: {error}"))?;
        if sample
            .path
            .as_ref()
            .is_some_and(|path| !path.starts_with('/'))
        {
            return Err(format!(
                "has in line {at} a `path` that does not begin with `/`"
            ));
        }
        samples.push(sample);
    }
    match samples.len() {
        0 => Err("has no sample".to_owned()),
        n if n > SAMPLES_MAX => Err(format!("has {n} samples, at most {SAMPLES_MAX} are taken")),
        _ => Ok(samples),
    }
}

/// Sends them one after the other; what is wrong with the first answer that is.
pub(super) async fn ask(
    address: &str,
    model: &str,
    samples: &[Sample],
    tolerance: Option<f64>,
) -> Result<(), String> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let tolerance = tolerance.unwrap_or(TOLERANCE);
    for (at, sample) in samples.iter().enumerate() {
        let asked = async {
            let path = match &sample.path {
                Some(path) => path.clone(),
                None => format!("/v1/models/{model}:predict"),
            };
            let request = Request::post(format!("http://{address}{path}"))
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(sample.request.to_string())))
                .map_err(|error| error.to_string())?;
            let answer = client
                .request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
            let body = body.await.map_err(|error| error.to_string())?.to_bytes();
            judge(sample, status, &body, tolerance)
        };
        let answered = tokio::time::timeout(ANSWER_MAX, asked).await;
        let answered = answered
            .unwrap_or_else(|_| Err(format!("no answer came within {} s", ANSWER_MAX.as_secs())));
        answered.map_err(|why| format!("sample request {}: {why}", at + 1))?;
    }
    Ok(())
}

fn judge(sample: &Sample, status: StatusCode, body: &[u8], tolerance: f64) -> Result<(), String> {
    let quoted = || {
        let text = String::from_utf8_lossy(body);
        text.chars().take(QUOTED_MAX).collect::<String>()
    };
    if !status.is_success() {
        return Err(format!("the answer is {}: {}", status.as_u16(), quoted()));
    }
    let Some(wanted) = &sample.response else {
        return Ok(());
    };
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| format!("the answer is not JSON: {}", quoted()))?;
    match difference(&answer, wanted, tolerance, "") {
        Some(told) => Err(told),
        None => Ok(()),
    }
}

/// The first place where an answer is not as expected, as a sentence.
fn difference(answer: &Value, wanted: &Value, tolerance: f64, at: &str) -> Option<String> {
    let here = || {
        let name = at.trim_start_matches('.');
        if name.is_empty() {
            "the answer".to_owned()
        } else {
            format!("`{name}`")
        }
    };
    match (answer, wanted) {
        (Value::Object(answer), Value::Object(wanted)) => {
            wanted
                .iter()
                .find_map(|(key, wanted)| match answer.get(key) {
                    Some(answer) => difference(answer, wanted, tolerance, &format!("{at}.{key}")),
                    None => Some(format!("{} has no `{key}`", here())),
                })
        }
        (Value::Array(answer), Value::Array(wanted)) if answer.len() != wanted.len() => {
            Some(format!(
                "{} has {} elements, {} are expected",
                here(),
                answer.len(),
                wanted.len()
            ))
        }
        (Value::Array(answer), Value::Array(wanted)) => {
            let mut pairs = answer.iter().zip(wanted).enumerate();
            pairs.find_map(|(n, (answer, wanted))| {
                difference(answer, wanted, tolerance, &format!("{at}[{n}]"))
            })
        }
        _ => {
            let is_near = match (answer.as_f64(), wanted.as_f64()) {
                (Some(answer), Some(wanted)) => {
                    (answer - wanted).abs() <= tolerance * wanted.abs().max(1.0)
                }
                _ => answer == wanted,
            };
            (!is_near).then(|| format!("{} is {answer}, {wanted} is expected", here()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_say_what_is_wrong_with_them() {
        let samples =
            read(b"{\"request\": {}}\n\n{\"path\": \"/x\", \"request\": 1, \"response\": 2}\n");
        assert_eq!(samples.unwrap().len(), 2);
        for (text, wanted) in [
            (&b"\n"[..], "has no sample"),
            (
                b"{\"request\": 1}\n{\"ask\": 1}",
                "in line 2: unknown field `ask`",
            ),
            (b"{\"path\": \"x\", \"request\": 1}", "in line 1 a `path`"),
            (b"\xff", "is not UTF-8"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(wanted), "{told}");
        }
        assert!(read("{\"request\":1}\n".repeat(1_001).as_bytes()).is_err());
    }

    #[test]
    fn answers_are_compared_where_something_is_expected() {
        let answer = json!({"predictions": [0.5, 100.0], "more": true, "class": "late"});
        let told = |wanted: Value| difference(&answer, &wanted, 1e-3, "");
        assert_eq!(told(json!({})), None);
        assert_eq!(told(json!({"predictions": [0.5009, 100.09]})), None);
        assert_eq!(
            told(json!({"predictions": [0.502, 100.0]})).unwrap(),
            "`predictions[0]` is 0.5, 0.502 is expected"
        );
        assert_eq!(
            told(json!({"predictions": [0.5]})).unwrap(),
            "`predictions` has 2 elements, 1 are expected"
        );
        assert_eq!(told(json!({"x": 1})).unwrap(), "the answer has no `x`");
        assert_eq!(
            told(json!({"class": "in time"})).unwrap(),
            "`class` is \"late\", \"in time\" is expected"
        );
        assert_eq!(
            told(json!([1])).map(|told| told.starts_with("the answer is {")),
            Some(true)
        );
    }

    #[test]
    fn an_answer_that_is_none_is_quoted() {
        let sample = &read(b"{\"request\": 1, \"response\": 2}").unwrap()[0];
        let told = judge(sample, StatusCode::BAD_REQUEST, b"column `x`", 0.0).unwrap_err();
        assert_eq!(told, "the answer is 400: column `x`");
        let told = judge(sample, StatusCode::OK, b"<html>", 0.0).unwrap_err();
        assert_eq!(told, "the answer is not JSON: <html>");
        assert_eq!(judge(sample, StatusCode::OK, b"2.0", 0.0), Ok(()));
    }
}
