"""NVIDIA's client against the server at sys.argv[1]: every call that it has for this protocol."""
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("late") and not client.is_model_ready("none")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
metadata = client.get_model_metadata("late")
assert metadata["inputs"][0]["shape"] == [-1, 3], metadata

rows = np.array([[2.04, -2.56, 4.0], [np.nan, -0.45, 5.0]])
expected = np.array([0.811972975730896, 0.4313484728336334])
for dtype, name in ((np.float32, "FP32"), (np.float64, "FP64")):
    for binary_in in (True, False):
        for binary_out in (True, False):
            value = triton.InferInput("input", rows.shape, name)
            typed = rows.astype(dtype)
            if not binary_in:
                # JSON has no NaN that this client could send.
                typed = np.nan_to_num(typed)
            value.set_data_from_numpy(typed, binary_data=binary_in)
            wanted = triton.InferRequestedOutput("predict", binary_data=binary_out)
            result = client.infer("late", [value], outputs=[wanted], request_id="7", model_version="1")
            got = result.as_numpy("predict")
            assert got.dtype == np.float32 and got.shape == (2,), got
            rows_equal = slice(None) if binary_in else slice(0, 1)
            assert np.abs(got - expected)[rows_equal].max() < 1e-6, got
            assert result.get_response()["id"] == "7"
value = triton.InferInput("input", [1, 3], "FP64")
value.set_data_from_numpy(np.array([[2.04, -2.56, 4.0]]))
got = client.infer("gbm", [value]).as_numpy("predict")
assert got.dtype == np.float64 and abs(got[0] - 0.5258418425636303) < 1e-6, got

try:
    value = triton.InferInput("input", [1, 4], "FP32")
    value.set_data_from_numpy(np.zeros((1, 4), "f4"))
    client.infer("late", [value])
    raise SystemExit("a wrong shape was taken")
except InferenceServerException as error:
    assert "expected shape [-1,3], got [1,4]" in error.message(), error

index = {(entry["name"], entry["state"]) for entry in client.get_model_repository_index()}
assert index == {("late", "READY"), ("gbm", "READY")}, index
client.unload_model("late")
assert not client.is_model_ready("late")
client.load_model("late")
assert client.is_model_ready("late")
