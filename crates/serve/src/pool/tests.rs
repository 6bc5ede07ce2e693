//! The pool with a model that waits until it is told to go on.

use super::*;
use crate::recent::Recent;
use crate::runtime::{FirstRun, Runtime, Signature, Task as Meaning};
use crate::tensor::{Data, Datatype};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Long enough that no test reaches it.
const LONG: Duration = Duration::from_secs(600);

/// Says how many rows each run has, then waits for the word to go on. A row of -1 makes it panic.
struct Slow {
    began: Mutex<Sender<usize>>,
    go_on: Mutex<Receiver<()>>,
    signatures: [Signature; 2],
}

impl Runtime for Slow {
    fn platform(&self) -> &'static str {
        "fake"
    }
    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
    fn memory(&self) -> u64 {
        0
    }
    fn check(&self, _: usize, _: &mut Vec<Tensor>) -> Result<()> {
        Ok(())
    }
    fn run(&self, _: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let Data::Int(values) = &inputs[0].data else {
            panic!("the tests send whole numbers");
        };
        lock(&self.began).send(values.len()).unwrap();
        lock(&self.go_on).recv().unwrap();
        assert!(!values.contains(&-1), "this row is poison");
        Ok(inputs.to_vec())
    }
    fn warm_up(&self) -> Vec<FirstRun> {
        Vec::new()
    }
}

/// A version of [`Slow`] and the two ends of its strings.
fn slow(name: &str) -> (Arc<Version>, Receiver<usize>, Sender<()>) {
    let (began_sender, began) = channel();
    let (go, go_on) = channel();
    let runtime = Box::new(Slow {
        began: Mutex::new(began_sender),
        go_on: Mutex::new(go_on),
        signatures: ["a", "b"].map(|name| Signature {
            name: name.to_owned(),
            method: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            columns: crate::runtime::Columns::default(),
            task: Meaning::Other,
            is_row_wise: true,
        }),
    });
    let recent = Arc::new(Recent::new(Arc::default()));
    let version = Version::new(name, 1, runtime, Arc::default(), recent);
    (Arc::new(version), began, go)
}

fn rows(values: &[i64]) -> Vec<Tensor> {
    vec![Tensor {
        name: "x".to_owned(),
        datatype: Datatype::I64,
        shape: vec![values.len()],
        data: Data::Int(values.to_vec()),
    }]
}

type Waits = oneshot::Receiver<Result<Answer>>;

fn submit(pool: &Pool, version: &Arc<Version>, values: &[i64]) -> Result<Waits> {
    pool.submit(version, 0, rows(values), Instant::now() + LONG)
}

fn values(waits: Waits) -> Result<Vec<i64>> {
    let answer = waits.blocking_recv().expect("an answer")?;
    match &answer.outputs[0].data {
        Data::Int(values) => Ok(values.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_waits_is_run_together_and_each_gets_its_rows() {
    let pool = Pool::start(1, 10, 5).unwrap();
    let (version, began, go) = slow("m");
    let first = submit(&pool, &version, &[1]).unwrap();
    assert_eq!(
        began.recv().unwrap(),
        1,
        "a free worker does not wait for more"
    );
    let others: Vec<Waits> = [&[2, 3][..], &[4], &[5, 6], &[7]]
        .iter()
        .map(|values| submit(&pool, &version, values).unwrap())
        .collect();
    go.send(()).unwrap();
    assert_eq!(began.recv().unwrap(), 5, "up to the bound");
    go.send(()).unwrap();
    assert_eq!(began.recv().unwrap(), 1);
    go.send(()).unwrap();
    assert_eq!(values(first).unwrap(), [1]);
    let answers: Vec<Vec<i64>> = others
        .into_iter()
        .map(|waits| values(waits).unwrap())
        .collect();
    assert_eq!(answers, [vec![2, 3], vec![4], vec![5, 6], vec![7]]);
    pool.close();
}

#[test]
fn a_full_queue_refuses_with_its_age() {
    let pool = Pool::start(1, 2, 100).unwrap();
    let (version, began, go) = slow("m");
    let running = submit(&pool, &version, &[1]).unwrap();
    began.recv().unwrap();
    let waiting = [
        submit(&pool, &version, &[2]).unwrap(),
        submit(&pool, &version, &[3]).unwrap(),
    ];
    assert_eq!(version.lane.waiting().0, 2);
    let error = submit(&pool, &version, &[4]).unwrap_err();
    assert_eq!(error.code, Code::Exhausted);
    assert!(
        error
            .text
            .contains("the queue of model `m` is full: 2 requests wait, the oldest for"),
        "{error}"
    );
    go.send(()).unwrap();
    go.send(()).unwrap();
    for waits in [running].into_iter().chain(waiting) {
        values(waits).unwrap();
    }
    pool.close();
}

#[test]
fn what_is_late_or_abandoned_does_not_run() {
    let pool = Pool::start(1, 10, 1).unwrap();
    let (version, began, go) = slow("m");
    let running = submit(&pool, &version, &[1]).unwrap();
    began.recv().unwrap();
    let late = pool
        .submit(&version, 0, rows(&[2]), Instant::now())
        .unwrap();
    drop(submit(&pool, &version, &[3]).unwrap());
    let good = submit(&pool, &version, &[4]).unwrap();
    go.send(()).unwrap();
    began.recv().unwrap();
    go.send(()).unwrap();
    assert_eq!(values(running).unwrap(), [1]);
    assert_eq!(values(late).unwrap_err().code, Code::Timeout);
    assert_eq!(values(good).unwrap(), [4]);
    pool.close();
    assert!(began.try_recv().is_err(), "only two ran");
}

#[test]
fn models_take_turns() {
    let pool = Pool::start(1, 100, 1).unwrap();
    let (busy, busy_began, busy_go) = slow("busy");
    let (quiet, quiet_began, quiet_go) = slow("quiet");
    let mut waits: Vec<Waits> = (0..20)
        .map(|at| submit(&pool, &busy, &[at]).unwrap())
        .collect();
    busy_began.recv().unwrap();
    let one = submit(&pool, &quiet, &[7]).unwrap();
    busy_go.send(()).unwrap();
    // The busy model had entered the ring before it, once.
    busy_began.recv().unwrap();
    busy_go.send(()).unwrap();
    quiet_began.recv().unwrap();
    quiet_go.send(()).unwrap();
    assert_eq!(values(one).unwrap(), [7]);
    for _ in 0..18 {
        busy_go.send(()).unwrap();
    }
    waits
        .drain(..)
        .for_each(|waits| drop(values(waits).unwrap()));
    pool.close();
}

#[test]
fn a_model_that_panics_fails_its_own_request_only() {
    let pool = Pool::start(1, 10, 10).unwrap();
    let (version, began, go) = slow("m");
    let first = submit(&pool, &version, &[1]).unwrap();
    began.recv().unwrap();
    let good = submit(&pool, &version, &[2]).unwrap();
    let poison = submit(&pool, &version, &[-1]).unwrap();
    // The batch fails, then each alone.
    (0..4).for_each(|_| go.send(()).unwrap());
    assert_eq!(values(first).unwrap(), [1]);
    assert_eq!(values(good).unwrap(), [2]);
    let error = values(poison).unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert!(
        !error.text.contains("poison"),
        "the detail is for the log: {error}"
    );
    pool.close();
}

#[test]
fn a_limited_model_leaves_workers_to_others() {
    let pool = Pool::start(2, 100, 1).unwrap();
    let (heavy, heavy_began, heavy_go) = slow("heavy");
    let (light, light_began, light_go) = slow("light");
    heavy.lane.limit(1);
    let waits: Vec<Waits> = (0..3)
        .map(|at| submit(&pool, &heavy, &[at]).unwrap())
        .collect();
    heavy_began.recv().unwrap();
    // The second worker is free for it, though requests for the other wait.
    let one = submit(&pool, &light, &[7]).unwrap();
    light_began.recv().unwrap();
    light_go.send(()).unwrap();
    assert_eq!(values(one).unwrap(), [7]);
    assert_eq!(heavy.lane.waiting().0, 2);
    assert!(heavy_began.try_recv().is_err(), "one at a time");
    heavy_go.send(()).unwrap();
    heavy_began.recv().unwrap();
    // Raised while it runs, the last one need not wait for the second.
    heavy.lane.limit(2);
    let more = submit(&pool, &heavy, &[9]).unwrap();
    heavy_began.recv().unwrap();
    (0..3).for_each(|_| heavy_go.send(()).unwrap());
    for (at, waits) in waits.into_iter().enumerate() {
        assert_eq!(values(waits).unwrap(), [at as i64]);
    }
    assert_eq!(values(more).unwrap(), [9]);
    pool.close();
}
