"""Makes SavedModels with TensorFlow, and says in JSON what TensorFlow itself answers on some inputs."""

import base64
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

root, answers = sys.argv[1:]
cases = []
rng = np.random.default_rng(7)
tf.random.set_seed(7)


def plain(value):
    """As the REST API writes values."""
    value = np.asarray(value)
    if value.dtype == object or value.dtype.kind == "S":
        return np.vectorize(lambda text: text.decode() if isinstance(text, bytes) else text, otypes=[object])(value).tolist()
    if value.dtype in (tf.bfloat16.as_numpy_dtype, np.float16):
        value = value.astype(np.float32)
    return value.tolist()


def case(model, inputs, signature="serving_default", path=None):
    """Asks TensorFlow itself, by the saved model."""
    loaded = tf.saved_model.load(path or f"{root}/{model}/1")
    answer = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    cases.append({
        "model": model,
        "signature": signature,
        "inputs": {name: plain(value) for name, value in inputs.items()},
        "outputs": {name: plain(value.numpy()) for name, value in answer.items()},
    })


def save(module, name, **signatures):
    tf.saved_model.save(module, f"{root}/{name}/1", signatures=signatures)


def spec(shape, dtype, name):
    return tf.TensorSpec(shape, dtype, name=name)


# ---- wide and deep with strings, trained for a few steps ----

class WideAndDeep(tf.Module):
    def __init__(self):
        super().__init__()
        normal = lambda *shape: tf.Variable(tf.random.normal(shape, stddev=0.2))
        self.embedding, self.wide = normal(512, 8), normal(512, 1)
        self.layers = [normal(19, 16), normal(16, 1)]

    def logits(self, carrier, dest, numbers):
        hashed = tf.strings.to_hash_bucket_fast(tf.stack([carrier, dest], 1), 512)
        deep = tf.concat([tf.reshape(tf.gather(self.embedding, hashed), [-1, 16]), numbers], 1)
        deep = tf.nn.relu(deep @ self.layers[0]) @ self.layers[1]
        return tf.squeeze(deep + tf.reduce_sum(tf.gather(self.wide, hashed), 1), 1)

    @tf.function(input_signature=[spec([None], tf.string, "carrier"), spec([None], tf.string, "dest"), spec([None, 3], tf.float32, "numbers")])
    def serve(self, carrier, dest, numbers):
        logits = self.logits(carrier, dest, numbers)
        return {"late": tf.sigmoid(logits), "logit": logits}


wide = WideAndDeep()
carriers, dests = np.array(["UA", "AA", "B6", "DL"]), np.array(["IAH", "MIA", "ATL", "ORD", "Zürich"])
c, d = carriers[rng.integers(0, 4, 256)], dests[rng.integers(0, 5, 256)]
x = rng.normal(size=(256, 3)).astype(np.float32)
y = ((c == "B6") ^ (x[:, 0] > 0)).astype(np.float32)
for _ in range(30):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(y, wide.logits(tf.constant(c), tf.constant(d), x)))
    for variable, gradient in zip(wide.trainable_variables, tape.gradient(loss, wide.trainable_variables)):
        variable.assign_sub(0.3 * tf.convert_to_tensor(gradient))
save(wide, "wide", serving_default=wide.serve)
case("wide", {"carrier": c[:40], "dest": d[:40], "numbers": x[:40]})

# ---- a convolutional network by Keras ----

cnn = tf.keras.Sequential([
    tf.keras.Input((12, 12, 1)),
    tf.keras.layers.Conv2D(4, 3, activation="relu"),
    tf.keras.layers.BatchNormalization(),
    tf.keras.layers.MaxPooling2D(),
    tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(5, activation="softmax"),
])
cnn.compile("adam", "sparse_categorical_crossentropy")
images = rng.normal(size=(64, 12, 12, 1)).astype(np.float32)
cnn.fit(images, rng.integers(0, 5, 64), epochs=1, verbose=0)
cnn.export(f"{root}/cnn/1", verbose=False)
name = list(tf.saved_model.load(f"{root}/cnn/1").signatures["serving_default"].structured_input_signature[1])[0]
case("cnn", {name: images[:9]})

# ---- tf.Example in, classes and a value out ----

class ByExample(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.random.normal([3, 2]))

    def parse(self, examples):
        parsed = tf.io.parse_example(examples, {
            "x": tf.io.FixedLenFeature([2], tf.float32),
            "word": tf.io.FixedLenFeature([], tf.string, ""),
        })
        length = tf.cast(tf.strings.length(parsed["word"]), tf.float32)
        return tf.nn.softmax(tf.concat([parsed["x"], length[:, None]], 1) @ self.weights)

    @tf.function(input_signature=[spec([None], tf.string, "inputs")])
    def classify(self, inputs):
        scores = self.parse(inputs)
        labels = tf.tile(tf.constant([["no", "yes"]]), [tf.shape(scores)[0], 1])
        return {"classes": labels, "scores": scores}

    @tf.function(input_signature=[spec([None], tf.string, "inputs")])
    def regress(self, inputs):
        return {"outputs": self.parse(inputs)[:, 1]}


def example(x, word):
    features = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=x))}
    if word:
        features["word"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode()]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


by_example = ByExample()
save(by_example, "example", serving_default=by_example.classify, regress=by_example.regress)
rows = [([0.5, -1.25], "late"), ([2.0, 0.1], "")]
scores = by_example.classify(tf.constant([example(*row) for row in rows]))["scores"].numpy()
cases.append({"model": "example", "rows": [{"x": row[0], **({"word": row[1]} if row[1] else {})} for row in rows], "scores": scores.tolist()})

# ---- a lookup table that is filled from an asset ----

vocabulary = f"{root}/words.txt"
with open(vocabulary, "w") as file:
    file.write("apple\nbanana\ncherry\n")


class Table(tf.Module):
    def __init__(self):
        super().__init__()
        self.file = tf.saved_model.Asset(vocabulary)
        self.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
            self.file.asset_path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER), -1)

    @tf.function(input_signature=[spec([None], tf.string, "words")])
    def serve(self, words):
        ids = self.table.lookup(words)
        return {"id": ids, "known": ids >= 0, "upper": tf.strings.upper(words)}


table = Table()
save(table, "table", serving_default=table.serve)
case("table", {"words": np.array(["banana", "plum", "cherry"])})
os.remove(vocabulary)

# ---- one that looks at the whole batch, and shapes that are not rows ----

class Coupled(tf.Module):
    @tf.function(input_signature=[spec([None], tf.float32, "x")])
    def serve(self, x):
        return {"share": x / tf.reduce_sum(x)}

    @tf.function(input_signature=[spec([], tf.int32, "n"), spec([2, None], tf.float64, "m")])
    def scale(self, n, m):
        return {"scaled": tf.cast(n, tf.float64) * m, "size": tf.shape(m), "n": n}


coupled = Coupled()
save(coupled, "coupled", serving_default=coupled.serve, scale=coupled.scale)
case("coupled", {"x": np.array([1.0, 3.0], np.float32)})
case("coupled", {"n": np.int32(3), "m": np.array([[0.5, 1, 2], [3, 4, 5.25]])}, "scale")

# ---- every type that there is ----

class Types(tf.Module):
    @tf.function(input_signature=[spec([None], getattr(tf, name), name) for name in
                                  ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]])
    def serve(self, *values):
        return {value.dtype.name: tf.identity(value) for value in values}


    @tf.function(input_signature=[spec([None], tf.float16, "half"), spec([None], tf.bfloat16, "brain")])
    def halves(self, half, brain):
        return {"half": half / 3, "brain": brain / 3, "both": tf.cast(half, tf.float32) + tf.cast(brain, tf.float32)}


types = Types()
save(types, "types", serving_default=types.serve, halves=types.halves)
edges = {np.dtype(name).name: np.array([np.iinfo(name).min, np.iinfo(name).max], name) for name in
         ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]}
edges |= {"bool": np.array([True, False]), "float32": np.array([0.1, -3e38], np.float32), "float64": np.array([0.1, 1e300])}
cases.append({"model": "types", "signature": "serving_default",
              "inputs": {name: plain(value) for name, value in edges.items()},
              "outputs": {name: plain(value) for name, value in edges.items()}})
case("types", {"half": np.array([1, -0.1, 60000], np.float16),
               "brain": np.array([1, -0.1, 3e38], tf.bfloat16.as_numpy_dtype)}, "halves")

# ---- TensorFlow 1: a graph with variables, saved by the old builder; no `serving_default` ----

graph = tf.Graph()
with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
    inputs = tf.compat.v1.placeholder(tf.float32, [None, 4], "x")
    weights = tf.compat.v1.get_variable("w", initializer=rng.normal(size=(4, 2)).astype(np.float32), use_resource=False)
    outputs = tf.identity(tf.tanh(inputs @ weights), "y")
    session.run(tf.compat.v1.global_variables_initializer())
    builder = tf.compat.v1.saved_model.Builder(f"{root}/old/1")
    build = tf.compat.v1.saved_model.build_tensor_info
    signature = tf.compat.v1.saved_model.build_signature_def({"x": build(inputs)}, {"y": build(outputs)}, "tensorflow/serving/predict")
    builder.add_meta_graph_and_variables(session, ["serve"], {"predict": signature})
    builder.save()
    given = rng.normal(size=(6, 4)).astype(np.float32)
    cases.append({"model": "old", "signature": "predict", "inputs": {"x": given.tolist()},
                  "outputs": {"y": session.run(outputs, {inputs: given}).tolist()}})

# ---- TensorFlow Serving's warm-up file, good and bad ----

for model, value in [("warm", [[1.0, 2.0]]), ("cold", [[1.0, 2.0, 3.0]])]:
    class Sum(tf.Module):
        @tf.function(input_signature=[spec([None, 2], tf.float32, "x")])
        def serve(self, x):
            return {"sum": tf.reduce_sum(x, 1)}

    module = Sum()
    save(module, model, serving_default=module.serve)
    os.makedirs(f"{root}/{model}/1/assets.extra")
    with tf.io.TFRecordWriter(f"{root}/{model}/1/assets.extra/tf_serving_warmup_requests") as writer:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(value, tf.float32))
        writer.write(prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request)).SerializeToString())

json.dump(cases, open(answers, "w"))
