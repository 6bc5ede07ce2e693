"""What the bench compares with: the libraries themselves and the server that people write by hand.

usage: peer.py train DIR    trains the models, writes rows and bodies
       peer.py library DIR  prints p50 in microseconds of the bare C calls, one line of JSON each
As a module it is the FastAPI application: PEER_DIR=DIR uvicorn --workers 2 peer:app
"""
import ctypes
import json
import os
import sys
import time

import numpy as np

FEATURES, TREES, SEED = 50, 500, 7


def train(out):
    import lightgbm
    import xgboost

    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(2_000, FEATURES)).astype("f4")
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) > 0).astype("f4")
    options = dict(objective="binary:logistic", max_depth=6, eta=0.05, nthread=1, tree_method="hist")
    os.makedirs(f"{out}/repository/late/1", exist_ok=True)
    booster = xgboost.train(options, xgboost.DMatrix(x, y), TREES)
    booster.save_model(f"{out}/repository/late/1/model.json")
    options = dict(objective="binary", num_leaves=63, learning_rate=0.05, num_threads=1, verbose=-1)
    lightgbm.train(options, lightgbm.Dataset(x, y), TREES).save_model(f"{out}/model.txt")
    x[:1000].tofile(f"{out}/rows.f4")
    row = [float(value) for value in x[0]]
    tensor = dict(name="input", shape=[1, FEATURES], datatype="FP32", data=row)
    json.dump(dict(inputs=[tensor]), open(f"{out}/oip.json", "w"))
    json.dump(dict(instances=[row]), open(f"{out}/rows.json", "w"))


def p50(call, seconds=2.0):
    for _ in range(50):
        call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 20:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e3


def library(out):
    import lightgbm
    import xgboost

    rows = np.fromfile(f"{out}/rows.f4", dtype="f4").reshape(-1, FEATURES)
    nothing = p50(lambda: xgb.XGBGetLastError(), 0.5) if (xgb := xgboost.core._LIB) else 0
    booster = xgboost.Booster(params={"nthread": 1}, model_file=f"{out}/repository/late/1/model.json")
    config = json.dumps(dict(type=0, training=False, iteration_begin=0, iteration_end=0, strict_shape=False,
                             missing=float("nan"), cache_id=0)).encode()
    shape, dim, result = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64(), ctypes.POINTER(ctypes.c_float)()
    for n in (1, 1000):
        array = np.ascontiguousarray(rows[:n])
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], True)
        text = json.dumps({key: interface[key] for key in ("data", "shape", "typestr", "version")}).encode()

        def call():
            code = xgb.XGBoosterPredictFromDense(booster.handle, text, config, None, ctypes.byref(shape),
                                                 ctypes.byref(dim), ctypes.byref(result))
            assert code == 0, xgb.XGBGetLastError()

        print(json.dumps(dict(library="xgboost", rows=n, us=p50(call) - nothing, check=result[0])))
    gbm = lightgbm.Booster(model_file=f"{out}/model.txt")
    lib, fast, length = lightgbm.basic._LIB, ctypes.c_void_p(), ctypes.c_int64()
    wide = np.ascontiguousarray(rows, dtype="f8")
    answer = np.zeros(len(rows), dtype="f8")
    out_pointer = answer.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    lib.LGBM_BoosterPredictForMatSingleRowFastInit(gbm._handle, 0, 0, -1, 1, FEATURES, b"num_threads=1",
                                                   ctypes.byref(fast))
    pointer = wide.ctypes.data_as(ctypes.c_void_p)
    one = p50(lambda: lib.LGBM_BoosterPredictForMatSingleRowFast(fast, pointer, ctypes.byref(length), out_pointer))
    print(json.dumps(dict(library="lightgbm", rows=1, us=one - nothing, check=answer[0])))
    many = p50(lambda: lib.LGBM_BoosterPredictForMat(gbm._handle, pointer, 1, len(rows), FEATURES, 1, 0, 0, -1,
                                                     b"num_threads=1", ctypes.byref(length), out_pointer))
    print(json.dumps(dict(library="lightgbm", rows=1000, us=many - nothing, check=answer[0])))


if "PEER_DIR" in os.environ:
    import fastapi
    import xgboost

    app = fastapi.FastAPI()
    model = xgboost.Booster(params={"nthread": 1}, model_file=os.environ["PEER_DIR"] + "/repository/late/1/model.json")

    @app.post("/predict")
    async def predict(request: fastapi.Request):
        rows = np.asarray((await request.json())["instances"], dtype="f4")
        return {"predictions": model.inplace_predict(rows).tolist()}
elif __name__ == "__main__":
    dict(train=train, library=library)[sys.argv[1]](sys.argv[2])
