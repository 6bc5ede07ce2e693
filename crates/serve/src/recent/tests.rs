//! What is kept, and a version that counts what it is warmed with.

use super::*;
use crate::error::{Result, ServeError};
use crate::runtime::{Columns, FirstRun, Signature, Task};
use crate::tensor::Datatype;

fn recent() -> (Recent, Arc<AtomicUsize>) {
    let all = Arc::new(AtomicUsize::new(0));
    (Recent::new(Arc::clone(&all)), all)
}

fn inputs(values: &[i64]) -> Vec<Tensor> {
    vec![Tensor {
        name: "x".to_owned(),
        datatype: Datatype::I64,
        shape: vec![values.len()],
        data: Data::Int(values.to_vec()),
    }]
}

/// As a request does that is answered.
fn request(recent: &Recent, signature: &str, values: &[i64]) -> bool {
    match recent.sample(signature, &inputs(values)) {
        Some(sample) => {
            recent.keep(sample);
            true
        }
        None => false,
    }
}

/// Notes what it runs; refuses -1, fails on -2, panics on -3.
struct Notes {
    signatures: Vec<Signature>,
    ran: Mutex<Vec<(usize, i64)>>,
}

fn notes(names: &[&str]) -> Notes {
    let signatures = names.iter().map(|name| Signature {
        name: (*name).to_owned(),
        method: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        columns: Columns::default(),
        task: Task::Other,
        is_row_wise: true,
    });
    Notes {
        signatures: signatures.collect(),
        ran: Mutex::default(),
    }
}

fn first(inputs: &[Tensor]) -> i64 {
    match &inputs[0].data {
        Data::Int(values) => values[0],
        other => panic!("{other:?}"),
    }
}

impl Runtime for Notes {
    fn platform(&self) -> &'static str {
        "fake"
    }
    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
    fn memory(&self) -> u64 {
        0
    }
    fn check(&self, _: usize, inputs: &mut Vec<Tensor>) -> Result<()> {
        match first(inputs) {
            -1 => Err(ServeError::invalid("no such input")),
            _ => Ok(()),
        }
    }
    fn run(&self, at: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let value = first(inputs);
        assert!(value != -3, "this row is poison");
        self.ran.lock().unwrap().push((at, value));
        match value {
            -2 => Err(ServeError::invalid("no such word")),
            _ => Ok(Vec::new()),
        }
    }
    fn warm_up(&self) -> Vec<FirstRun> {
        Vec::new()
    }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_version_is_warmed_with_what_fits_it_and_failures_are_only_counted() {
    let (recent, _) = recent();
    for value in [7, 7, 8, -1, -2, -3] {
        request(&recent, "a", &[value]);
    }
    request(&recent, "b", &[9]);
    request(&recent, "gone", &[10]);
    // The signatures stand in another order in the new version.
    let version = notes(&["b", "a"]);
    let warmed = recent.warm(&version, LONG);
    let wanted = Warmed {
        ok: 3,
        failed: 2,
        unfit: 2,
        left: 0,
    };
    assert_eq!(warmed, wanted);
    let ran = version.ran.into_inner().unwrap();
    assert_eq!(ran, [(1, 7), (1, 8), (1, -2), (0, 9)], "each only once");
    let version = notes(&["a", "b"]);
    let warmed = recent.warm(&version, Duration::ZERO);
    assert_eq!((warmed.ok, warmed.left), (0, 7));
}

#[test]
fn the_first_requests_and_then_few_are_looked_at_and_the_newest_kept() {
    let (recent, all) = recent();
    let n = (0..1_000)
        .filter(|&at| request(&recent, "a", &[at]))
        .count();
    assert_eq!(n, KEPT_MAX + (1_000 / EVERY as usize));
    let version = notes(&["a"]);
    assert_eq!(recent.warm(&version, LONG).ok, KEPT_MAX as u64);
    let ran = version.ran.into_inner().unwrap();
    let last = 1_000 / EVERY as i64 * EVERY as i64;
    assert_eq!(ran.last(), Some(&(0, last)));
    assert_eq!(all.load(Relaxed), KEPT_MAX * 8);
}

#[test]
fn bytes_are_bounded_for_a_request_a_model_and_all_models() {
    let (recent, all) = recent();
    let row = |seed: i64, bytes: usize| vec![seed; bytes / 8];
    assert!(!request(&recent, "a", &row(1, REQUEST_MAX + 8)));
    for seed in 0..10 {
        assert!(request(&recent, "a", &row(seed, REQUEST_MAX)));
        assert!(all.load(Relaxed) <= MODEL_MAX);
    }
    assert_eq!(all.load(Relaxed), MODEL_MAX);
    // Another signature gets room in the same model.
    assert!(request(&recent, "b", &row(1, REQUEST_MAX)));
    let version = notes(&["b"]);
    assert_eq!(recent.warm(&version, LONG).ok, 1);
    // Where all is full, nothing more is kept, and what a model frees is free.
    let other = Recent::new(Arc::clone(&all));
    all.fetch_add(ALL_MAX - MODEL_MAX, Relaxed);
    request(&other, "a", &[1]);
    assert_eq!(other.warm(&notes(&["a"]), LONG), Warmed::default());
    drop(recent);
    assert_eq!(all.load(Relaxed), ALL_MAX - MODEL_MAX);
}

#[test]
fn what_is_switched_off_keeps_nothing() {
    let (recent, all) = recent();
    assert!(request(&recent, "a", &[1]));
    let late = recent.sample("a", &inputs(&[2])).unwrap();
    recent.switch(false);
    recent.keep(late);
    assert!(!request(&recent, "a", &[3]));
    assert_eq!(all.load(Relaxed), 0);
    assert_eq!(recent.warm(&notes(&["a"]), LONG), Warmed::default());
    recent.switch(true);
    assert!(request(&recent, "a", &[4]));
}

#[test]
fn strings_are_copied_out_of_the_body() {
    let (recent, _) = recent();
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    let mut words = inputs(&[1]);
    words[0].data = Data::Bytes(vec![body.slice(..3)]);
    let sample = recent.sample("a", &words).unwrap();
    let Data::Bytes(kept) = &sample.inputs[0].data else {
        panic!("strings");
    };
    assert_eq!(kept[0], body[..3]);
    assert_ne!(kept[0].as_ptr(), body.as_ptr());
}
