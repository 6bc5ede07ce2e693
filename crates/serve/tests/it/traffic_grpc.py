"""TensorFlow Serving's and Triton's own clients call a model whose versions share requests: 3 of 4 are for version 1."""

import collections
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import grpc
import numpy as np
import tensorflow as tf
import tritonclient.grpc as triton
from tensorflow_serving.apis import (
    get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc)

address, n_features = sys.argv[1], int(sys.argv[2])
prediction = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))
rows = np.zeros((1, n_features), np.float32)


def predicted(version=None, metadata=None):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    if version:
        request.model_spec.version.value = version
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(rows))
    return prediction.Predict(request, metadata=metadata).model_spec.version.value


assert collections.Counter(predicted() for _ in range(40)) == {1: 30, 2: 10}
assert {predicted(version=2) for _ in range(8)} == {2}
assert {predicted(metadata=[("x-model-version", "2")]) for _ in range(8)} == {2}
assert {predicted(metadata=[("x-model-version", "stable")]) for _ in range(8)} == {1}
try:
    predicted(metadata=[("x-model-version", "newest")])
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert "header `x-model-version`: `newest`" in error.details(), error
else:
    raise AssertionError("a label that is not there was taken")

client = triton.InferenceServerClient(address)
sent = triton.InferInput("input", rows.shape, "FP32")
sent.set_data_from_numpy(rows)


def inferred(**kwargs):
    return int(client.infer("m", [sent], **kwargs).get_response().model_version)


assert collections.Counter(inferred() for _ in range(40)) == {1: 30, 2: 10}
assert {inferred(model_version="2") for _ in range(8)} == {2}
assert {inferred(headers={"x-model-version": "2"}) for _ in range(8)} == {2}

# Whoever looks sees the version with the largest share, always the same one.
request = get_model_metadata_pb2.GetModelMetadataRequest()
request.model_spec.name = "m"
request.metadata_field.append("signature_def")
assert {prediction.GetModelMetadata(request).model_spec.version.value for _ in range(8)} == {1}
assert client.get_model_metadata("m").versions == ["1", "2"]
