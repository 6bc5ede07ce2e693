"""Trains a model of trees and writes it with rows and what its own library answers on them: `xgboost|lightgbm ROOT N_TREES`.

Writes ROOT/model.json or model.txt, ROOT/rows.f32 (little-endian, rows by features), ROOT/answers.json, and for the network
ROOT/bodies/N.json, one row each as the Open Inference Protocol has it. Prints the path of the C library.
"""

import glob
import json
import os
import sys

import numpy as np

library, root, n_trees = sys.argv[1], sys.argv[2], int(sys.argv[3])
N_FEATURES, N_TRAIN, N_ROWS, N_BODIES = 50, 20_000, 1_000, 64
rng = np.random.default_rng(7)
# Six decimals, as measured things have; the same number in every form that it is sent in.
rows = np.round(rng.normal(size=(N_TRAIN + N_ROWS, N_FEATURES)), 6).astype(np.float32)
truth = rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2:8]).sum(1) + (rows[:, 8] > 0) * rows[:, 9] ** 2
labels = truth + rng.normal(scale=0.5, size=len(truth))
train, ask = rows[:N_TRAIN], rows[N_TRAIN:]

if library == "xgboost":
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=n_trees, max_depth=6, learning_rate=0.05, tree_method="hist", n_jobs=1)
    model.fit(train, labels[:N_TRAIN])
    model.save_model(f"{root}/model.json")
    answers = model.get_booster().inplace_predict(ask)
    found = glob.glob(os.path.dirname(xgboost.__file__) + "/lib/libxgboost.so")
else:
    import lightgbm

    data = lightgbm.Dataset(train, labels[:N_TRAIN])
    options = {"objective": "regression", "num_leaves": 31, "learning_rate": 0.05, "num_threads": 1, "verbosity": -1}
    model = lightgbm.train(options, data, num_boost_round=n_trees)
    model.save_model(f"{root}/model.txt")
    answers = model.predict(ask)
    found = glob.glob(os.path.dirname(lightgbm.__file__) + "/**/lib_lightgbm.so", recursive=True)

ask.astype("<f4").tofile(f"{root}/rows.f32")
with open(f"{root}/answers.json", "w") as file:
    json.dump([float(answer) for answer in answers], file)
os.mkdir(f"{root}/bodies")
for at, row in enumerate(ask[:N_BODIES]):
    tensor = {"name": "input", "shape": [1, N_FEATURES], "datatype": "FP32", "data": [float(str(value)) for value in row]}
    with open(f"{root}/bodies/{at:04}.json", "w") as file:
        json.dump({"inputs": [tensor]}, file)
print(found[0])
