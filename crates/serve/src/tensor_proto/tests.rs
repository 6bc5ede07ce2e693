use super::*;

fn proto(datatype: Datatype, shape: &[i64]) -> TensorProto {
    let dim = |&size: &i64| Dim {
        size,
        name: String::new(),
    };
    TensorProto {
        dtype: value::number(datatype),
        tensor_shape: Some(TensorShapeProto {
            dim: shape.iter().map(dim).collect(),
            unknown_rank: false,
        }),
        ..TensorProto::default()
    }
}

#[test]
fn fewer_values_are_filled_up_with_the_last() {
    let mut sent = proto(Datatype::F32, &[2, 2]);
    sent.float_val = vec![1.0, 2.0];
    let tensor = read("x", sent).unwrap();
    assert_eq!(tensor.data, Data::F32(vec![1.0, 2.0, 2.0, 2.0]));
    assert_eq!(tensor.shape, [2, 2]);
    let empty = read("x", proto(Datatype::I64, &[0, 3])).unwrap();
    assert_eq!(empty.data, Data::Int(vec![]));
}

#[test]
fn what_is_written_is_read_back() {
    for (datatype, data) in [
        (Datatype::F32, Data::F32(vec![0.1, -1.0])),
        (Datatype::F64, Data::F64(vec![0.1, 1e300])),
        (Datatype::I8, Data::Int(vec![-128, 127])),
        (Datatype::U64, Data::Int(vec![-1, 0])),
        (Datatype::Bool, Data::Int(vec![1, 0])),
        (
            Datatype::Bytes,
            Data::Bytes(vec![Bytes::from_static(b"\xff"), Bytes::new()]),
        ),
    ] {
        let tensor = Tensor {
            name: "x".to_owned(),
            datatype,
            shape: vec![2, 1],
            data,
        };
        assert_eq!(read("x", write(&tensor)).unwrap(), tensor);
    }
}

#[test]
fn half_precision_is_read_as_32_bits() {
    for (dtype, bits) in [(19, [0x3e00_u16, 0xc000]), (14, [0x3fc0, 0xc000])] {
        let mut sent = proto(Datatype::F32, &[2]);
        sent.dtype = dtype;
        let by_content = TensorProto {
            tensor_content: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            ..sent.clone()
        };
        sent.half_val = bits.iter().map(|&bits| i32::from(bits)).collect();
        for sent in [sent, by_content] {
            let tensor = read("x", sent).unwrap();
            assert_eq!(tensor.datatype, Datatype::F32);
            assert_eq!(tensor.data, Data::F32(vec![1.5, -2.0]));
        }
    }
}

#[test]
fn what_does_not_fit_its_shape_is_refused() {
    let refused = |proto: TensorProto, wanted: &str| {
        let error = read("x", proto).unwrap_err().text;
        assert!(
            error.starts_with("input `x`: ") && error.contains(wanted),
            "{error}"
        );
    };
    let mut many = proto(Datatype::F32, &[2]);
    many.float_val = vec![1.0; 3];
    refused(many, "shape [2] has 2 elements, got 3");
    refused(
        proto(Datatype::F32, &[2]),
        "shape [2] has 2 elements, got 0",
    );
    let mut one = proto(Datatype::F64, &[1 << 20, 2]);
    one.double_val = vec![1.0];
    refused(one, "a value is repeated in tensors of at most 1048576");
    let mut huge = proto(Datatype::F64, &[i64::MAX, i64::MAX]);
    huge.double_val = vec![1.0];
    refused(huge, "too many elements");
    let mut wide = proto(Datatype::F64, &[i64::MAX]);
    wide.tensor_content = Bytes::from_static(&[0; 8]);
    refused(wide, "`tensor_content` has 8 bytes");
    refused(proto(Datatype::F32, &[-1]), "negative dimension");
    let mut cut = proto(Datatype::I32, &[2]);
    cut.tensor_content = Bytes::from_static(&[0; 7]);
    refused(cut, "`tensor_content` has 7 bytes");
    let mut text = proto(Datatype::Bytes, &[1]);
    text.tensor_content = Bytes::from_static(b"a");
    refused(text, "strings stand in `string_val`");
    let odd = TensorProto {
        dtype: 99,
        ..proto(Datatype::F32, &[])
    };
    refused(odd, "its type (99) is not taken");
}
