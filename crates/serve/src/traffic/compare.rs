//! The answers of two versions to the same request: how they differ, in numbers. Pure.

use crate::tensor::{Data, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The differences of all requests that were compared.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Differences {
    /// Requests.
    n: u64,
    /// Requests to which both answered the same, bit for bit.
    n_equal: u64,
    outputs: BTreeMap<String, Output>,
}

/// The differences of one output.
#[derive(Debug, Default, PartialEq)]
struct Output {
    /// Requests in whose answers only one of the two has it, or in another shape or type.
    n_unlike: u64,
    /// Elements that were compared.
    n: u64,
    /// Elements that differ.
    n_differ: u64,
    /// Of the differences of numbers, the shadow's less the other's. Where one is no number, it is not in these.
    max: f64,
    sum: f64,
    sum_abs: f64,
    n_numbers: u64,
}

impl Differences {
    /// Compares what was answered with what the shadow would have answered; whether it is the same.
    pub(crate) fn add(&mut self, answered: &[Tensor], shadow: &[Tensor]) -> bool {
        self.n += 1;
        let mut is_equal = true;
        for ours in answered {
            let output = self.outputs.entry(ours.name.clone()).or_default();
            is_equal &= match shadow.iter().find(|tensor| tensor.name == ours.name) {
                Some(theirs) => output.add(ours, theirs),
                None => output.unlike(),
            };
        }
        for theirs in shadow {
            if !answered.iter().any(|tensor| tensor.name == theirs.name) {
                let output = self.outputs.entry(theirs.name.clone()).or_default();
                is_equal &= output.unlike();
            }
        }
        self.n_equal += u64::from(is_equal);
        is_equal
    }

    /// Requests that were compared.
    pub(crate) fn n(&self) -> u64 {
        self.n
    }

    /// As JSON has it.
    pub(crate) fn json(&self) -> Value {
        let outputs = self.outputs.iter();
        let outputs = outputs.map(|(name, output)| (name.clone(), output.json()));
        json!({
            "compared": self.n,
            "equal": self.n_equal,
            "outputs": Value::Object(outputs.collect()),
        })
    }
}

impl Output {
    fn unlike(&mut self) -> bool {
        self.n_unlike += 1;
        false
    }

    fn add(&mut self, ours: &Tensor, theirs: &Tensor) -> bool {
        if ours.shape != theirs.shape {
            return self.unlike();
        }
        let before = self.n_differ;
        match (&ours.data, &theirs.data) {
            (Data::F32(ours), Data::F32(theirs)) => self.numbers(ours, theirs),
            (Data::F64(ours), Data::F64(theirs)) => self.numbers(ours, theirs),
            // A model may be exported anew in another precision.
            (Data::F32(ours), Data::F64(theirs)) => self.numbers(ours, theirs),
            (Data::F64(ours), Data::F32(theirs)) => self.numbers(ours, theirs),
            (Data::Int(ours), Data::Int(theirs)) => {
                self.n += ours.len() as u64;
                let pairs = ours.iter().zip(theirs);
                self.n_differ += pairs.filter(|(ours, theirs)| ours != theirs).count() as u64;
            }
            (Data::Bytes(ours), Data::Bytes(theirs)) => {
                self.n += ours.len() as u64;
                let pairs = ours.iter().zip(theirs);
                self.n_differ += pairs.filter(|(ours, theirs)| ours != theirs).count() as u64;
            }
            _ => return self.unlike(),
        }
        self.n_differ == before
    }

    fn numbers<A, B>(&mut self, ours: &[A], theirs: &[B])
    where
        A: Copy + Into<f64>,
        B: Copy + Into<f64>,
    {
        self.n += ours.len() as u64;
        for (&ours, &theirs) in ours.iter().zip(theirs) {
            let (ours, theirs): (f64, f64) = (ours.into(), theirs.into());
            if ours.is_nan() && theirs.is_nan() {
                continue;
            }
            self.n_differ += u64::from(ours != theirs);
            // Equal infinities differ by nothing.
            let difference = if ours == theirs { 0.0 } else { theirs - ours };
            if difference.is_finite() {
                self.n_numbers += 1;
                self.sum += difference;
                self.sum_abs += difference.abs();
                self.max = self.max.max(difference.abs());
            }
        }
    }

    fn json(&self) -> Value {
        let mean = |sum: f64| sum / self.n_numbers.max(1) as f64;
        let mut value = json!({
            "elements": self.n,
            "differing": self.n_differ,
            "unlike": self.n_unlike,
        });
        if self.n_numbers > 0 {
            value["maxAbs"] = json!(self.max);
            value["meanAbs"] = json!(mean(self.sum_abs));
            value["mean"] = json!(mean(self.sum));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Datatype;
    use bytes::Bytes;

    fn tensor(name: &str, data: Data) -> Tensor {
        let shape = vec![data.len()];
        Tensor {
            name: name.to_owned(),
            datatype: Datatype::F64,
            shape,
            data,
        }
    }

    #[test]
    fn numbers_words_and_shapes_are_compared() {
        let mut differences = Differences::default();
        let scores = |values: &[f64]| tensor("scores", Data::F64(values.to_vec()));
        let classes = |values: &[&'static str]| {
            let values = values
                .iter()
                .map(|text| Bytes::from_static(text.as_bytes()));
            tensor("classes", Data::Bytes(values.collect()))
        };
        let old = [scores(&[1.0, f64::NAN, 3.0]), classes(&["a", "b", "b"])];
        assert!(differences.add(&old, &old));
        let new = [scores(&[1.5, f64::NAN, 2.0]), classes(&["a", "b", "c"])];
        assert!(!differences.add(&old, &new));
        assert!(!differences.add(&old, &[scores(&[1.0]), tensor("more", Data::Int(vec![1]))]));
        assert_eq!(
            differences.json(),
            json!({"compared": 3, "equal": 1, "outputs": {
                "scores": {"elements": 6, "differing": 2, "unlike": 1,
                    "maxAbs": 1.0, "meanAbs": 0.375, "mean": -0.125},
                "classes": {"elements": 6, "differing": 1, "unlike": 1},
                "more": {"elements": 0, "differing": 0, "unlike": 1},
            }})
        );
    }

    #[test]
    fn what_is_no_number_differs_and_spoils_no_mean() {
        let mut differences = Differences::default();
        let one = |value: f32| [tensor("x", Data::F32(vec![value, 1.0]))];
        assert!(differences.add(&one(f32::INFINITY), &one(f32::INFINITY)));
        assert!(!differences.add(&one(f32::NAN), &one(2.0)));
        assert!(!differences.add(&one(2.0), &one(f32::INFINITY)));
        let output = &differences.json()["outputs"]["x"];
        assert_eq!(
            (&output["differing"], &output["meanAbs"]),
            (&json!(2), &json!(0.0))
        );
        // The same numbers in twice the precision are the same.
        let wide = [tensor("x", Data::F64(vec![2.0, 1.0]))];
        assert!(differences.add(&one(2.0), &wide));
    }
}
