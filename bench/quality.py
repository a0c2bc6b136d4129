"""Classification quality: presets over several seeds beside gradient boosting on summary features.

    python bench/quality.py demo/plasticc/split/train.parquet demo/plasticc/split/test.parquet --presets lstm oracle

Prints one JSON line per model, seed and day. The test side is read once, after everything has been trained.
"""

import argparse
import itertools
import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from elasticc_hc.augmentation import windows_by_days
from elasticc_hc.classifier import DAYS, HierarchicalClassifier, Predictions
from elasticc_hc.conversion.combine import split_value
from elasticc_hc.dataset import labels
from elasticc_hc.evaluation.metrics import metrics
from elasticc_hc.lightcurves import BANDS, LightCurves, process, static_features
from elasticc_hc.taxonomy import Taxonomy
from elasticc_hc.training import PRESETS, fit

VALIDATION_FRACTION = 0.1
BASELINE_DAYS = (1, 8, 64, 1024)


def summary_features(curves: LightCurves) -> np.ndarray:
    "Plain statistics of each processed curve, and its static features."
    table = pd.DataFrame({"object": curves.object_index, "band": curves.BAND, "flux": curves.FLUXCAL,
                          "snr": curves.FLUXCAL / curves.FLUXCALERR, "days": curves.days})  # fmt: skip
    per_band = table.groupby(["object", "band"])["flux"].agg(["max", "min", "mean", "std", "median"]).unstack("band")
    columns = pd.MultiIndex.from_product([["max", "min", "mean", "std", "median"], range(len(BANDS))])
    flux = per_band.reindex(index=range(len(curves)), columns=columns)
    snr = table.groupby("object")["snr"].agg(["max", "min"]).reindex(range(len(curves)))
    detections = table[curves.detected].groupby("object")["days"].agg(["count", "std"]).reindex(range(len(curves)))
    span = table.groupby("object")["days"].agg(lambda days: days.max() - days.min()).reindex(range(len(curves)))
    return np.column_stack([flux, snr, detections, span, static_features(curves.header)])


def boosting(train: LightCurves, test: LightCurves, taxonomy: Taxonomy, day: float) -> np.ndarray:
    "Leaf probabilities (n, n_leaves) of the test objects as seen at one day; fitted on training objects as seen then."
    model = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.05, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    seen, asked = (windows_by_days(process(curves), (day,)).cut() for curves in (train, test))
    features = summary_features(seen)
    known = ~np.isnan(features).all(axis=0)
    model.fit(features[:, known], labels(seen, taxonomy))
    probabilities = np.zeros((len(asked), len(taxonomy.nodes)), dtype=np.float32)
    probabilities[:, model.classes_] = model.predict_proba(summary_features(asked)[:, known])
    return probabilities @ taxonomy.paths.astype(np.float32)


def provenance(train: LightCurves, test: LightCurves) -> dict:
    "What the numbers were measured on."
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    return {"date": date.today().isoformat(), "machine": machine, "train": len(train), "test": len(test)}


def report(model: str, seed: int, predictions: Predictions) -> None:
    "One JSON line per level and day."
    table = metrics(predictions)
    macro = table[(table["node"] == "macro") & table["metric"].isin(["f1", "accuracy"])]
    for (level, day), part in macro.groupby(["level", "day"], sort=False):
        values = dict(zip(part["metric"], part["value"].round(4), strict=True))
        print(json.dumps({"model": model, "seed": seed, "level": level, "day": int(day), **values}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--taxonomy", default="plasticc")
    parser.add_argument("--presets", nargs="+", default=["lstm"], choices=PRESETS)
    parser.add_argument("--epochs", type=int, help="the same for all presets; each one's own by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    taxonomy = Taxonomy.from_yaml(arguments.taxonomy)
    curves, test = LightCurves.from_parquet(arguments.train), LightCurves.from_parquet(arguments.test)
    print(json.dumps(provenance(curves, test)), flush=True)
    results = []
    held_out = split_value(curves.header["SNID"], seed=1) < VALIDATION_FRACTION
    for preset, seed in itertools.product(arguments.presets, arguments.seeds):
        options = replace(PRESETS[preset], seed=seed, epochs=arguments.epochs or PRESETS[preset].epochs)
        with tempfile.TemporaryDirectory() as run:
            start = time.process_time()
            fit(curves[~held_out], curves[held_out], taxonomy, run, options)
            spent = {"preset": preset, "seed": seed, "epochs": options.epochs, "cpu_seconds": round(time.process_time() - start)}
            print(json.dumps(spent), flush=True)
            results.append((preset, seed, HierarchicalClassifier.load(run).predict(test, DAYS)))
    by_day = np.stack([boosting(curves, test, taxonomy, day) for day in BASELINE_DAYS], axis=1)
    asked = process(test)
    snid = asked.header["SNID"].to_numpy()
    results.append(("boosting", 0, Predictions(snid, np.array(BASELINE_DAYS), by_day, labels(asked, taxonomy), taxonomy)))
    for result in results:
        report(*result)


if __name__ == "__main__":
    main()
