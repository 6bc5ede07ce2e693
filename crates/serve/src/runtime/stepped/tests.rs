use super::*;
use crate::runtime::Columns;

/// Gives its input as its output.
struct Echo([Signature; 1]);

impl Echo {
    fn of(width: i64) -> Box<dyn Runtime> {
        let shape = if width == 0 {
            vec![-1]
        } else {
            vec![-1, width]
        };
        let port = |name: &str| Port {
            name: name.to_owned(),
            datatype: Datatype::F32,
            shape: Some(shape.clone()),
        };
        Box::new(Echo([Signature {
            name: "serving_default".to_owned(),
            method: String::new(),
            inputs: vec![port("in")],
            outputs: vec![port("out")],
            columns: Columns::default(),
            task: Task::Classes,
            is_row_wise: true,
        }]))
    }
}

impl Runtime for Echo {
    fn platform(&self) -> &'static str {
        "echo"
    }

    fn signatures(&self) -> &[Signature] {
        &self.0
    }

    fn memory(&self) -> u64 {
        1
    }

    fn check(&self, _: usize, _: &mut Vec<Tensor>) -> Result<()> {
        Ok(())
    }

    fn run(&self, _: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut output = inputs[0].clone();
        "out".clone_into(&mut output.name);
        Ok(vec![output])
    }

    fn warm_up(&self) -> Vec<FirstRun> {
        Vec::new()
    }
}

fn wrapped(width: i64, text: &str) -> std::result::Result<Box<dyn Runtime>, String> {
    let steps = serde_json::from_str(text).expect("steps");
    wrap(Echo::of(width), Some(steps)).map_err(|error| error.to_string())
}

fn run(runtime: &dyn Runtime, shape: &[usize], values: &[f32]) -> Vec<Tensor> {
    let input = Tensor {
        name: "in".to_owned(),
        datatype: Datatype::F32,
        shape: shape.to_vec(),
        data: Data::F32(values.to_vec()),
    };
    let outputs = runtime.run(0, &[input]).expect("it runs");
    for (port, output) in runtime.signatures()[0].outputs.iter().zip(&outputs) {
        assert_eq!((&port.name, port.datatype), (&output.name, output.datatype));
        assert!(port.fits(&output.shape), "{port:?} {output:?}");
        output.check().expect("as many elements as the shape says");
    }
    outputs
}

#[test]
fn numbers_of_a_row_become_probabilities() {
    let runtime = wrapped(3, r#"{"output": {"softmax": true}}"#).expect("wrapped");
    let outputs = run(
        runtime.as_ref(),
        &[2, 3],
        &[1.0, 2.0, 3.0, 1000.0, 1000.0, -1000.0],
    );
    let [output] = outputs.as_slice() else {
        panic!("one output: {outputs:?}")
    };
    assert_eq!(output.name, "out");
    let Data::F32(values) = &output.data else {
        panic!("{output:?}")
    };
    // By hand: e^-2, e^-1 and 1 over their sum.
    for (got, wanted) in
        values
            .iter()
            .zip([0.090_030_57, 0.244_728_47, 0.665_240_95, 0.5, 0.5, 0.0])
    {
        assert!((got - wanted).abs() < 1e-6, "{values:?}");
    }
}

#[test]
fn the_best_classes_come_first_by_name_or_number() {
    let named = r#"{"output": {"classes": ["a", "b", "c"], "top": 2}}"#;
    let runtime = wrapped(3, named).expect("wrapped");
    let outputs = run(
        runtime.as_ref(),
        &[2, 3],
        &[0.1, 0.7, 0.2, 0.4, f32::NAN, 0.4],
    );
    assert_eq!(
        outputs[0].data,
        Data::Bytes(["b", "c", "a", "c"].map(Bytes::from).to_vec())
    );
    assert_eq!(outputs[1].data, Data::F32(vec![0.7, 0.2, 0.4, 0.4]));

    let numbered = wrapped(3, r#"{"output": {"top": 1}}"#).expect("wrapped");
    let outputs = run(numbered.as_ref(), &[1, 3], &[0.1, 0.2, 0.7]);
    assert_eq!(
        (outputs[0].shape.as_slice(), &outputs[0].data),
        ([1, 1].as_slice(), &Data::Int(vec![2]))
    );
}

#[test]
fn one_number_is_the_probability_of_the_second_class() {
    for width in [0, 1] {
        let text = r#"{"output": {"name": "out", "classes": ["in time", "late"]}}"#;
        let runtime = wrapped(width, text).expect("wrapped");
        let shape: &[usize] = if width == 0 { &[2] } else { &[2, 1] };
        let outputs = run(runtime.as_ref(), shape, &[0.75, 0.25]);
        assert_eq!(
            outputs[0].data,
            Data::Bytes(["late", "in time"].map(Bytes::from).to_vec())
        );
        assert_eq!(
            (outputs[1].shape.as_slice(), &outputs[1].data),
            ([2].as_slice(), &Data::F32(vec![0.75, 0.75]))
        );
    }
}

#[test]
fn steps_that_do_not_fit_the_model_are_refused() {
    for (width, text, told) in [
        (1, r#"{"output": {"softmax": true}}"#, "gives one"),
        (
            3,
            r#"{"output": {"classes": ["a"]}}"#,
            "has 1 names, the model has 3 classes",
        ),
        (3, r#"{"output": {"top": 4}}"#, "`top` is 4"),
        (3, r#"{"output": {"top": 0}}"#, "`top` is 0"),
        (3, r#"{"output": {"name": "x"}}"#, "must be one of `out`"),
        (3, r#"{"signature": "x"}"#, "no signature `x`"),
        (
            3,
            r#"{"columns": [{"name": "a"}]}"#,
            "has 1 entries, the model has 3 columns",
        ),
        (0, r#"{"columns": [{"name": "a"}]}"#, "`in` is FP32 [-1]"),
        (
            2,
            r#"{"columns": [{"name": "a"}, {"name": "a"}]}"#,
            "`a` is there twice",
        ),
        (
            1,
            r#"{"columns": [{"name": "a", "words": ["x", "y", "x"]}]}"#,
            "words 0 and 2 are the same",
        ),
        (
            1,
            r#"{"columns": [{"name": "a", "words": [], "scale": 2}]}"#,
            "are for numbers",
        ),
        (
            1,
            r#"{"columns": [{"name": "a", "unknown": 2}]}"#,
            "no `words`",
        ),
        (
            1,
            r#"{"columns": [{"name": "a", "scale": 0}]}"#,
            "`scale` is 0",
        ),
    ] {
        let error = wrapped(width, text).err().unwrap_or_default();
        assert!(
            error.starts_with("`steps.json`: ") && error.contains(told),
            "{text}: {error}"
        );
    }
}
