"""Trains XGBoost on all flights that left New York in 2013, on several replicas at once.

Each replica holds its own shard of the rows; rank 0 runs XGBoost's tracker. At the end all
replicas hold the same model, which is checked, and rank 0 writes it with its test error.
"""

import hashlib
import json
import os
import pathlib

import numpy as np
import xgboost
from xgboost import collective
from xgboost.tracker import RabitTracker

import features

RANK = int(os.environ["MOONSHOT_RANK"])
WORLD_SIZE = int(os.environ["MOONSHOT_WORLD_SIZE"])
OUTPUTS = pathlib.Path(os.environ["MOONSHOT_OUTPUTS"])
PARAMS = json.loads(os.environ.get("MOONSHOT_PARAMS", "{}"))
ROUNDS = int(PARAMS.get("rounds", 60))


def start_tracker() -> RabitTracker:
    """The meeting point of all replicas. Started first, while the others still read their data."""
    tracker = RabitTracker(
        n_workers=WORLD_SIZE,
        host_ip=os.environ["DMLC_TRACKER_URI"],
        port=int(os.environ["DMLC_TRACKER_PORT"]),
        sortby="task",
    )
    tracker.start()
    return tracker


def main() -> None:
    tracker = start_tracker() if RANK == 0 else None
    table = features.load()
    words = features.vocabulary(table)
    # A fixed fifth of the flights is kept for the test; the rest is dealt out row by row.
    is_test = np.random.default_rng(2013).random(len(table)) < 0.2
    train = table[~is_test].iloc[RANK::WORLD_SIZE]
    print(f"rank {RANK} of {WORLD_SIZE}: {len(train):,} flights to learn from", flush=True)

    with collective.CommunicatorContext(
        dmlc_tracker_uri=os.environ["DMLC_TRACKER_URI"],
        dmlc_tracker_port=int(os.environ["DMLC_TRACKER_PORT"]),
        dmlc_task_id=os.environ["DMLC_TASK_ID"],
        # Rank 0 may come later than this replica; XGBoost waits longer before each retry.
        dmlc_retry=10,
    ):
        data = xgboost.DMatrix(features.matrix(train, words), label=train["arr_delay"])
        booster = xgboost.train(
            {
                "objective": "reg:squarederror",
                "eta": float(PARAMS.get("eta", 0.2)),
                "max_depth": int(PARAMS.get("max_depth", 7)),
                "tree_method": "hist",
                "nthread": 1,
            },
            data,
            num_boost_round=ROUNDS,
            evals=[(data, "train")],
            verbose_eval=10,
        )
        digest = hashlib.sha256(booster.save_raw("json")).hexdigest()
        first = collective.broadcast(digest, 0)
        assert digest == first, f"rank {RANK} ended with another model than rank 0"
        print(f"rank {RANK}: model {digest[:12]}, the same on all replicas", flush=True)
    if RANK != 0:
        return
    tracker.wait_for(timeout=60)

    test = table[is_test]
    predicted = booster.inplace_predict(features.matrix(test, words))
    rmse = float(np.sqrt(np.mean((predicted - test["arr_delay"]) ** 2)))
    spread = float(test["arr_delay"].std())
    model = OUTPUTS / "model"
    model.mkdir(parents=True, exist_ok=True)
    booster.save_model(model / "model.json")
    (model / "steps.json").write_text(json.dumps(features.steps(words)))
    metrics = {"rmse_minutes": rmse, "spread_minutes": spread, "test_flights": int(is_test.sum())}
    (model / "metrics.json").write_text(json.dumps(metrics))
    print(f"test error {rmse:.2f} minutes over {is_test.sum():,} flights (their spread is {spread:.2f})", flush=True)


main()
