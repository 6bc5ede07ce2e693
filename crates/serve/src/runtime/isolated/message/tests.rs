use super::*;
use crate::tensor::Port;

fn tensor(name: &str, datatype: Datatype, shape: &[usize], data: Data) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        data,
    }
}

/// One of each type, with the values at its edges.
fn tensors() -> Vec<Tensor> {
    let mut all = vec![
        tensor(
            "f",
            Datatype::F32,
            &[2, 2],
            Data::F32(vec![-0.0, f32::INFINITY, f32::MIN_POSITIVE, 1.5]),
        ),
        tensor("d", Datatype::F64, &[1], Data::F64(vec![f64::MAX])),
        tensor("none", Datatype::F32, &[0, 3], Data::F32(vec![])),
        tensor("scalar", Datatype::I64, &[], Data::Int(vec![i64::MIN])),
        tensor("wrapped", Datatype::U64, &[1], Data::Int(vec![-1])),
        tensor("flags", Datatype::Bool, &[2], Data::Int(vec![0, 1])),
        tensor(
            "words",
            Datatype::Bytes,
            &[3],
            Data::Bytes(vec![
                Bytes::new(),
                Bytes::from("ä"),
                Bytes::from(vec![0, 255]),
            ]),
        ),
    ];
    for (datatype, low, high) in [
        (Datatype::U8, 0, 255),
        (Datatype::U16, 0, 65_535),
        (Datatype::U32, 0, u32::MAX.into()),
        (Datatype::I8, -128, 127),
        (Datatype::I16, -32_768, 32_767),
        (Datatype::I32, i32::MIN.into(), i32::MAX.into()),
    ] {
        all.push(tensor("n", datatype, &[2], Data::Int(vec![low, high])));
    }
    all
}

fn question() -> Bytes {
    let mut out = Vec::new();
    put_question(&mut out, 3, &tensors());
    Bytes::from(out)
}

#[test]
fn tensors_of_every_type_come_back_bit_for_bit() {
    assert_eq!(take_question(question()).unwrap(), (3, tensors()));
    let nan = f32::from_bits(0x7fc1_2345);
    let mut out = Vec::new();
    put_answer(
        &mut out,
        &Ok(vec![tensor("n", Datatype::F32, &[1], Data::F32(vec![nan]))]),
    );
    let got = take_answer(Bytes::from(out)).unwrap().unwrap();
    let Data::F32(values) = &got[0].data else {
        panic!("{got:?}")
    };
    assert_eq!(values[0].to_bits(), nan.to_bits());
}

#[test]
fn errors_keep_their_kind_and_text() {
    for code in Code::ALL {
        let mut out = Vec::new();
        put_answer(&mut out, &Err(ServeError::new(code, "input `x`: no")));
        let error = take_answer(Bytes::from(out)).unwrap().unwrap_err();
        assert_eq!((error.code, error.text.as_str()), (code, "input `x`: no"));
    }
    for error in [
        LoadError::Format("no model".to_owned()),
        LoadError::Read("/m/1".into(), "gone".to_owned()),
        LoadError::Model("model.onnx".to_owned(), "cut off".to_owned()),
        LoadError::Runtime {
            runtime: "onnx",
            text: "not there".to_owned(),
        },
        LoadError::FirstRun("signature `a`".to_owned()),
        LoadError::Panicked,
        LoadError::Worker("ended".to_owned()),
    ] {
        let text = error.to_string();
        let mut out = Vec::new();
        put_json(&mut out, &Fault::from(error)).unwrap();
        let fault: Fault = take_json(&mut Bytes::from(out)).unwrap();
        assert_eq!(LoadError::from(fault).to_string(), text);
    }
}

#[test]
fn signatures_and_first_runs_cross() {
    let signature = Signature {
        name: "serving_default".to_owned(),
        method: "m".to_owned(),
        inputs: vec![Port {
            name: "x".to_owned(),
            datatype: Datatype::Bytes,
            shape: None,
        }],
        outputs: vec![Port {
            name: "y".to_owned(),
            datatype: Datatype::F32,
            shape: Some(vec![-1, 3]),
        }],
        columns: crate::runtime::Columns::default(),
        task: crate::runtime::Task::Other,
        is_row_wise: true,
    };
    let loaded = Loaded {
        signatures: vec![signature],
        memory: 7,
    };
    let run = FirstRun {
        signature: 0,
        inputs: tensors(),
        may_refuse: true,
    };
    let mut out = Vec::new();
    put_json(&mut out, &loaded).unwrap();
    put_runs(&mut out, &[run]);
    let mut rest = Bytes::from(out);
    let got: Loaded = take_json(&mut rest).unwrap();
    assert_eq!(format!("{got:?}"), format!("{loaded:?}"));
    let runs = take_runs(rest.clone(), 1).unwrap();
    assert_eq!((runs.len(), &runs[0].inputs), (1, &tensors()));
    assert!(runs[0].may_refuse);
    // Of a signature that is not there.
    assert!(take_runs(rest, 0).is_err());
}

#[test]
fn what_is_cut_off_is_an_error_wherever_the_end_is() {
    let whole = question();
    for end in 0..whole.len() {
        assert!(take_question(whole.slice(..end)).is_err(), "{end}");
    }
    let longer = Bytes::from([&whole[..], &[0]].concat());
    assert!(take_question(longer).is_err());
}

#[test]
fn garbage_is_an_error_and_costs_no_memory() {
    // Counts and dimensions that claim all there could be.
    assert!(take_answer(Bytes::from(vec![0xff; 64])).is_err());
    let mut claim = vec![0];
    put_u32(&mut claim, usize::MAX);
    assert!(take_answer(Bytes::from(claim)).is_err());
    let mut huge = vec![0];
    put_u32(&mut huge, 1);
    put_bytes(&mut huge, b"x");
    huge.push(9);
    put_u32(&mut huge, 2);
    huge.extend(u64::MAX.to_le_bytes());
    huge.extend(2_u64.to_le_bytes());
    assert!(take_answer(Bytes::from(huge)).is_err());
    // Every byte of a good message changed, and noise.
    let whole = question();
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= flip;
            if let Ok((_, got)) = take_question(Bytes::from(bytes)) {
                for tensor in got {
                    let n: usize = tensor.shape.iter().product();
                    assert_eq!(n, tensor.data.len());
                }
            }
        }
    }
    let mut state = 1_u32;
    for length in 0..2_000 {
        let noise: Vec<u8> = (0..length % 97)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let noise = Bytes::from(noise);
        let _ = take_question(noise.clone());
        let _ = take_answer(noise.clone());
        let _ = take_runs(noise.clone(), 4);
        let _ = take_json::<Loaded>(&mut noise.clone());
    }
}
