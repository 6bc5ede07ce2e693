"""Triton's own clients, over HTTP and gRPC with binary tensors, get what ONNX Runtime answers itself."""

import json
import sys

import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.http as by_http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

address, cases = sys.argv[1], json.load(open(sys.argv[2]))
n = 0
for triton in [by_http, by_grpc]:
    client = triton.InferenceServerClient(address)
    assert client.is_model_ready("flights") and not client.is_model_ready("parts")
    for case in cases:
        sent = []
        for name, value in case["inputs"].items():
            value = np.array(value, case["types"][name])
            if value.dtype == object:
                value = np.vectorize(str.encode, otypes=[object])(value)
            tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
            tensor.set_data_from_numpy(value)
            sent.append(tensor)
        wanted = [triton.InferRequestedOutput(name) for name in case["outputs"]]
        answer = client.infer(case["model"], sent, outputs=wanted, request_id="7")
        for name, wanted in case["outputs"].items():
            got = answer.as_numpy(name)
            if got.dtype == object:
                got = np.vectorize(bytes.decode, otypes=[object])(got)
            if got.dtype.kind == "f":
                np.testing.assert_allclose(got, np.array(wanted, got.dtype), rtol=1e-5, atol=1e-5)
            else:
                assert got.tolist() == wanted, (case["model"], name, got, wanted)
            n += 1
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    try:
        client.infer("boosted", [tensor])
        raise SystemExit("a wrong shape was taken")
    except InferenceServerException as error:
        assert "expected shape [-1,5], got [1,4]" in error.message(), error
    # Strings that are no text.
    tensor = triton.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"\xff\xfe"]], object))
    try:
        client.infer("words", [tensor])
        raise SystemExit("bytes that are no UTF-8 were taken")
    except InferenceServerException as error:
        assert "input `text`: string 0 is not UTF-8" in error.message(), error
assert n > 60, n
