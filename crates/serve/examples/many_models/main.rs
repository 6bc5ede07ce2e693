//! Many small models for `moonshot serve --on-demand`, and requests to them as people send them.
//!
//! ```text
//! cargo run --release -p serve --example many_models -- make DIR N [TREES]
//! cargo run --release -p serve --example many_models -- serve DIR ADDRESS MEMORY_MAX
//! cargo run --release -p serve --example many_models -- ask ADDRESS N SECONDS [TREES] [THREADS]
//! ```
//! `make` writes `DIR/mAT/1/model.json` for N models. `serve` is this program as `moonshot serve --on-demand`, with the
//! bytes that models may take together; `moonshot` itself does as well. `ask` sends requests to a server of them, the models by Zipf's
//! law (exponent 1), checks every answer, and prints one JSON object: requests, misses by the server's own count,
//! and the client's times in milliseconds, of those that waited for a load and of those that did not.

mod maker;

use serde_json::{Value, json};
use serve::config::{self, Config};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

const TREES: usize = 50;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        let text = args.get(at);
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    match args.first().map(String::as_str) {
        Some("make") => make(Path::new(&args[1]), number(2, 1_000), number(3, TREES)),
        Some("ask") => ask(
            &args[1],
            number(2, 1_000),
            Duration::from_secs(number(3, 10) as u64),
            number(4, TREES),
            number(5, 2),
        ),
        Some("serve") => serve_here(&args[1], &args[2], number(3, usize::MAX) as u64),
        _ => panic!(
            "`make DIR N [TREES]`, `serve DIR ADDRESS MEMORY_MAX` or `ask ADDRESS N SECONDS [TREES] [THREADS]`"
        ),
    }
}

fn make(dir: &Path, n: usize, n_trees: usize) {
    for seed in 0..n {
        let place = dir.join(format!("m{seed}/1"));
        std::fs::create_dir_all(&place).expect("a directory");
        std::fs::write(place.join("model.json"), maker::model(seed, n_trees)).expect("a file");
    }
}

fn serve_here(dir: &str, address: &str, memory_max: u64) {
    let config = Config {
        // Only tree models are served here.
        runtimes: serve::runtimes::Runtimes::usual(),
        listen_grpc: None,
        dir: dir.into(),
        listen: address.parse().expect("an address"),
        versions: config::Policy::Latest(1),
        poll: config::POLL,
        n_workers: std::thread::available_parallelism().map_or(1, usize::from),
        memory_max,
        body_max: config::BODY_MAX,
        queue_max: config::QUEUE_MAX,
        strict: false,
        on_demand: true,
        batch_rows_max: config::BATCH_ROWS_MAX,
        timeout: config::TIMEOUT,
    };
    // As `moonshot` itself is run.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let server = serve::Server::start(config).await.expect("a server");
        // Ends by a signal.
        server.run(tokio_util::sync::CancellationToken::new()).await;
    });
}

/// A request's time, and whether it waited for a load.
struct Took {
    total: Duration,
    is_miss: bool,
}

fn ask(address: &str, n: usize, time: Duration, n_trees: usize, n_threads: usize) {
    let before = counters(address);
    let end = Instant::now() + time;
    let threads: Vec<_> = (0..n_threads as u64)
        .map(|thread| {
            let address = address.to_owned();
            std::thread::spawn(move || client(&address, n, n_trees, end, thread))
        })
        .collect();
    let all: Vec<Took> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no request fails"))
        .collect();
    let after = counters(address);
    let moved =
        |name: &str| after[name].as_f64().unwrap_or(0.0) - before[name].as_f64().unwrap_or(0.0);
    let times = |is_miss: bool| {
        let of = all.iter().filter(|took| took.is_miss == is_miss);
        let mut ms: Vec<f64> = of.map(|took| took.total.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let at = |part: f64| ms.get((ms.len() as f64 * part) as usize).copied();
        json!({"n": ms.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": ms.last()})
    };
    let (hits, misses) = (moved("hits_total"), moved("misses_total"));
    let line = json!({
        "requests": all.len(),
        "hit_rate": hits / (hits + misses).max(1.0),
        "misses": misses,
        "loads": moved("loads_total{outcome=\"ok\"}"),
        "load_mean_ms": 1e3 * moved("load_seconds_sum") / moved("load_seconds_count").max(1.0),
        "evictions": moved("evictions_total"),
        "hit": times(false),
        "miss": times(true),
    });
    println!("{line}");
}

/// Asks until the time is over. Panics on an answer that is not right.
fn client(address: &str, n: usize, n_trees: usize, end: Instant, thread: u64) -> Vec<Took> {
    let mut dice = e2e::Dice(thread + 1);
    let ends: Vec<f64> = (1..=n)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let row = vec![0; maker::FEATURES];
    let body = json!({ "instances": [row] }).to_string();
    let mut stream = BufReader::new(TcpStream::connect(address).expect("a server"));
    stream.get_ref().set_nodelay(true).expect("an option");
    let mut all = Vec::new();
    while Instant::now() < end {
        let drawn = dice.below(1 << 32) as f64 / (1_u64 << 32) as f64 * ends[n - 1];
        let seed = ends.partition_point(|end| *end <= drawn).min(n - 1);
        let path = format!("/v1/models/m{seed}:predict");
        let begun = Instant::now();
        let (head, answer) = call(&mut stream, "POST", &path, &body);
        let total = begun.elapsed();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        // The text has as many digits as the model's own type needs.
        let got = answer["predictions"][0].as_f64().map(|value| value as f32);
        let wanted = maker::answer(seed, n_trees) as f32;
        assert_eq!(got, Some(wanted), "model m{seed}");
        all.push(Took {
            total,
            is_miss: head.contains("load;dur="),
        });
    }
    all
}

fn call(
    stream: &mut BufReader<TcpStream>,
    method: &str,
    path: &str,
    body: &str,
) -> (String, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nx-moonshot-timing: 1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .get_mut()
        .write_all(request.as_bytes())
        .expect("the server reads");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let n = stream.read_line(&mut head).expect("the server answers");
        assert!(n > 0, "the server hung up");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.parse().expect("a length"))
    });
    let mut answer = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut answer).expect("a whole answer");
    (head, String::from_utf8(answer).expect("text"))
}

/// The server's own numbers, by their names without `moonshot_serve_`.
fn counters(address: &str) -> Value {
    let mut stream = BufReader::new(TcpStream::connect(address).expect("a server"));
    let (_, text) = call(&mut stream, "GET", "/metrics", "");
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let name = name.strip_prefix("moonshot_serve_")?;
        Some((name.to_owned(), json!(value.parse::<f64>().ok()?)))
    });
    Value::Object(lines.collect())
}
