"""Compiles an operation of our own, and makes a SavedModel that needs it: in sys.argv[1], the operation's library beside it."""

import os
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

root = sys.argv[1]
os.makedirs(root)
library = f"{root}/plus_one.so"
source = os.path.join(os.path.dirname(__file__), "plus_one.cc")
flags = tf.sysconfig.get_compile_flags() + tf.sysconfig.get_link_flags()
subprocess.run(["g++", "-shared", "-fPIC", "-w", "-O1", source, "-o", library, *flags], check=True)
plus_one = tf.load_op_library(library).moonshot_plus_one


class Plus(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        return {"y": plus_one(x)}


plus = Plus()
tf.saved_model.save(plus, root, signatures={"serving_default": plus.serve})
