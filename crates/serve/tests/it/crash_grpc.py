"""Asks a model at sys.argv[1] over gRPC for what crashes it, and what it is told."""

import sys

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
tensor = triton.InferInput("x", [1], "FP32")
tensor.set_data_from_numpy(np.array([-5], np.float32))
try:
    client.infer("spoken", [tensor])
except triton.InferenceServerException as error:
    assert error.status() == "StatusCode.UNAVAILABLE", error
    assert "ended by signal 6 (SIGABRT) and is started again" in error.message(), error
else:
    raise AssertionError("it did not crash")
