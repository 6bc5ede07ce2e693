"""Compiles an operation that crashes, and makes SavedModels of it in sys.argv[1], its library beside each: `fragile`, which gives its
input back unless told to crash, `dies`, which crashes whenever it runs, and `calm`, which never does."""

import os
import shutil
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

root = sys.argv[1]
os.makedirs(root)
library = f"{root}/crash.so"
source = os.path.join(os.path.dirname(__file__), "crash.cc")
flags = tf.sysconfig.get_compile_flags() + tf.sysconfig.get_link_flags()
subprocess.run(["g++", "-shared", "-fPIC", "-w", "-O1", source, "-o", library, *flags], check=True)
crash = tf.load_op_library(library).moonshot_crash


class Model(tf.Module):
    def __init__(self, before):
        super().__init__()
        self.before = before

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        return {"y": crash(self.before(x))}


for name, before in [("fragile", tf.identity), ("dies", lambda x: x - 100.0), ("calm", lambda x: tf.clip_by_value(x, 0.0, 9.0))]:
    model = Model(before)
    path = f"{root}/{name}"
    tf.saved_model.save(model, path, signatures={"serving_default": model.serve})
    shutil.copy(library, path)
