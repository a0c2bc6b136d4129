"""What the temperatures and the conformal thresholds are worth on objects that nobody has seen.

    python bench/calibration.py demo/plasticc/run demo/plasticc/split/train.parquet demo/plasticc/split/test.parquet

Both are fitted to the objects that `elasticc-hc train` held out to choose the best epoch by (a tenth of the training side). Prints
one JSON line per level and day: calibration error, Brier score, log loss, accuracy and macro F1, of the network as it is, with
temperatures alone, and with temperatures and offsets; and the share of conformal sets that hold the truth for promises of 90 and
95 %. The test side is read once, at the end.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from elasticc_hc.classifier import DAYS, HierarchicalClassifier, Predictions
from elasticc_hc.conformal import conformal_sets, coverage, fit_thresholds
from elasticc_hc.conversion.combine import split_value
from elasticc_hc.evaluation.metrics import metrics
from elasticc_hc.lightcurves import LightCurves
from elasticc_hc.taxonomy import LEVELS

VALIDATION_FRACTION, VALIDATION_SEED = 0.1, 1
METRICS = ("ece", "brier", "log_loss", "accuracy", "f1")
PROMISES = (0.9, 0.95)


def halves(curves: LightCurves) -> tuple[LightCurves, LightCurves]:
    "Held-out objects in two halves, by another hash."
    first = split_value(curves.header["SNID"], seed=3) < 0.5
    return curves[first], curves[~first]


def joined(parts: list[Predictions]) -> Predictions:
    "Predictions of different objects together."
    fields = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("SNID", "probabilities", "truth")}
    return replace(parts[0], **fields)


def unseen(classifier: HierarchicalClassifier, held_out: LightCurves) -> tuple[HierarchicalClassifier, Predictions]:
    "Temperatures from all held-out objects; predictions for the thresholds, each half calibrated with the other."
    first, second = halves(held_out)
    crossed = joined([classifier.calibrate(second).predict(first), classifier.calibrate(first).predict(second)])
    return classifier.calibrate(held_out), crossed


def values(predictions: Predictions) -> dict:
    "The metrics of the whole by level and day."
    table = metrics(predictions)
    table = table[(table["node"] == np.where(table["metric"] == "f1", "macro", "all")) & table["metric"].isin(METRICS)]
    return table.set_index(["level", "day", "metric"])["value"].to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    options = parser.parse_args()
    bare = replace(HierarchicalClassifier.load(options.run), calibration=None)
    curves = LightCurves.from_parquet(options.train)
    held_out = curves[split_value(curves.header["SNID"], VALIDATION_SEED) < VALIDATION_FRACTION]
    cooled, crossed = unseen(bare, held_out)
    test = LightCurves.from_parquet(options.test)
    after = cooled.predict(test)
    three = [values(p) for p in (bare.predict(test), bare.calibrate(held_out, offset_price=None).predict(test), after)]
    held = {}
    for promise in PROMISES:
        thresholds = fit_thresholds(crossed, promise)
        held[promise] = {level: coverage(after, conformal_sets(after, thresholds, level)) for level in LEVELS}
    print(json.dumps({"bench": "calibration", "fitted_to": len(crossed), "tested_on": len(after)}), flush=True)
    for level in LEVELS:
        for index, day in enumerate(DAYS):
            row = {"bench": "calibration", "level": level, "day": day}
            for name in METRICS:
                row |= {name: [round(table[level, day, name], 4) for table in three]}
            row |= {f"coverage_{promise}": round(float(held[promise][level][index]), 4) for promise in PROMISES}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
