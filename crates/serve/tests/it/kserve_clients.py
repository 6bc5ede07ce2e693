"""KServe's own clients against the server at sys.argv[1]: both protocols over HTTP, and gRPC."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

address = sys.argv[1]
url = f"http://{address}"
rows = np.array([[2.04, -2.56, 4.0], [1.0, -0.45, 5.0]], np.float32)
expected = 0.811972975730896


def request(binary=False):
    value = InferInput("input", list(rows.shape), "FP32")
    value.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest("late", [value], request_id="7")


def check(answer):
    got = answer.outputs[0].as_numpy()
    assert got.shape == (2,) and abs(got[0] - expected) < 1e-6, got
    assert answer.id == "7" and answer.model_name == "late", answer


async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, "late") and not await client.is_model_ready(url, "none")
        for binary in (False, True):
            check(await client.infer(url, request(binary), model_name="late"))
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        answer = await client.infer(url, {"instances": rows.tolist()}, model_name="late")
        assert abs(answer["predictions"][0] - expected) < 1e-6, answer
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("late")
        for binary in (False, True):
            check(await client.infer(request(binary)))


asyncio.run(main())
