"""TensorFlow Serving's and Triton's own clients speak gRPC to the server."""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import grpc
import numpy as np
import tensorflow as tf
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2, model_management_pb2,
    model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc, regression_pb2)

address, cases = sys.argv[1], json.load(open(sys.argv[2]))
channel = grpc.insecure_channel(address)
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)


def refused(code, words, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert words in error.details(), error
    else:
        raise AssertionError(f"{words} was expected")


def same(got, wanted):
    # Not by way of an array of another type, which would round the largest numbers.
    wanted = np.asarray(wanted, object)
    if got.dtype == object:
        got = np.vectorize(lambda text: text.decode(), otypes=[object])(got)
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, wanted.astype(got.dtype), rtol=1e-5, atol=1e-5)
    else:
        assert got.tolist() == wanted.tolist(), (got, wanted)


# ---- Predict, on every case, by TensorFlow's client; each input in the type of the signature ----

def signatures(model):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = model
    request.metadata_field.append("signature_def")
    answer = prediction.GetModelMetadata(request)
    assert answer.model_spec.version.value == 1
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    return found.signature_def


def array(value, dtype):
    return np.array(value, object if dtype == tf.string else dtype.as_numpy_dtype)


n = 0
for case in cases:
    if "inputs" not in case:
        continue
    signature = signatures(case["model"])[case["signature"]]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = case["model"]
    request.model_spec.signature_name = case["signature"]
    inputs = {name: array(value, tf.dtypes.as_dtype(signature.inputs[name].dtype)) for name, value in case["inputs"].items()}
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    answer = prediction.Predict(request)
    assert answer.outputs.keys() == case["outputs"].keys()
    for name, wanted in case["outputs"].items():
        same(tf.make_ndarray(answer.outputs[name]), wanted)
        n += 1
    # ---- and by Triton's ----
    client = triton.InferenceServerClient(address)
    sent = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(np.vectorize(str.encode, otypes=[object])(value) if value.dtype == object else value)
        sent.append(tensor)
    answer = client.infer(case["model"], sent, request_id="7", parameters={"signature_name": case["signature"]})
    assert answer.get_response().id == "7"
    for name, wanted in case["outputs"].items():
        same(answer.as_numpy(name), wanted)
assert n > 20, n

# Half precision may be sent as it is; answers have 32 bits.
request = predict_pb2.PredictRequest()
request.model_spec.name = "types"
request.model_spec.signature_name = "halves"
request.inputs["half"].CopyFrom(tf.make_tensor_proto([1.5], tf.float16))
request.inputs["brain"].CopyFrom(tf.make_tensor_proto([0.25], tf.bfloat16))
answer = prediction.Predict(request)
assert answer.outputs["both"].float_val[0] == 1.75 and answer.outputs["half"].float_val[0] == 0.5, answer

request = predict_pb2.PredictRequest()
request.model_spec.name = "table"
request.inputs["words"].CopyFrom(tf.make_tensor_proto([b"banana"]))
request.output_filter.append("id")
assert list(prediction.Predict(request).outputs) == ["id"]
request.output_filter.append("nothing")
refused(grpc.StatusCode.INVALID_ARGUMENT, "has no output `nothing`", prediction.Predict, request)
request.model_spec.name = "none"
refused(grpc.StatusCode.NOT_FOUND, "model `none` is not known", prediction.Predict, request)
request.model_spec.name = "cold"
refused(grpc.StatusCode.UNAVAILABLE, "the first run failed", prediction.Predict, request)

# ---- Classify, Regress, both at once: by a SavedModel and by a tree model ----

case = next(case for case in cases if case["model"] == "example")


def examples(request):
    for row in case["rows"]:
        features = request.input.example_list.examples.add().features.feature
        features["x"].float_list.value.extend(row["x"])
        if "word" in row:
            features["word"].bytes_list.value.append(row["word"].encode())


request = classification_pb2.ClassificationRequest()
request.model_spec.name = "example"
examples(request)
answer = prediction.Classify(request)
assert [[each.label for each in row.classes] for row in answer.result.classifications] == [["no", "yes"]] * 2
same(np.array([[each.score for each in row.classes] for row in answer.result.classifications]), case["scores"])

request = regression_pb2.RegressionRequest()
request.model_spec.name = "example"
request.model_spec.signature_name = "regress"
examples(request)
answer = prediction.Regress(request)
same(np.array([each.value for each in answer.result.regressions]), np.array(case["scores"])[:, 1])

request = inference_pb2.MultiInferenceRequest()
for signature, method in [("serving_default", "classify"), ("regress", "regress")]:
    task = request.tasks.add()
    task.model_spec.name, task.model_spec.signature_name = "example", signature
    task.method_name = f"tensorflow/serving/{method}"
examples(request)
first, second = prediction.MultiInference(request).results
assert len(first.classification_result.classifications) == 2 and len(second.regression_result.regressions) == 2

request = classification_pb2.ClassificationRequest()
request.model_spec.name = "late"
context = request.input.example_list_with_context.context.features.feature
context["a"].float_list.value.append(2.04)
features = request.input.example_list_with_context.examples.add().features.feature
features["b"].float_list.value.append(-2.56)
features["c"].float_list.value.append(4.0)
(row,) = prediction.Classify(request).result.classifications
assert abs(row.classes[1].score - 0.811973) < 1e-5, row

# ---- status, reload ----

request = get_model_status_pb2.GetModelStatusRequest()
request.model_spec.name = "wide"
(version,) = models.GetModelStatus(request).model_version_status
assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE and version.version == 1
request.model_spec.name = "cold"
(version,) = models.GetModelStatus(request).model_version_status
assert version.state == get_model_status_pb2.ModelVersionStatus.END and "first run" in version.status.error_message

client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_model_ready("wide") and not client.is_model_ready("cold")
metadata = client.get_model_metadata("wide", as_json=True)
assert metadata["platform"] == "tensorflow_savedmodel" and metadata["inputs"][2]["shape"] == ["-1", "3"]
index = {model.name: model.state for model in client.get_model_repository_index().models}
assert index["wide"] == "READY" and index["cold"] == "UNAVAILABLE"
client.unload_model("warm")
assert not client.is_model_ready("warm")
client.load_model("warm")
assert client.is_model_ready("warm")

request = model_management_pb2.ReloadConfigRequest()
for name in ["wide", "late"]:
    config = request.config.model_config_list.config.add()
    config.name = name
    config.model_version_policy.specific.versions.append(1)
    config.version_labels["stable"] = 1
status = models.HandleReloadConfigRequest(request).status
assert status.error_code == 0, status
assert client.is_model_ready("wide") and not client.is_model_ready("table")
request = predict_pb2.PredictRequest()
request.model_spec.name = "late"
request.model_spec.version_label = "stable"
request.inputs["input"].CopyFrom(tf.make_tensor_proto([[2.04, -2.56, 4.0]], tf.float32))
same(tf.make_ndarray(prediction.Predict(request).outputs["predict"]), [0.811973])
request = model_management_pb2.ReloadConfigRequest()
config = request.config.model_config_list.config.add()
config.name, config.base_path = "etc", "/etc"
status = models.HandleReloadConfigRequest(request).status
assert status.error_code == 3 and "is not in" in status.error_message, status

# ---- health and reflection, as bytes on the wire ----

check = channel.unary_unary("/grpc.health.v1.Health/Check")
assert check(b"") in (b"\x08\x01", b"\x08\x02")
assert check(b"\x0a\x04wide") == b"\x08\x01"
watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x04wide")
assert next(watch) == b"\x08\x01"
watch.cancel()
services = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
(answer,) = services(iter([b"\x3a\x01*"]))
for service in [b"tensorflow.serving.PredictionService", b"inference.GRPCInferenceService", b"grpc.health.v1.Health"]:
    assert service in answer, answer
refused(grpc.StatusCode.UNIMPLEMENTED, "there is no service `x.Y`", channel.unary_unary("/x.Y/Z"), b"")
