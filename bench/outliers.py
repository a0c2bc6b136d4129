"""The p-value of belonging to the class tree: fitted for packaged classifiers, and measured.

    python bench/outliers.py fit synthetic held_out.parquet   # simulated objects that trained nothing; under two minutes
    python bench/outliers.py fit plasticc demo/plasticc/split/train.parquet   # the held-out part is found by the hash of the SNID
    python bench/outliers.py artefacts synthetic test.parquet
    python bench/outliers.py leave-out train.parquet test.parquet runs
    python bench/outliers.py sets synthetic held_out.parquet test.parquet

`fit` writes outliers.safetensors beside the weights of the package; repeat it after the weights have changed. The others append to
bench/results/outliers.jsonl: false alarms at 1 per cent and the area under the ROC curve for artefacts of another seed, by day; and
the area for each leaf in turn, left out of the training of a small network (330 objects per leaf, 7 epochs), beside 1 − largest leaf
probability. `sets` compares conformal sets with one threshold and with one for each class: the coverage of every class on test
objects, and that of all objects with equal numbers of all classes and with those of the prior `elasticc2`.
"""

import argparse
import json
import os
import platform
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.outliers import OUTLIERS_FILE, fit_outliers, save_outliers
from elasticc_hc.classification.prediction_sets import conformal_sets, coverage, fit_thresholds
from elasticc_hc.classification.runs import held_out_split, train
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.loss.calibration import leaf_prior
from elasticc_hc.simulation.artefacts import ARTEFACT_KINDS, simulate_artefacts
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS, known_leaves
from elasticc_hc.training.options import DEFAULT, update_options

RESULTS = Path(__file__).parent / "results" / "outliers.jsonl"
ARTEFACT_TEST_SEED = 777
SMALL = {"hidden": 48, "layers": 1, "epochs": 7, "batch_size": 64, "learning_rate": 0.01, "dropout": 0.1}
LEAVE_OUT_DAYS = (1, 8, 64)
PER_LEAF, TEST_PER_LEAF = 330, 100


def record(**row) -> None:
    "Append a row to the results, whose first row is about the machine."
    rows = [row] if RESULTS.exists() else [{"date": date.today().isoformat(), "machine": platform.machine(), "cores": os.cpu_count()}, row]
    with RESULTS.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(part) + "\n" for part in rows)
    print(json.dumps(row), flush=True)


def fit(asked) -> None:
    "Fit and store the model of a packaged classifier."
    folder, start = HierarchicalClassifier.pretrained_path(asked.name), time.process_time()
    (folder / OUTLIERS_FILE).unlink(missing_ok=True)
    classifier, curves = HierarchicalClassifier.load(folder), LightCurves.from_parquet(asked.data)
    training, held_out = (None, curves) if "simulated_per_leaf" in classifier.description["data"] else held_out_split(curves)
    save_outliers(fit_outliers(classifier, held_out, training), folder)
    size = (folder / OUTLIERS_FILE).stat().st_size
    print(f"{folder / OUTLIERS_FILE}: {size:,} bytes, {len(held_out):,} objects held out, {time.process_time() - start:.0f} s of CPU")


def area(negative: np.ndarray, positive: np.ndarray) -> float:
    "Area under the ROC curve of a score that is high for positives."
    truth = np.repeat([0, 1], [len(negative), len(positive)])
    return round(float(roc_auc_score(truth, np.concatenate([negative, positive]))), 3)


def detections_by_day(curves: LightCurves, days) -> np.ndarray:  # (n, n_days)
    "Number of detections until each day."
    seen = [np.add.reduceat(curves.detected & (curves.days <= day + 1e-6), curves.offsets[:-1], dtype=int) for day in days]
    return np.stack(seen, axis=1)


def artefacts(asked) -> None:
    "False alarms on test objects, and the areas for artefacts of another seed."
    classifier, curves = HierarchicalClassifier.load(asked.name), simulate_artefacts(200, ARTEFACT_TEST_SEED)
    known, strange = classifier.predict(LightCurves.from_parquet(asked.data)), classifier.predict(curves)
    kinds, detections = curves.header["ELASTICC_class"].to_numpy(), detections_by_day(curves, DAYS)
    about = {"bench": "outliers", "classifier": asked.name, "objects": len(known), "artefacts": len(strange)}
    for column, day in enumerate(DAYS):
        unlike, again = 1 - known.outlier[:, column], detections[:, column] >= 2
        alarms = {f"alarms_{level}": round(float((known.outlier[:, column] <= level).mean()), 4) for level in (0.01, 0.05)}
        areas = {kind: area(unlike, 1 - strange.outlier[kinds == kind, column]) for kind in ARTEFACT_KINDS}
        flat = [1 - part.probabilities[:, column, part.taxonomy.leaf_nodes].max(axis=1) for part in (known, strange)]
        record(**about, day=day, **alarms, second_detection=area(unlike, 1 - strange.outlier[again, column]),
               second_detection_leaf=area(flat[0], flat[1][again]), **areas)  # fmt: skip


def some_of_each(curves: LightCurves, taxonomy: Taxonomy, n: int) -> LightCurves:
    "The first n objects of each leaf."
    leaf = known_leaves(curves, taxonomy)
    return curves[np.sort(np.concatenate([np.flatnonzero(leaf == node)[:n] for node in taxonomy.leaf_nodes]))]


def left_out(train_set: LightCurves, test: LightCurves, taxonomy: Taxonomy, leaf: int, folder: Path) -> None:
    "Train without a leaf, then tell its objects from the others."
    name, state, start = taxonomy.nodes[leaf], taxonomy.to_dict(), time.process_time()
    small = Taxonomy.from_dict(state | {"nodes": [node for node in state["nodes"] if node["name"] != name]})
    if not (folder / "checkpoint.json").is_file():
        curves = train_set[known_leaves(train_set, taxonomy) != leaf]
        train(curves, folder, small, "default", update_options(DEFAULT, SMALL), seed=0)
    classifier = HierarchicalClassifier.load(folder)
    if classifier.outliers is None:
        curves = train_set[known_leaves(train_set, taxonomy) != leaf]
        training, held_out = held_out_split(curves)
        classifier = classifier.fit_outliers(held_out, training)
        save_outliers(classifier.outliers, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = classifier.predict(test, LEAVE_OUT_DAYS)
    here = known_leaves(test, taxonomy) == leaf
    flat = 1 - found.probabilities[:, :, found.taxonomy.leaf_nodes].max(axis=2)
    areas = {which: [area(score[~here, k], score[here, k]) for k in range(len(LEAVE_OUT_DAYS))]
             for which, score in (("outlier", 1 - found.outlier), ("largest_leaf", flat))}  # fmt: skip
    record(bench="leave_out", leaf=name, days=list(LEAVE_OUT_DAYS), cpu=round(time.process_time() - start), **areas)


def leave_out(asked) -> None:
    "Every leaf in turn."
    tree = Taxonomy.from_yaml("elasticc2")
    sizes = ((asked.train, PER_LEAF), (asked.test, TEST_PER_LEAF))
    train_set, test = (some_of_each(LightCurves.from_parquet(path), tree, n) for path, n in sizes)
    for k, leaf in enumerate(tree.leaf_nodes):
        left_out(train_set, test, tree, leaf, asked.runs / f"{k:02d}")


def sets(asked) -> None:
    "Coverage of each class by conformal sets with a nominal coverage of 90 per cent, and of all under other class mixes."
    classifier = HierarchicalClassifier.load(asked.name)
    held_out, test = (classifier.predict(LightCurves.from_parquet(path)) for path in (asked.data, asked.test))
    tree, rng = classifier.taxonomy, np.random.default_rng(0)
    rate = leaf_prior("elasticc2", classifier.class_prior, tree)[np.searchsorted(tree.leaf_nodes, test.truth)]
    mixed = rng.choice(len(test), 20_000, p=rate / rate.sum())
    for by_class in (False, True):
        found = conformal_sets(test, fit_thresholds(held_out, 0.9, by_class=by_class))
        classes = {tree.nodes[leaf]: coverage(test[test.truth == leaf], found[test.truth == leaf]) for leaf in tree.leaf_nodes}
        every, mix = np.stack(list(classes.values())), coverage(test[mixed], found[mixed])
        for column, day in enumerate(DAYS):
            record(bench="class_sets", classifier=asked.name, by_class=by_class, day=day, test=len(test), thresholds_from=len(held_out),
                   coverage=round(float(coverage(test, found)[column]), 4), other_mix=round(float(mix[column]), 4),
                   nodes=round(float(found[:, column].sum(axis=1).mean()), 2), most_off=round(float(abs(every[:, column] - 0.9).max()), 4),
                   classes={name: round(float(values[column]), 4) for name, values in classes.items()})  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (fit, artefacts, sets):
        added = verbs.add_parser(verb.__name__)
        added.add_argument("name", help="a packaged classifier")
        added.add_argument("data", type=Path)
        if verb is sets:
            added.add_argument("test", type=Path)
        added.set_defaults(run=verb)
    added = verbs.add_parser("leave-out")
    for name in ("train", "test", "runs"):
        added.add_argument(name, type=Path)
    added.set_defaults(run=leave_out)
    torch.set_num_threads(1)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
