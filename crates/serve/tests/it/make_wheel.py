"""Makes a wheel that has the name of TensorFlow's and another content."""

import sys
import zipfile

info = "tensorflow_cpu-2.21.0.dist-info"
with zipfile.ZipFile(f"{sys.argv[1]}/tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl", "w") as wheel:
    wheel.writestr("tensorflow/libtensorflow_cc.so.2", "not a library")
    wheel.writestr("tensorflow/libtensorflow_framework.so.2", "not a library")
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tensorflow-cpu\nVersion: 2.21.0\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_27_x86_64\n")
    wheel.writestr(f"{info}/RECORD", "")
