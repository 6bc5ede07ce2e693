//! `serve.many`: many small models of which few fit into memory, asked for by Zipf's law (exponent 1): loaded by the requests that
//! need them, those go that were asked for least recently. Beside the same load with memory for all, and with memory for
//! a few, where nearly every request waits for a load.

use super::process::{self, Process};
use super::wire;
use crate::report::{Better, Figure, Report};
use crate::samples::Samples;
use crate::{Failure, Scale, note};
use e2e::{Dice, tree_models};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const TREES: usize = 50;
/// Of a hundred models, how many fit.
const FIT_PERCENT: usize = 20;
const CONNECTIONS: u64 = 4;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let n_models = scale.pick(50, 1_000, 1_000);
    let time = Duration::from_secs(scale.pick(1, 10, 60) as u64);
    let dir = tempfile::tempdir()?;
    for seed in 0..n_models {
        let place = dir.path().join(format!("m{seed}/1"));
        std::fs::create_dir_all(&place)?;
        std::fs::write(place.join("model.json"), tree_models::model(seed, TREES))?;
    }
    let one = memory_of_one(dir.path())?;
    let case = format!("{n_models} models, memory for {FIT_PERCENT} %");
    let all = load(dir.path(), None, n_models, time)?;
    let few = load(
        dir.path(),
        Some(one * (n_models * FIT_PERCENT / 100) as u64),
        n_models,
        time,
    )?;
    // A load is admitted by the size of its file, which is that of three.
    let none = load(dir.path(), Some(4 * one), n_models, time)?;
    for (name, seen) in [
        ("memory for all", &all),
        (case.as_str(), &few),
        ("memory for four", &none),
    ] {
        note(format!(
            "{name}: {:.0}/s, {:.1} % hits, p99 {:.2} ms, of hits {:.2} ms, of misses {:.2} ms, {:.0} MB",
            seen.rate,
            seen.hit_percent,
            seen.total.percentile(99.0),
            seen.hits.percentile(99.0),
            seen.misses.percentile(99.0),
            seen.rss_mb
        ));
    }
    let beside = "memory for all";
    report.add(Figure::rate(&case, few.rate).beside(beside, all.rate))?;
    report.add(Figure::rate(&case, few.rate).beside("memory for four", none.rate))?;
    report.add(
        Figure::new(&case, "hit_percent", few.hit_percent, "%", Better::Higher)
            .beside("memory for four", none.hit_percent),
    )?;
    for (metric, part) in [("p50_ms", 50.0), ("p99_ms", 99.0)] {
        let figure = Figure::ms(&case, metric, few.total.percentile(part));
        report.add(figure.clone().beside(beside, all.total.percentile(part)))?;
        report.add(figure.beside("memory for four", none.total.percentile(part)))?;
    }
    report.add(
        Figure::ms(&case, "hit_p99_ms", few.hits.percentile(99.0))
            .beside(beside, all.hits.percentile(99.0)),
    )?;
    report.add(Figure::ms(
        &case,
        "miss_p50_ms",
        few.misses.percentile(50.0),
    ))?;
    report.add(Figure::ms(
        &case,
        "miss_p99_ms",
        few.misses.percentile(99.0),
    ))?;
    report.add(
        Figure::new(&case, "rss_mb", few.rss_mb, "MB", Better::Lower).beside(beside, all.rss_mb),
    )
}

/// What one model takes by the server's own count.
fn memory_of_one(dir: &Path) -> Result<u64, Failure> {
    let server = process::moonshot(dir, &["--on-demand"])?;
    server.post("/v1/models/m0:predict", &[], row().as_bytes())?;
    let text = String::from_utf8(server.get("/metrics")?)?;
    let name = "moonshot_serve_memory_bytes{model=\"m0\",version=\"1\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.ok_or("its memory is not told")?.parse()?)
}

fn row() -> String {
    json!({ "instances": [vec![0; tree_models::FEATURES]] }).to_string()
}

/// What came of a load.
struct Seen {
    rate: f64,
    hit_percent: f64,
    total: Samples,
    hits: Samples,
    misses: Samples,
    rss_mb: f64,
}

/// Asks a fresh server; the first part of the time is not counted.
fn load(dir: &Path, memory: Option<u64>, n_models: usize, time: Duration) -> Result<Seen, Failure> {
    let memory = memory.map(|bytes| bytes.to_string());
    let mut args = vec!["--on-demand"];
    if let Some(memory) = &memory {
        args.extend(["--memory-max", memory]);
    }
    let server = process::moonshot(dir, &args)?;
    clients(&server, n_models, time / 4)?;
    let began = Instant::now();
    let took = clients(&server, n_models, time)?;
    let seconds = began.elapsed().as_secs_f64();
    let (mut total, mut hits, mut misses) =
        (Samples::default(), Samples::default(), Samples::default());
    for Took { time, is_miss } in &took {
        total.push(*time);
        if *is_miss {
            misses.push(*time)
        } else {
            hits.push(*time)
        }
    }
    Ok(Seen {
        rate: took.len() as f64 / seconds,
        hit_percent: hits.len() as f64 * 100.0 / took.len().max(1) as f64,
        total,
        hits,
        misses,
        rss_mb: server.usage().rss_mb,
    })
}

/// A request's time, and whether it waited for a load.
struct Took {
    time: Duration,
    is_miss: bool,
}

fn clients(server: &Process, n_models: usize, time: Duration) -> Result<Vec<Took>, Failure> {
    let (address, end) = (server.address, Instant::now() + time);
    let threads: Vec<_> = (1..=CONNECTIONS)
        .map(|seed| std::thread::spawn(move || client(address, n_models, end, seed)))
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| "a client panicked")??);
    }
    Ok(all)
}

/// Asks until the time is over; each answer must be the model's own.
fn client(
    address: SocketAddr,
    n_models: usize,
    end: Instant,
    seed: u64,
) -> Result<Vec<Took>, Failure> {
    let mut dice = Dice(seed);
    let harmonic = (1..=n_models).scan(0.0, |sum, rank| {
        *sum += 1.0 / rank as f64;
        Some(*sum)
    });
    let ends: Vec<f64> = harmonic.collect();
    let whole = ends[n_models - 1];
    let headers = [("x-moonshot-timing".to_owned(), "1".to_owned())];
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut all, mut received, body) = (Vec::new(), Vec::new(), row());
    while Instant::now() < end {
        let drawn = dice.below(1 << 32) as f64 / (1_u64 << 32) as f64 * whole;
        let model = ends.partition_point(|end| *end <= drawn).min(n_models - 1);
        let path = format!("/v1/models/m{model}:predict");
        let request = wire::request("POST", &path, &headers, body.as_bytes());
        let begun = Instant::now();
        stream.write_all(&request)?;
        received.clear();
        let answer = loop {
            if let Some(answer) = wire::answer(&received)? {
                break answer;
            }
            let mut some = [0; 4_096];
            match stream.read(&mut some)? {
                0 => return Err("the server hung up".into()),
                n => received.extend_from_slice(&some[..n]),
            }
        };
        let time = begun.elapsed();
        let text = &received[answer.body..answer.end];
        let value: Value = serde_json::from_slice(text)?;
        let got = value["predictions"][0].as_f64().map(|value| value as f32);
        if answer.status != 200 || got != Some(tree_models::answer(model, TREES) as f32) {
            return Err(format!("m{model}: {} {value}", answer.status).into());
        }
        let timing = wire::header(&received, "server-timing").unwrap_or_default();
        all.push(Took {
            time,
            is_miss: timing.contains("load;dur="),
        });
    }
    Ok(all)
}
