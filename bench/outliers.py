"""The p-value of belonging to the class tree: fitted for packaged classifiers, and measured.

    python bench/outliers.py fit synthetic held_out.parquet   # simulated objects that trained nothing; under two minutes
    python bench/outliers.py fit plasticc demo/plasticc/split/train.parquet   # the held-out part is found by the hash of the SNID
    python bench/outliers.py candidates synthetic held_out.parquet train.parquet runs --second other_checkpoint --real real.parquet
    python bench/outliers.py artefacts synthetic test.parquet
    python bench/outliers.py leave-out train.parquet test.parquet runs
    python bench/outliers.py sets synthetic held_out.parquet test.parquet

`fit` writes outliers.safetensors beside the weights of the package; repeat it after the weights have changed. The others replace their
rows of bench/results/outliers.jsonl. `artefacts`: false alarms at 1 per cent and the area under the ROC curve for artefacts of another
seed, by day. `leave-out`: the area for each leaf in turn, left out of the training of a small network (330 objects per leaf, 7 epochs),
beside 1 − largest leaf probability. `candidates` compares scores without test objects, among objects held out: for artefacts of a third
seed, for each kind of them left out of the fit, and for the left-out leaves. `--second` is a checkpoint of the same architecture trained
from another seed, for the disagreement of two members; a second small network is then trained for five of the leaves. `--real` adds
objects of a real survey, among which the same artefacts are to be found.
`sets` compares conformal sets with one threshold and with one for each class: the coverage of every class on
test objects, and that of all objects with equal numbers of all classes and with those of the prior `elasticc2`.
"""

import argparse
import json
import os
import platform
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from outlier_scores import rules, scored
from sklearn.metrics import roc_auc_score

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.outliers import (
    ARTEFACT_SEED,
    ARTEFACTS_PER_KIND,
    MOST_PER_LEAF,
    OUTLIERS_FILE,
    FeatureRows,
    feature_rows,
    fit_outliers,
    predict_features,
    save_outliers,
)
from elasticc_hc.classification.prediction_sets import conformal_sets, coverage, fit_thresholds
from elasticc_hc.classification.runs import held_out_split, train
from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.loss.calibration import leaf_prior
from elasticc_hc.simulation.artefacts import ARTEFACT_KINDS, simulate_artefacts
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS, LightCurveDataset, known_leaves, phases_at, positions_at_days
from elasticc_hc.training.options import DEFAULT, update_options

RESULTS = Path(__file__).parent / "results" / "outliers.jsonl"
ARTEFACT_TEST_SEED, ARTEFACT_CHOICE_SEED = 777, 333
SMALL = {"hidden": 48, "layers": 1, "epochs": 7, "batch_size": 64, "learning_rate": 0.01, "dropout": 0.1}
LEAVE_OUT_DAYS = (1, 8, 64)
PER_LEAF, TEST_PER_LEAF = 330, 100
TWO_MEMBERS = ("SNIa", "KN", "SLSN", "EB", "AGN")  # leaves without which a second small network is trained


def record(*new: dict) -> None:
    "Write rows in place of those of the same bench and classifier; the first row of the file is about the machine."
    about = {"date": date.today().isoformat(), "machine": platform.machine(), "cores": os.cpu_count()}
    rows = [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else [about]
    key = {(row["bench"], row.get("classifier")) for row in new}
    rows = [about, *(row for row in rows[1:] if (row["bench"], row.get("classifier")) not in key), *new]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


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
    about, rows = {"bench": "outliers", "classifier": asked.name, "objects": len(known), "artefacts": len(strange)}, []
    for column, day in enumerate(DAYS):
        unlike, again = 1 - known.outlier[:, column], detections[:, column] >= 2
        alarms = {f"alarms_{level}": round(float((known.outlier[:, column] <= level).mean()), 4) for level in (0.01, 0.05)}
        areas = {kind: area(unlike, 1 - strange.outlier[kinds == kind, column]) for kind in ARTEFACT_KINDS}
        flat = [1 - part.probabilities[:, column, part.taxonomy.leaf_nodes].max(axis=1) for part in (known, strange)]
        after = {"second_detection": area(unlike, 1 - strange.outlier[again, column])}
        after["second_detection_leaf"] = area(flat[0], flat[1][again])
        rows.append(about | {"day": day} | alarms | after | areas)
        print(rows[-1], flush=True)
    record(*rows)


def some_of_each(curves: LightCurves, taxonomy: Taxonomy, n: int) -> LightCurves:
    "The first n objects of each leaf."
    leaf = known_leaves(curves, taxonomy)
    return curves[np.sort(np.concatenate([np.flatnonzero(leaf == node)[:n] for node in taxonomy.leaf_nodes]))]


def without_leaf(train_set: LightCurves, taxonomy: Taxonomy, leaf: int, folder: Path, seed: int = 0):
    "The small network that was trained without a leaf, and what it was trained with and what was held out."
    state, (training, held_out) = taxonomy.to_dict(), held_out_split(curves := train_set[known_leaves(train_set, taxonomy) != leaf])
    if not (folder / "checkpoint.json").is_file():
        small = Taxonomy.from_dict(state | {"nodes": [node for node in state["nodes"] if node["name"] != taxonomy.nodes[leaf]]})
        train(curves, folder, small, "default", update_options(DEFAULT, SMALL), seed=seed)
    (folder / OUTLIERS_FILE).unlink(missing_ok=True)
    return HierarchicalClassifier.load(folder), training, held_out


def left_out(train_set: LightCurves, test: LightCurves, taxonomy: Taxonomy, leaf: int, folder: Path) -> dict:
    "Tell the objects of a leaf that was not in the training from the others."
    start = time.process_time()
    classifier, training, held_out = without_leaf(train_set, taxonomy, leaf, folder)
    classifier = classifier.fit_outliers(held_out, training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = classifier.predict(test, LEAVE_OUT_DAYS)
    here = known_leaves(test, taxonomy) == leaf
    flat = 1 - found.probabilities[:, :, found.taxonomy.leaf_nodes].max(axis=2)
    areas = {which: [area(score[~here, k], score[here, k]) for k in range(len(LEAVE_OUT_DAYS))]
             for which, score in (("outlier", 1 - found.outlier), ("largest_leaf", flat))}  # fmt: skip
    row = {"bench": "leave_out", "leaf": taxonomy.nodes[leaf], "days": list(LEAVE_OUT_DAYS), "cpu": round(time.process_time() - start)}
    print(row | areas, flush=True)
    return row | areas


def leave_out(asked) -> None:
    "Every leaf in turn."
    tree = Taxonomy.from_yaml("elasticc2")
    sizes = ((asked.train, PER_LEAF), (asked.test, TEST_PER_LEAF))
    train_set, test = (some_of_each(LightCurves.from_parquet(path), tree, n) for path, n in sizes)
    record(*(left_out(train_set, test, tree, leaf, asked.runs / f"{k:02d}") for k, leaf in enumerate(tree.leaf_nodes)))


def with_logits(members: list, features: list[np.ndarray]) -> np.ndarray:
    "The features of the first member, then the logits of all."
    with torch.no_grad():
        logits = [member.network.head(torch.from_numpy(part)).numpy() for member, part in zip(members, features, strict=True)]
    return np.concatenate([features[0], *logits], axis=-1)


def rows_of(members: list, curves: LightCurves, label: np.ndarray) -> tuple[FeatureRows, np.ndarray]:
    "As `feature_rows`, with the logits of all members behind the features."
    found = [feature_rows(member, curves, label) for member in members]
    return replace(found[0][0], features=with_logits(members, [rows.features for rows, _ in found])), found[0][1]


def at_days(members: list, curves: LightCurves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Features and logits, detections and days since trigger at `LEAVE_OUT_DAYS`."
    sets = [LightCurveDataset(curves, member.preprocessing) for member in members]
    positions = positions_at_days(sets[0], LEAVE_OUT_DAYS)
    found = [predict_features(member.network, dataset, positions) for member, dataset in zip(members, sets, strict=True)]
    days, detections = (part.numpy() for part in phases_at(sets[0], positions))
    return with_logits(members, found), detections, days


def fit_parts(members: list, training: LightCurves, calibration: LightCurves) -> tuple[FeatureRows, FeatureRows, FeatureRows]:
    "Rows of known objects and of artefacts for the fit, and rows of known objects for the p-values."
    tree, strange = members[0].taxonomy, simulate_artefacts(ARTEFACTS_PER_KIND, ARTEFACT_SEED, "mixed")
    known = some_of_each(training, tree, MOST_PER_LEAF)
    kinds = np.array([ARTEFACT_KINDS.index(kind) for kind in strange.header["ELASTICC_class"]])
    rows, owner = rows_of(members, calibration, known_leaves(calibration, tree))
    return rows_of(members, known, known_leaves(known, tree))[0], rows_of(members, strange, kinds)[0], replace(rows, label=owner)


def junk_areas(members: list, held_out: LightCurves, real: LightCurves | None) -> dict[str, dict]:
    "Of each candidate: the areas for artefacts after two detections, also among real objects, and for each kind that was not in the fit."
    tree, places = members[0].taxonomy, split_value(held_out.header["SNID"], 0)
    fit, calibration, judged = (held_out[(low <= places) & (places < high)] for low, high in ((0, 0.5), (0.5, 0.75), (0.75, 1)))
    known, strange, rows = fit_parts(members, fit, calibration)
    curves = simulate_artefacts(200, ARTEFACT_CHOICE_SEED)
    kinds = np.array([ARTEFACT_KINDS.index(kind) for kind in curves.header["ELASTICC_class"]])
    parts, again, found = (at_days(members, judged), at_days(members, curves)), detections_by_day(curves, LEAVE_OUT_DAYS) >= 2, {}
    measured = {} if real is None else {"real": at_days(members, real)}
    for name, rule in rules(known, strange, tree, len(members)).items():
        one, other, *rest = scored(rule, rows, *parts, *measured.values())
        negatives = {"second_detection": one} | dict(zip(measured, rest, strict=True))
        found[name] = {"kind_left_out": []}
        for title, score in negatives.items():
            found[name][title] = [area(score[:, k], other[again[:, k], k]) for k in range(len(LEAVE_OUT_DAYS))]
            found[name][f"{title}_alarms_0.05"] = (score >= 0.95).mean(axis=0).round(4).tolist()
    for kind in range(len(ARTEFACT_KINDS)):
        for name, rule in rules(known, strange.keep(strange.label != kind), tree, len(members)).items():
            one, other = scored(rule, rows, *parts)
            found[name]["kind_left_out"].append([area(one[:, k], other[kinds == kind, k]) for k in range(len(LEAVE_OUT_DAYS))])
    return found


def leaf_areas(members: list, training: LightCurves, held_out: LightCurves, judged: LightCurves, here: np.ndarray) -> dict[str, list]:
    "Of each candidate: the areas for the objects of a leaf that was not in the training."
    known, strange, rows = fit_parts(members, training, held_out)
    part, found = at_days(members, judged), {}
    for name, rule in rules(known, strange, members[0].taxonomy, len(members)).items():
        score = scored(rule, rows, part)[0]
        found[name] = [area(score[~here, k], score[here, k]) for k in range(len(LEAVE_OUT_DAYS))]
    return found


def candidates(asked) -> None:
    "Compare scores on objects held out."
    members = [HierarchicalClassifier.load(name) for name in (asked.name, asked.second) if name]
    held_out, tree = LightCurves.from_parquet(asked.data), Taxonomy.from_yaml("elasticc2")
    real = asked.real and LightCurves.from_parquet(asked.real)
    found = {name: row | {"leaves": {}} for name, row in junk_areas(members, held_out, real).items()}
    train_set = some_of_each(LightCurves.from_parquet(asked.train), tree, PER_LEAF)
    judged = some_of_each(held_out, tree, TEST_PER_LEAF)
    for place, leaf in enumerate(tree.leaf_nodes):
        folder, name = asked.runs / f"{place:02d}", tree.nodes[leaf]
        first, training, calibration = without_leaf(train_set, tree, leaf, folder)
        second = [without_leaf(train_set, tree, leaf, Path(f"{folder}-second"), 1)[0]] if asked.second and name in TWO_MEMBERS else []
        here = known_leaves(judged, tree) == leaf
        for rule, areas in leaf_areas([first, *second], training, calibration, judged, here).items():
            found[rule]["leaves"][name] = areas
        print(name, {rule: row["leaves"].get(name) for rule, row in found.items()}, flush=True)
    about = {"bench": "candidates", "classifier": asked.name, "days": list(LEAVE_OUT_DAYS)}
    rows = [about | {"score": name} | row | {"kind_left_out": np.mean(row["kind_left_out"], axis=0).round(3).tolist(),
            "kinds": dict(zip(ARTEFACT_KINDS, row["kind_left_out"], strict=True)),
            "left_out": np.mean(list(row["leaves"].values()), axis=0).round(3).tolist()} for name, row in found.items()]  # fmt: skip
    for row in rows:
        print({name: row[name] for name in ("score", "second_detection", "kind_left_out", "left_out")})
    record(*rows)


def sets(asked) -> None:
    "Coverage of each class by conformal sets with a nominal coverage of 90 per cent, and of all under other class mixes."
    classifier = HierarchicalClassifier.load(asked.name)
    held_out, test = (classifier.predict(LightCurves.from_parquet(path)) for path in (asked.data, asked.test))
    tree, rng = classifier.taxonomy, np.random.default_rng(0)
    rate = leaf_prior("elasticc2", classifier.class_prior, tree)[np.searchsorted(tree.leaf_nodes, test.truth)]
    mixed, rows = rng.choice(len(test), 20_000, p=rate / rate.sum()), []
    for by_class in (False, True):
        found = conformal_sets(test, fit_thresholds(held_out, 0.9, by_class=by_class))
        classes = {tree.nodes[leaf]: coverage(test[test.truth == leaf], found[test.truth == leaf]) for leaf in tree.leaf_nodes}
        every, mix = np.stack(list(classes.values())), coverage(test[mixed], found[mixed])
        for column, day in enumerate(DAYS):
            rows.append({"bench": "class_sets", "classifier": asked.name, "by_class": by_class, "day": day, "test": len(test),
                         "thresholds_from": len(held_out), "coverage": round(float(coverage(test, found)[column]), 4),
                         "other_mix": round(float(mix[column]), 4), "nodes": round(float(found[:, column].sum(axis=1).mean()), 2),
                         "most_off": round(float(abs(every[:, column] - 0.9).max()), 4),
                         "classes": {name: round(float(values[column]), 4) for name, values in classes.items()}})  # fmt: skip
    record(*rows)


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
    added = verbs.add_parser("candidates")
    added.add_argument("name", help="a packaged classifier, or the folder of one")
    for name in ("data", "train", "runs"):
        added.add_argument(name, type=Path)
    added.add_argument("--second", help="a checkpoint of another seed")
    added.add_argument("--real", type=Path, help="labelled objects of a real survey")
    added.set_defaults(run=candidates)
    torch.set_num_threads(1)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
