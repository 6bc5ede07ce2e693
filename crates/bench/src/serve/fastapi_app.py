"""The server that people write by hand, with care for speed: one model, one row or more, the Open Inference Protocol's JSON.

No models of pydantic, orjson both ways, the booster called on the array itself in one thread. `async def`, since a prediction
is shorter than the way to a thread pool and back.
"""

import os

import numpy as np
import orjson
import xgboost
from fastapi import FastAPI, Request, Response

booster = xgboost.Booster(model_file=os.environ["MODEL"])
booster.set_param({"nthread": 1})
app = FastAPI()


@app.get("/v2/health/ready")
async def ready():
    return {"ready": True}


@app.post("/v2/models/model/infer")
async def infer(request: Request):
    tensor = orjson.loads(await request.body())["inputs"][0]
    rows = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    answers = booster.inplace_predict(rows)
    output = {"name": "predict", "datatype": "FP32", "shape": list(answers.shape), "data": answers.tolist()}
    return Response(orjson.dumps({"model_name": "model", "outputs": [output]}), media_type="application/json")
