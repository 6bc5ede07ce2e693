use super::*;

fn read(text: &str, datatype: Datatype) -> (Data, Vec<usize>) {
    let mut json = Json::new(text.as_bytes());
    let mut shape = Vec::new();
    let data = json.tensor(datatype, &mut shape).unwrap();
    json.end().unwrap();
    (data, shape)
}

fn refused(text: &str, datatype: Datatype) -> String {
    let mut json = Json::new(text.as_bytes());
    let read = json.tensor(datatype, &mut Vec::new());
    read.and_then(|_| json.end()).unwrap_err().text
}

#[test]
fn nested_arrays_become_tensors() {
    let (data, shape) = read(" [[1, 2.5],[ -3e2,0.1]] ", Datatype::F32);
    assert_eq!(
        (data, shape),
        (Data::F32(vec![1.0, 2.5, -300.0, 0.1]), vec![2, 2])
    );
    assert_eq!(read("7", Datatype::I64), (Data::Int(vec![7]), vec![]));
    assert_eq!(read("[]", Datatype::F64), (Data::F64(vec![]), vec![0]));
    let (data, _) = read("[null,NaN,Infinity,-Infinity]", Datatype::F64);
    let Data::F64(values) = data else { panic!() };
    assert!(values[0].is_nan() && values[1].is_nan());
    assert_eq!(values[2..], [f64::INFINITY, f64::NEG_INFINITY]);
    let (data, _) = read(r#"["a\n",{"b64":"AP8="}]"#, Datatype::Bytes);
    assert_eq!(
        data,
        Data::Bytes(vec![Bytes::from("a\n"), Bytes::from_static(&[0, 255])])
    );
}

#[test]
fn what_is_no_tensor_is_refused_with_its_place() {
    for (text, wanted) in [
        (
            "[[1,2],[3]]",
            "an array has 1 items, those before it have 2 at byte 10",
        ),
        ("[1,[2]]", "different depth"),
        ("[[1],2]", "different depth"),
        ("[1,2", "ends early"),
        ("[1,]", "missing"),
        ("[1] 2", "after its end"),
        ("[\"1\"]", "missing"),
        ("[1.5.2]", "a number is missing"),
        ("[infinity]", "a number is missing"),
    ] {
        let error = refused(text, Datatype::F32);
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert!(refused(&"[".repeat(100_000), Datatype::F32).contains("nested too deeply"));
    assert!(refused("[1.5]", Datatype::I64).contains("whole number"));
    assert!(refused(r#"["\"#, Datatype::Bytes).contains("does not end"));
}

#[test]
fn the_fast_path_rounds_as_the_slow_one() {
    // Every short decimal of a walk through the digits, and edges of what is exact.
    let mut state = 0x5eed_u64;
    let mut words = vec![
        "16777216".to_owned(),
        "16777217".to_owned(),
        "0.1".to_owned(),
    ];
    for _ in 0..200_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mantissa = (state >> 33) % 20_000_000;
        let n_fraction = (state >> 20) % 11;
        let digits = format!("{mantissa:0width$}", width = n_fraction as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - n_fraction as usize);
        words.push(if fraction.is_empty() {
            format!("-{whole}")
        } else {
            format!("{whole}.{fraction}")
        });
    }
    let mut n_fast = 0;
    for word in &words {
        if let Some(fast) = single(word) {
            n_fast += 1;
            assert_eq!(
                fast.to_bits(),
                word.parse::<f32>().unwrap().to_bits(),
                "{word}"
            );
        }
    }
    assert!(n_fast > 100_000);
    assert_eq!(single("1."), None);
    assert_eq!(single(".5"), None);
    assert_eq!(single("1e5"), None);
}

#[test]
fn numbers_are_written_so_that_they_are_read_back() {
    let values = vec![0.1, 1e30, -0.0, f32::NAN, f32::INFINITY, 16_777_216.0];
    let tensor = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::F32,
        shape: vec![6],
        data: Data::F32(values),
    };
    let mut out = Vec::new();
    write_nested(&mut out, &tensor, &[2, 3], 0, Odd::Words);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, "[[0.1,1e30,-0.0],[NaN,Infinity,16777216.0]]");
    let mut out = Vec::new();
    write_nested(&mut out, &tensor, &[1], 3, Odd::Null);
    assert_eq!(out, b"[null]");
}
