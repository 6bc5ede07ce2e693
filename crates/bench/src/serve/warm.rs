//! `serve.warm`: the first answer of a version that has just become ready, where requests that callers sent were run on it before,
//! and where `model.toml` forbids that. A graph of TensorFlow and one of ONNX Runtime, sixteen rows a request, one version
//! after the other.

use super::models::{self, Framework};
use super::process;
use crate::report::{Figure, Report};
use crate::samples::Samples;
use crate::{Failure, Scale, note};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROWS: usize = 16;
const COLUMNS: usize = 200;
/// Requests to each version: the first is measured, the others are recorded.
const REQUESTS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let n_versions = scale.pick(3, 40, 200);
    for framework in [Framework::Tensorflow, Framework::Onnx] {
        let with = first_answers(framework, scale, n_versions, true)?;
        let without = first_answers(framework, scale, n_versions, false)?;
        let case = format!("{framework:?}, {n_versions} versions");
        note(format!(
            "{case}: the first answer takes {:.2} ms (p50) and {:.2} ms (p99), without recorded requests {:.2} and {:.2}; the others {:.2} ms",
            with.first.percentile(50.0),
            with.first.percentile(99.0),
            without.first.percentile(50.0),
            without.first.percentile(99.0),
            with.others.percentile(50.0),
        ));
        let peer = "without recorded requests";
        for (metric, part) in [("first_p50_ms", 50.0), ("first_p99_ms", 99.0)] {
            report.add(
                Figure::ms(&case, metric, with.first.percentile(part))
                    .beside(peer, without.first.percentile(part)),
            )?;
        }
        let later = Figure::ms(&case, "later_p50_ms", with.others.percentile(50.0));
        report.add(later.beside(peer, without.others.percentile(50.0)))?;
    }
    Ok(())
}

struct Seen {
    first: Samples,
    others: Samples,
}

fn first_answers(
    framework: Framework,
    scale: Scale,
    n_versions: usize,
    records: bool,
) -> Result<Seen, Failure> {
    let made = models::make(framework, scale)?;
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("model");
    made.publish(&model, 1)?;
    std::fs::write(
        model.join("model.toml"),
        format!("record_requests = {records}\n"),
    )?;
    let server = process::moonshot(dir.path(), &["--poll-ms", "10"])?;
    let values = made.rows()?;
    let rows = values.chunks_exact(COLUMNS).take(ROWS);
    let rows: Vec<&[f32]> = rows.collect();
    let body = json!({ "instances": rows }).to_string();
    let ask = || -> Result<(Duration, Value), Failure> {
        let begun = Instant::now();
        let answer = server.post("/v1/models/model:predict", &[], body.as_bytes())?;
        let took = begun.elapsed();
        Ok((took, serde_json::from_slice(&answer)?))
    };
    let (mut first, mut others) = (Samples::default(), Samples::default());
    for number in 1..=n_versions as u64 {
        if number > 1 {
            made.publish(&model, number)?;
            let path = format!("/v2/models/model/versions/{number}/ready");
            let begun = Instant::now();
            // A question about another version runs nothing.
            while let Err(error) = server.get(&path) {
                if begun.elapsed() > PATIENCE {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::remove_dir_all(model.join((number - 1).to_string()))?;
        }
        for at in 0..REQUESTS {
            let (took, answer) = ask()?;
            for (got, wanted) in made.answers.iter().take(ROWS).enumerate() {
                let value = &answer["predictions"][got];
                let value = value[0].as_f64().or(value.as_f64());
                models::same(value.ok_or("no number")?, *wanted).or_else(|error| {
                    // A row in a batch of another size is rounded elsewhere.
                    let is_near = value.is_some_and(|value| (value - wanted).abs() < 1e-5);
                    if is_near { Ok(()) } else { Err(error) }
                })?;
            }
            match (number, at) {
                // The first version has nothing that was recorded.
                (1, _) => {}
                (_, 0) => first.push(took),
                (_, _) => others.push(took),
            }
        }
    }
    Ok(Seen { first, others })
}
