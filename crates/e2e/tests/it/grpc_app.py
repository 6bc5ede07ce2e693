"""TensorFlow Serving's and Triton's own clients ask an App's model through the gateway."""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import grpc
import numpy as np
import tensorflow as tf
import tritonclient.grpc as triton
from tensorflow_serving.apis import (
    get_model_status_pb2, model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc)

gateway, token, expected = sys.argv[1], sys.argv[2], float(sys.argv[3])
row = np.array([[2.04, -2.56, 4.0]], np.float32)
bearer = (("authorization", f"Bearer {token}"),)


def named(authority):
    return grpc.insecure_channel(gateway, options=[("grpc.default_authority", authority)])


def request():
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "late"
    made.inputs["input"].CopyFrom(tf.make_tensor_proto(row))
    return made


def refused(code, words, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert words in error.details(), error
    else:
        raise AssertionError(f"{words} was expected")


channel = named("late.default")
status = model_service_pb2_grpc.ModelServiceStub(channel)
asked = get_model_status_pb2.GetModelStatusRequest()
asked.model_spec.name = "late"
answer = status.GetModelStatus(asked, metadata=bearer)
assert [version.version for version in answer.model_version_status] == [1], answer

prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
for _ in range(50):
    answer = prediction.Predict(request(), metadata=bearer)
    got = tf.make_ndarray(next(iter(answer.outputs.values()))).ravel()
    assert abs(got[0] - expected) < 1e-6, got

client = triton.InferenceServerClient(gateway, channel_args=[("grpc.default_authority", "late.default.localhost")])
headers = dict(bearer)
assert client.is_model_ready("late", headers=headers)
metadata = client.get_model_metadata("late", headers=headers)
tensor = triton.InferInput(metadata.inputs[0].name, row.shape, "FP32")
tensor.set_data_from_numpy(row)
got = client.infer("late", [tensor], headers=headers).as_numpy(metadata.outputs[0].name).ravel()
assert abs(got[0] - expected) < 1e-6, got

# ---- what is wrong is said in gRPC's words ----
refused(grpc.StatusCode.UNAUTHENTICATED, "`late` needs a token", prediction.Predict, request())
wrong = (("authorization", "Bearer wrong"),)
refused(grpc.StatusCode.UNAUTHENTICATED, "needs a token", prediction.Predict, request(), metadata=wrong)
nobody = prediction_service_pb2_grpc.PredictionServiceStub(named("nobody.default"))
refused(grpc.StatusCode.NOT_FOUND, "no App is reached by host `nobody.default`", nobody.Predict, request(), metadata=bearer)
unnamed = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(gateway))
refused(grpc.StatusCode.NOT_FOUND, "APP.PROJECT", unnamed.Predict, request(), metadata=bearer)
bad = request()
bad.model_spec.name = "other"
refused(grpc.StatusCode.NOT_FOUND, "other", prediction.Predict, bad, metadata=bearer)
print("both clients were answered, and refused as they should be")
