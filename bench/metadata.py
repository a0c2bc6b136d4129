"""Effect of missing metadata on runs that were trained with metadata hidden at random, beside runs without any metadata.

    python bench/quality.py train.parquet test.parquet --presets "hybrid, 3 members" --epochs 80 --keep runs
    python bench/quality.py train.parquet test.parquet --presets default --statics without --epochs 80 --keep runs
    python bench/metadata.py train.parquet test.parquet runs/hybrid-3members-with-* runs/default-without-*

A run with static features is evaluated with all of them, with a photo-z and its error only, and with none. Each is calibrated on
the held-out part of the training set, as in bench/quality.py. One JSON line per run, view and day: leaf macro F1 on the test set.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from quality import VALIDATION_FRACTION, provenance

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.training.dataset import DAYS

VIEWS = {"all": None, "photo-z": ("HOSTGAL_PHOTOZ", "HOSTGAL_PHOTOZ_ERR"), "none": ()}


def shown(curves: LightCurves, columns: tuple[str, ...] | None) -> LightCurves:
    "The curves with only these header columns, the SNID and the label; None keeps all."
    names = None if columns is None else [c for c in ("SNID", "ELASTICC_class", *columns) if c in curves.header]
    return curves if names is None else replace(curves, header=curves.header[names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="folders that bench/quality.py keeps")
    asked = parser.parse_args()
    curves, test = LightCurves.from_parquet(asked.train), LightCurves.from_parquet(asked.test)
    held_out = curves[split_value(curves.header["SNID"], seed=1) < VALIDATION_FRACTION]
    print(json.dumps({"bench": "metadata", **provenance(curves, test)}), flush=True)
    for run in asked.runs:
        classifier = HierarchicalClassifier.load(run).calibrate(held_out)
        views = VIEWS if classifier.preprocessing.static_columns else {"none": ()}
        for view, columns in views.items():
            table = compute_metrics(classifier.predict(shown(test, columns), DAYS))
            chosen = table.query("node == 'macro' and metric == 'f1' and level == 'leaf'")
            for day, value in zip(chosen.day, chosen.value, strict=True):
                print(json.dumps({"run": run.name, "shown": view, "day": int(day), "leaf_macro_f1": round(float(value), 4)}), flush=True)


if __name__ == "__main__":
    main()
