"""Classification quality: presets with several seeds, compared with gradient boosting on light-curve features.

    python bench/quality.py demo/plasticc/split/train.parquet demo/plasticc/split/test.parquet --name PLAsTiCC --epochs 80
    python bench/quality.py … --presets lstm default --statics without --seeds 0

Every preset is trained on the same objects, for the same number of epochs, with a tenth of the training set held out to select
the best epoch and for calibration, as in `elasticc-hc train`. The boosted trees are fitted for every day, to the observations of
the training objects up to that day. `oracle, batch 64` is ORACLE's configuration with smaller batches than its own of 1024, which
gives more steps per epoch on a small set.

Prints a line about the data; one JSON line per run with its CPU seconds, and those until it reached the best validation score of
`oracle` with the same seed; then one line per model, seed, level and day. The test set is read once, after all training.
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

import light_curve as lc
import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from elasticc_hc.augmentation.augmentation import windows_by_days
from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.lightcurves.lightcurves import BANDS, LightCurves, process
from elasticc_hc.lightcurves.statics import static_features
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS, leaf_labels
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import fit

VALIDATION_FRACTION = 0.1
METRICS = ("f1", "accuracy", "ece", "log_loss")
MODELS = {
    **PRESETS, "oracle, batch 64": replace(PRESETS["oracle"], batch_size=64),
    "hybrid, 3 members": replace(PRESETS["hybrid"], members=3),
    "default, no time weights": replace(PRESETS["default"], time_share=0.0),
}  # fmt: skip
FEATURES = lc.Extractor(
    lc.Amplitude(), lc.BeyondNStd(1.0), lc.Cusum(), lc.Eta(), lc.EtaE(), lc.ExcessVariance(), lc.InterPercentileRange(0.1),
    lc.Kurtosis(), lc.LinearFit(), lc.LinearTrend(), lc.MaximumSlope(), lc.Mean(), lc.Median(), lc.MedianAbsoluteDeviation(),
    lc.PercentAmplitude(), lc.ReducedChi2(), lc.Skew(), lc.StandardDeviation(), lc.StetsonK(), lc.WeightedMean(),
    lc.ObservationCount(), lc.TimeMean(), lc.TimeStandardDeviation(),
)  # fmt: skip
SECOND = 1e-5  # days between the visits of a band: slopes require distinct times


def light_curve_features(curves: LightCurves) -> np.ndarray:  # (n, n_bands * n_features)
    "The features of the light-curve package in each passband, NaN for too few points."
    columns = []
    for band in range(len(BANDS)):
        part = curves.select(curves.BAND == band)
        order = np.arange(part.n_obs) - np.repeat(part.offsets[:-1], part.counts)
        values = part.MJD + SECOND * order, part.FLUXCAL.astype(np.float64), 1 / part.FLUXCALERR.astype(np.float64) ** 2
        pieces = zip(*(np.split(value, part.offsets[1:-1]) for value in values), strict=True)
        columns.append(FEATURES.many(list(pieces), fill_value=np.nan, n_jobs=1, sorted=True))
    return np.concatenate(columns, axis=1)


def features(curves: LightCurves, statics: bool) -> np.ndarray:  # (n, n_features)
    "Light-curve features, the extremes of each passband, counts and spans, and with `statics` the static features."
    table = pd.DataFrame({"object": curves.object_index, "band": curves.BAND, "flux": curves.FLUXCAL,
                          "snr": curves.FLUXCAL / curves.FLUXCALERR, "days": curves.days})  # fmt: skip
    per_band = table.groupby(["object", "band"])["flux"].agg(["max", "min"]).unstack("band")
    flux = per_band.reindex(index=range(len(curves)), columns=pd.MultiIndex.from_product([["max", "min"], range(len(BANDS))]))
    snr = table.groupby("object")["snr"].agg(["max", "min"]).reindex(range(len(curves)))
    detections = table[curves.detected].groupby("object")["days"].agg(["count", "std"]).reindex(range(len(curves)))
    span = table.groupby("object")["days"].agg(lambda days: days.max() - days.min()).reindex(range(len(curves)))
    known = [static_features(curves.header)] if statics else []
    return np.column_stack([light_curve_features(curves), flux, snr, detections, span, *known])


def boosting(train: LightCurves, test: LightCurves, taxonomy: Taxonomy, day: float, statics: bool) -> np.ndarray:
    "Node probabilities (n, n_nodes) of the test objects at one day; fitted to the training objects up to that day."
    model = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.05, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    seen, asked = (windows_by_days(process(curves), (day,)).cut() for curves in (train, test))
    table = features(seen, statics)
    known = ~np.isnan(table).all(axis=0)
    model.fit(table[:, known], leaf_labels(seen, taxonomy))
    probabilities = np.zeros((len(asked), len(taxonomy.nodes)), dtype=np.float32)
    probabilities[:, model.classes_] = model.predict_proba(features(asked, statics)[:, known])
    return probabilities @ taxonomy.paths.astype(np.float32)


def provenance(train: LightCurves, test: LightCurves) -> dict:
    "Data and versions of the measurement."
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    return {"date": date.today().isoformat(), "machine": machine, "train": len(train), "test": len(test)}


def report(about: dict, predictions: Predictions) -> None:
    "One JSON line per level and day."
    table = compute_metrics(predictions)
    macro = table[table["node"].isin(["macro", "all"]) & table["metric"].isin(METRICS)]
    for (level, day), part in macro.groupby(["level", "day"], sort=False):
        values = dict(zip(part["metric"], part["value"].round(4), strict=True))
        print(json.dumps({**about, "level": level, "day": int(day), **values}), flush=True)


def trained(
    learned: LightCurves, held_out: LightCurves, taxonomy: Taxonomy, options, run: Path
) -> tuple[HierarchicalClassifier, np.ndarray]:
    "A calibrated classifier, and (n_epochs, 2) the CPU seconds and the validation score after every epoch trained here."
    course, start = [], time.process_time()
    if (run / "resume").is_dir() or not run.exists():
        fit(learned, held_out, taxonomy, run, options, lambda row: course.append((time.process_time() - start, row["score"])))
    return HierarchicalClassifier.load(run).calibrate(held_out), np.array(course).reshape(-1, 2)


def until(course: np.ndarray, score: float) -> float | None:
    "CPU seconds until a score was reached; None if never."
    there = np.flatnonzero(course[:, 1] >= score)
    return round(float(course[there[0], 0]), 1) if len(there) else None


def argument_parser(about: str | None, presets: list[str], statics: list[str], seeds: list[int]) -> argparse.ArgumentParser:
    "The arguments for data and training, with these defaults."
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--name", default="", help="name of the data in the output")
    parser.add_argument("--taxonomy", default="plasticc")
    parser.add_argument("--presets", nargs="*", default=presets, choices=MODELS)
    parser.add_argument("--statics", nargs="+", default=statics, choices=["with", "without"], help="for the presets")
    parser.add_argument("--epochs", type=int, help="for all presets; the default of each preset if omitted")
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--keep", type=Path, help="folder for the runs; finished ones are not trained again")
    return parser


def main() -> None:
    parser = argument_parser(__doc__, ["oracle", "lstm", "default"], ["with"], [0, 1, 2])
    parser.add_argument("--no-boosting", action="store_true")
    parser.add_argument("--boosting-days", type=int, nargs="+", default=DAYS, choices=DAYS, help="one fit per day")
    asked = parser.parse_args()
    taxonomy = Taxonomy.from_yaml(asked.taxonomy)
    curves, test = LightCurves.from_parquet(asked.train), LightCurves.from_parquet(asked.test)
    print(json.dumps({"bench": "quality", "data": asked.name, **provenance(curves, test)}), flush=True)
    held_out = split_value(curves.header["SNID"], seed=1) < VALIDATION_FRACTION
    scratch = tempfile.TemporaryDirectory()
    folder = asked.keep or Path(scratch.name)
    results = []
    for seed, statics in itertools.product(asked.seeds, asked.statics):
        courses = {}
        for preset in asked.presets:
            options = replace(MODELS[preset], seed=seed, epochs=asked.epochs or MODELS[preset].epochs)
            if statics == "without":
                options = replace(options, static_columns=())
            run = folder / f"{preset.replace(', ', '-').replace(' ', '')}-{statics}-{seed}"
            classifier, courses[preset] = trained(curves[~held_out], curves[held_out], taxonomy, options, run)
            results.append(({"model": preset, "statics": statics, "seed": seed}, classifier))
        for preset, course in courses.items():
            if not len(course):
                continue  # trained earlier
            spent = {"epochs": len(course), "cpu_seconds": round(course[-1, 0], 1), "best_score": round(course[:, 1].max(), 4)}
            if len(courses.get("oracle", ())):
                spent["cpu_seconds_to_oracle_best"] = until(course, courses["oracle"][:, 1].max())
            print(json.dumps({"run": {"model": preset, "statics": statics, "seed": seed}, **spent}), flush=True)
    for about, classifier in results:
        if classifier.trees:
            alone = replace(classifier, trees=None).calibrate(curves[held_out])
            report(about | {"model": f"{about['model']}, network alone", "calibrated": True}, alone.predict(test, DAYS))
        report(about | {"calibrated": False}, replace(classifier, calibration=None).predict(test, DAYS))
        report(about | {"calibrated": True}, classifier.predict(test, DAYS))
    processed = process(test)
    snid, truth = processed.header["SNID"].to_numpy(), leaf_labels(processed, taxonomy)
    for statics in [] if asked.no_boosting else asked.statics:
        days = asked.boosting_days
        by_day = np.stack([boosting(curves, test, taxonomy, day, statics == "with") for day in days], axis=1)
        report({"model": "boosting", "statics": statics, "seed": 0}, Predictions(snid, np.array(days), by_day, truth, taxonomy))


if __name__ == "__main__":
    main()
