//! Requests as they came, kept in memory to warm a model's next version with, or the same one when it comes back
//! from disk. Few, and taken so that requests hardly feel it: one in many, and never by waiting for a lock.
//!
//! TensorFlow Serving's warm-up file is the model's own, so that its failure is the model's; these are the callers',
//! who may have sent what only an older version takes: a run of theirs that fails is counted and told, and the
//! version is ready nevertheless. What they hold goes nowhere but into the model.

use crate::runtime::Runtime;
use crate::tensor::{Data, Tensor};
use bytes::Bytes;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests that are kept of a signature.
const KEPT_MAX: usize = 16;
/// Bytes of a request; larger ones are not kept.
const REQUEST_MAX: usize = 64 << 10;
/// Bytes that are kept of a model.
const MODEL_MAX: usize = 256 << 10;
/// Bytes that are kept of all models.
const ALL_MAX: usize = 64 << 20;
/// After the first ones, one request in so many is looked at.
const EVERY: u64 = 64;

/// A model's requests, over its versions.
pub(crate) struct Recent {
    /// Requests that came.
    n: AtomicU64,
    is_on: AtomicBool,
    kept: Mutex<Kept>,
    /// Bytes that all models keep.
    all: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    signatures: Vec<(String, VecDeque<Sample>)>,
}

/// A copy of a request's inputs.
#[derive(Clone)]
pub(crate) struct Sample {
    signature: String,
    inputs: Vec<Tensor>,
    bytes: usize,
    /// The same for the same inputs.
    print: u64,
}

/// How the runs of recorded requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Warmed {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// Not run: the version has no such signature or takes no such inputs.
    pub(crate) unfit: u64,
    /// Not run: the time was over.
    pub(crate) left: u64,
}

impl Recent {
    pub(crate) fn new(all: Arc<AtomicUsize>) -> Recent {
        Recent {
            n: AtomicU64::new(0),
            is_on: AtomicBool::new(true),
            kept: Mutex::default(),
            all,
        }
    }

    /// Whether requests are kept; what is kept goes where they are not.
    pub(crate) fn switch(&self, is_on: bool) {
        if self.is_on.swap(is_on, Relaxed) && !is_on {
            let kept = std::mem::take(&mut *self.lock());
            self.all.fetch_sub(kept.bytes, Relaxed);
        }
    }

    /// A copy of a request where it is one that should be kept.
    pub(crate) fn sample(&self, signature: &str, inputs: &[Tensor]) -> Option<Sample> {
        if !self.is_on.load(Relaxed) {
            return None;
        }
        let n = self.n.fetch_add(1, Relaxed);
        if n >= KEPT_MAX as u64 && !n.is_multiple_of(EVERY) {
            return None;
        }
        let bytes = inputs.iter().map(Tensor::bytes).sum();
        if bytes > REQUEST_MAX {
            return None;
        }
        let print = print(inputs);
        if self.kept.try_lock().ok()?.has(signature, print) {
            return None;
        }
        Some(Sample {
            signature: signature.to_owned(),
            inputs: inputs.iter().map(copy).collect(),
            bytes,
            print,
        })
    }

    /// Keeps it in place of the oldest.
    pub(crate) fn keep(&self, sample: Sample) {
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        if !self.is_on.load(Relaxed) || kept.has(&sample.signature, sample.print) {
            return;
        }
        let mut gone = 0;
        while kept.bytes + sample.bytes > MODEL_MAX {
            gone += kept.drop_one();
        }
        let ring = kept.ring(&sample.signature);
        if ring.len() == KEPT_MAX
            && let Some(oldest) = ring.pop_front()
        {
            kept.bytes -= oldest.bytes;
            gone += oldest.bytes;
        }
        let all = self.all.fetch_sub(gone, Relaxed) - gone;
        if all + sample.bytes <= ALL_MAX {
            self.all.fetch_add(sample.bytes, Relaxed);
            kept.bytes += sample.bytes;
            kept.ring(&sample.signature).push_back(sample);
        }
    }

    /// Runs what is kept on a version that is not ready yet, for about `patience` at most.
    pub(crate) fn warm(&self, runtime: &dyn Runtime, patience: Duration) -> Warmed {
        let samples: Vec<Sample> = {
            let kept = self.lock();
            let rings = kept.signatures.iter();
            rings.flat_map(|(_, ring)| ring).cloned().collect()
        };
        let mut warmed = Warmed::default();
        let begun = Instant::now();
        for mut sample in samples {
            if begun.elapsed() >= patience {
                warmed.left += 1;
                continue;
            }
            let mut signatures = runtime.signatures().iter();
            let at = signatures.position(|known| known.name == sample.signature);
            let at = at.filter(|&at| runtime.check(at, &mut sample.inputs).is_ok());
            let Some(at) = at else {
                warmed.unfit += 1;
                continue;
            };
            // The text of a failure may hold what a caller sent.
            match catch_unwind(AssertUnwindSafe(|| runtime.run(at, &sample.inputs))) {
                Ok(Ok(_)) => warmed.ok += 1,
                Ok(Err(_)) | Err(_) => warmed.failed += 1,
            }
        }
        warmed
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No code that can panic runs under the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.all.fetch_sub(bytes, Relaxed);
    }
}

impl Kept {
    fn has(&self, signature: &str, print: u64) -> bool {
        let mut rings = self.signatures.iter();
        let found = rings.find(|(name, _)| name == signature);
        found.is_some_and(|(_, ring)| ring.iter().any(|sample| sample.print == print))
    }

    fn ring(&mut self, signature: &str) -> &mut VecDeque<Sample> {
        let at = self
            .signatures
            .iter()
            .position(|(name, _)| name == signature);
        let at = at.unwrap_or_else(|| {
            self.signatures
                .push((signature.to_owned(), VecDeque::new()));
            self.signatures.len() - 1
        });
        &mut self.signatures[at].1
    }

    /// Drops the oldest request of the signature that has most; says how many bytes it had.
    fn drop_one(&mut self) -> usize {
        let longest = self
            .signatures
            .iter_mut()
            .max_by_key(|(_, ring)| ring.len());
        let oldest = longest.and_then(|(_, ring)| ring.pop_front());
        let bytes = oldest.map_or(self.bytes, |oldest| oldest.bytes);
        self.bytes -= bytes;
        bytes
    }
}

/// Strings are parts of the whole request's bytes; a copy must not keep all of them.
fn copy(tensor: &Tensor) -> Tensor {
    let mut copy = tensor.clone();
    if let Data::Bytes(values) = &mut copy.data {
        for value in values {
            *value = Bytes::copy_from_slice(value);
        }
    }
    copy
}

fn print(inputs: &[Tensor]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        (&input.name, &input.shape).hash(&mut hasher);
        match &input.data {
            Data::F32(values) => values
                .iter()
                .for_each(|value| value.to_bits().hash(&mut hasher)),
            Data::F64(values) => values
                .iter()
                .for_each(|value| value.to_bits().hash(&mut hasher)),
            Data::Int(values) => values.hash(&mut hasher),
            Data::Bytes(values) => values.hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
