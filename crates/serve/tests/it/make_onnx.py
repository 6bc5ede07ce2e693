"""Makes ONNX models, and says in JSON what ONNX Runtime itself answers on some inputs."""

import json
import os
import struct
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

root, answers = sys.argv[1:]
cases = []
rng = np.random.default_rng(7)


def plain(value):
    """As the REST API writes values; numbers that are missing are `null`."""
    value = np.asarray(value)
    if value.dtype.kind == "f" and np.isnan(value).any():
        value = np.where(np.isnan(value), None, value)
    return value.tolist()


def oracle(path, inputs):
    """What ONNX Runtime answers, rows of maps as the server gives them."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = {}
    for port, value in zip(session.get_outputs(), session.run(None, inputs)):
        if isinstance(value, list):
            keys = [sorted(row) for row in value]
            outputs[port.name] = [[row[key] for key in sorted(row)] for row in value]
            outputs[f"{port.name}_keys"] = keys
        else:
            outputs[port.name] = plain(value)
    return outputs


def save(name, model, inputs=None, wanted=None, **options):
    path = f"{root}/{name}/1/model.onnx"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    onnx.save(model, path, **options)
    if inputs is not None:
        cases.append({
            "model": name,
            "inputs": {key: plain(value) for key, value in inputs.items()},
            "types": {key: "object" if value.dtype.kind in "OU" else value.dtype.name for key, value in inputs.items()},
            "outputs": wanted or oracle(path, inputs),
        })


def graph(nodes, inputs, outputs, initializers=(), **options):
    made = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def port(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


# ---- scikit-learn: strings and numbers, with and without maps of probabilities ----

carriers, dests = np.array(["UA", "AA", "B6", "DL"]), np.array(["IAH", "MIA", "ATL", "Zürich"])
n = 400
table = {
    "carrier": carriers[rng.integers(0, 4, n)],
    "dest": dests[rng.integers(0, 4, n)],
    "delay": rng.normal(size=n),
    "hour": rng.integers(0, 24, n),
}
late = np.where((table["carrier"] == "B6") ^ (table["delay"] > 0.3), "late", "on time")
matrix = np.array([list(row) for row in zip(*table.values())], dtype=object)
kinds = [
    ("carrier", StringTensorType([None, 1])), ("dest", StringTensorType([None, 1])),
    ("delay", FloatTensorType([None, 1])), ("hour", Int64TensorType([None, 1])),
]


def flights(classifier):
    columns = ColumnTransformer([
        ("words", OneHotEncoder(handle_unknown="ignore"), [0, 1]),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [2]),
        ("hours", StandardScaler(), [3]),
    ])
    return make_pipeline(columns, classifier)


def rows(first, last):
    inputs = {name: values[first:last].reshape(-1, 1) for name, values in table.items()}
    return inputs | {"carrier": inputs["carrier"].astype(object), "dest": inputs["dest"].astype(object),
                     "delay": inputs["delay"].astype(np.float32), "hour": inputs["hour"].astype(np.int64)}


pipeline = flights(LogisticRegression(max_iter=500)).fit(matrix, late)
save("flights", to_onnx(pipeline, initial_types=kinds, target_opset=18), rows(0, 60))
unknown = rows(0, 2)
unknown["carrier"] = np.array([["??"], ["UA"]], object)
unknown["delay"][0] = np.nan
cases.append({**cases[-1], "inputs": {key: plain(value) for key, value in unknown.items()},
              "outputs": oracle(f"{root}/flights/1/model.onnx", unknown)})
save("flights_plain", to_onnx(pipeline, initial_types=kinds, target_opset=18, options={"zipmap": False}), rows(60, 90))
save("flights_columns", to_onnx(pipeline, initial_types=kinds, target_opset=18, options={"zipmap": "columns"}), rows(90, 99))
regression = flights(LinearRegression()).fit(matrix, table["delay"] * 3 + table["hour"])
save("delay", to_onnx(regression, initial_types=kinds, target_opset=18), rows(100, 130))

x = rng.normal(size=(300, 5)).astype(np.float32)
three = np.digitize(x[:, 0] + x[:, 1] ** 2, [0, 1.2])
single = [("x", FloatTensorType([None, 5]))]
forest = RandomForestClassifier(20, random_state=7).fit(x, three)
save("forest", to_onnx(forest, initial_types=single, target_opset=18), {"x": x[:50]})
boosted = GradientBoostingRegressor(n_estimators=30, random_state=7).fit(x, x[:, 0] * x[:, 1])
save("boosted", to_onnx(boosted, initial_types=single, target_opset=18), {"x": x[:50]})

texts = np.array(["the plane was late again", "a fine and quick flight", "late and loud", "quick crew, fine food"] * 5)
# Lower case would ask for a locale of the machine.
words = make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 5)
save("words", to_onnx(words, initial_types=[("text", StringTensorType([None, 1]))], target_opset=18),
     {"text": np.array([["late crew"], ["a quick plane"], [""]], object)})

# ---- a small convolutional network, its weights beside it too ----


def weight(name, *shape):
    return numpy_helper.from_array(rng.normal(scale=0.3, size=shape).astype(np.float32), name)


def cnn():
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "bias", "mean", "var"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    variance = numpy_helper.from_array(np.abs(rng.normal(size=8)).astype(np.float32) + 0.5, "var")
    weights = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("scale", 8), weight("bias", 8), weight("mean", 8), variance,
               weight("w2", 16, 8, 3, 3), weight("w3", 16, 5), weight("b3", 5)]
    outputs = [port("probabilities", TensorProto.FLOAT, ["n", 5]), port("logits", TensorProto.FLOAT, ["n", 5])]
    return graph(nodes, [port("image", TensorProto.FLOAT, ["n", 3, 12, 12])], outputs, weights)


images = {"image": rng.normal(size=(9, 3, 12, 12)).astype(np.float32)}
save("cnn", cnn(), images)
save("beside", cnn(), images, save_as_external_data=True, location="weights.bin", size_threshold=0)

# ---- every type that there is; half precision is carried as FP32 ----

names = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]
kind = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in names}
kind |= {"string": TensorProto.STRING, "half": TensorProto.FLOAT16, "brain": TensorProto.BFLOAT16}
edges = {name: np.array([np.iinfo(name).min, np.iinfo(name).max, 1], name) for name in names[1:9]}
edges |= {"bool": np.array([True, False, True]), "float32": np.array([0.1, -3e38, 1], np.float32),
          "float64": np.array([0.1, 1e300, 1]), "string": np.array(["", "Zürich", "a\nb"], object)}
# Numbers that half precision does not have are rounded to the nearest that it has.
halves = {"half": np.array([0.1, -65504, 1e-7], np.float32), "brain": np.array([0.1, -3e38, 1e-7], np.float32)}
rounded = {"half": plain(halves["half"].astype(np.float16).astype(np.float32)),
           "brain": plain(((halves["brain"].view(np.uint32) + 0x7FFF + ((halves["brain"].view(np.uint32) >> 16) & 1)) >> 16 << 16)
                          .astype(np.uint32).view(np.float32))}
nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kind]
types = graph(nodes, [port(name, each, ["n"]) for name, each in kind.items()],
              [port(f"{name}_out", each, ["n"]) for name, each in kind.items()])
save("types", types, edges | halves, {f"{name}_out": plain(value) for name, value in edges.items()}
     | {f"{name}_out": value for name, value in rounded.items()})

# ---- one that looks at the whole batch; fixed shapes and a scalar; a rank that the model does not say ----

save("coupled", graph(
    [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), helper.make_node("Div", ["x", "sum"], ["share"])],
    [port("x", TensorProto.FLOAT, ["n"])], [port("share", TensorProto.FLOAT, ["n"])]), {"x": np.array([1, 3], np.float32)})
save("fixed", graph(
    [helper.make_node("Mul", ["m", "factor"], ["scaled"])],
    [port("m", TensorProto.DOUBLE, [2, 3]), port("factor", TensorProto.DOUBLE, [])],
    [port("scaled", TensorProto.DOUBLE, [2, 3])]), {"m": np.arange(6.0).reshape(2, 3), "factor": np.array(2.5)})

# ---- what no protocol carries ----

sequence = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
save("parts", graph([helper.make_node("SplitToSequence", ["x"], ["parts"])], [port("x", TensorProto.FLOAT, ["n", 2])], [sequence]))

# ---- TensorFlow Serving's warm-up file, good and bad: PredictionLog{predict_log{request{inputs{x: floats}}}} ----


def field(number, body):
    return bytes([number << 3 | 2, len(body)]) + body


def record(shape, values):
    dims = b"".join(field(2, bytes([8, size])) for size in shape)
    tensor = b"\x08\x01" + field(2, dims) + field(4, struct.pack(f"<{len(values)}f", *values))
    request = field(2, field(1, b"x") + field(2, tensor))
    log = field(6, field(1, request))
    return struct.pack("<QI", len(log), 0) + log + bytes(4)


for name, shape in [("warm", [1, 5]), ("cold", [1, 4])]:
    save(name, to_onnx(boosted, initial_types=single, target_opset=18))
    os.makedirs(f"{root}/{name}/1/assets.extra")
    with open(f"{root}/{name}/1/assets.extra/tf_serving_warmup_requests", "wb") as file:
        file.write(record(shape, [0.5] * shape[1]))

json.dump(cases, open(answers, "w"))
