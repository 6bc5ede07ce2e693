"""Makes the same perceptron (200, 256, 128, 64, 1) as a SavedModel or an ONNX model, with requests and what the framework
itself answers: `tensorflow|onnx ROOT`.

Writes ROOT/model/… and ROOT/bodies/N (gRPC messages or binary requests), ROOT/rows.f32 and ROOT/answers.json.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np

framework, root = sys.argv[1:]
WIDTHS, N_ROWS = [200, 256, 128, 64, 1], 64
rng = np.random.default_rng(7)
layers = [
    (rng.normal(scale=1 / np.sqrt(n), size=(n, m)).astype(np.float32), rng.normal(scale=0.1, size=m).astype(np.float32))
    for n, m in zip(WIDTHS, WIDTHS[1:])
]
rows = rng.normal(size=(N_ROWS, WIDTHS[0])).astype(np.float32)
os.makedirs(f"{root}/model")
os.mkdir(f"{root}/bodies")

if framework == "tensorflow":
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    class Perceptron(tf.Module):
        def __init__(self):
            super().__init__()
            self.layers = [(tf.Variable(weights), tf.Variable(biases)) for weights, biases in layers]

        @tf.function(input_signature=[tf.TensorSpec([None, WIDTHS[0]], tf.float32, name="input")])
        def serve(self, input):
            value = input
            for at, (weights, biases) in enumerate(self.layers):
                value = value @ weights + biases
                value = tf.nn.relu(value) if at < len(self.layers) - 1 else value
            return {"output": value}

    module = Perceptron()
    tf.saved_model.save(module, f"{root}/model", signatures={"serving_default": module.serve})
    answers = module.serve(tf.constant(rows))["output"].numpy()[:, 0]
    for at, row in enumerate(rows):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "model"
        request.inputs["input"].CopyFrom(tf.make_tensor_proto(row[None], shape=[1, WIDTHS[0]]))
        with open(f"{root}/bodies/{at:04}", "wb") as file:
            file.write(request.SerializeToString())
    # The names of the graph, which the C interface wants.
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(open(f"{root}/model/saved_model.pb", "rb").read())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    print(signature.inputs["input"].name, signature.outputs["output"].name)
else:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, value = [], [], "input"
    for at, (matrix, biases) in enumerate(layers):
        weights += [numpy_helper.from_array(matrix, f"w{at}"), numpy_helper.from_array(biases, f"b{at}")]
        out = "output" if at == len(layers) - 1 else f"z{at}"
        nodes.append(helper.make_node("Gemm", [value, f"w{at}", f"b{at}"], [out]))
        value = out
        if at < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"a{at}"]))
            value = f"a{at}"
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("input", WIDTHS[0]), ("output", WIDTHS[-1]))
    ]
    graph = helper.make_graph(nodes, "perceptron", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, f"{root}/model/model.onnx")
    session = onnxruntime.InferenceSession(f"{root}/model/model.onnx", providers=["CPUExecutionProvider"])
    answers = session.run(None, {"input": rows})[0][:, 0]
    for at, row in enumerate(rows):
        data = row.astype("<f4").tobytes()
        head = json.dumps({
            "inputs": [{
                "name": "input", "shape": [1, WIDTHS[0]], "datatype": "FP32", "parameters": {"binary_data_size": len(data)},
            }],
            "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
        }).encode()
        # Every row's head is as long.
        open(f"{root}/head", "w").write(str(len(head)))
        with open(f"{root}/bodies/{at:04}", "wb") as file:
            file.write(head + data)

rows.astype("<f4").tofile(f"{root}/rows.f32")
with open(f"{root}/answers.json", "w") as file:
    json.dump([float(answer) for answer in answers], file)
