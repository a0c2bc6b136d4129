"""Fine-tuning on real objects against the number of labels, compared with training from scratch and with no tuning.

Real: a Parquet file with `ELASTICC_class`. In each draw, half of the objects may be used for tuning and the other half judges;
the labels are the first ones of a random order of the tuning half, so smaller sets are parts of larger ones. The measures are those
of the newest probabilities of each object: accuracy, the mean over the classes present with equal priors of all leaves; log loss
of the leaf and calibration error of the most probable leaf under the classifier's own prior. Forgetting: the same accuracy on
simulated test objects of all leaves at days 8, 64 and the last, for the first draw.

Prints one JSON line about the run, then one for each number of labels, method and draw.

    python bench/fine_tuning.py real.parquet [--simulated test.parquet] [--classifier synthetic] > bench/results/fine_tuning.jsonl
"""

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from elasticc_hc import HierarchicalClassifier, LightCurves, Predictions, Taxonomy, train
from elasticc_hc.evaluation.metrics import calibration_error
from elasticc_hc.loss.calibration import shift_prior
from elasticc_hc.training.options import choose_options

LABELS = (20, 50, 200, 1000)
END = 1e5
SIMULATED_SHARE = 4  # every fourth simulated object is used
SCRATCH_DRAWS = 3  # draws in which networks are trained from scratch


def accuracy(predictions: Predictions) -> tuple[list[float], dict]:
    "Mean accuracy over the leaves present at each day, and that of each leaf on the last day."
    tree = predictions.taxonomy
    said = tree.leaf_nodes[predictions.probabilities[..., tree.leaf_nodes].argmax(-1)]
    right = {tree.nodes[leaf]: (said[predictions.truth == leaf] == leaf).mean(0) for leaf in np.unique(predictions.truth)}
    return np.mean(list(right.values()), axis=0).round(4).tolist(), {name: round(float(shares[-1]), 4) for name, shares in right.items()}


def scores(classifier: HierarchicalClassifier, curves: LightCurves) -> dict:
    "Accuracy with equal priors, log loss and calibration error with the classifier's own, on the newest probabilities."
    predictions, tree, prior = classifier.predict(curves, (END,)), classifier.taxonomy, classifier.class_prior
    equal = shift_prior(predictions.probabilities, prior, (prior > 0) / np.count_nonzero(prior), tree)
    (mean,), by_class = accuracy(replace(predictions, probabilities=equal))
    leaves = predictions.probabilities[:, 0][:, tree.leaf_nodes]
    true = leaves[np.arange(len(leaves)), np.searchsorted(tree.leaf_nodes, predictions.truth)]
    right = tree.leaf_nodes[leaves.argmax(1)] == predictions.truth
    return {"accuracy": mean, "by_class": by_class, "log_loss": round(float(-np.log(np.maximum(true, 1e-7)).mean()), 4),
            "ece": round(float(calibration_error(leaves.max(1), right)[0]), 4), "right": round(float(right.mean()), 4)}  # fmt: skip


def from_scratch(curves: LightCurves, taxonomy: Taxonomy, seed: int) -> HierarchicalClassifier:
    "A small network of the default preset trained with these labels alone."
    epochs = int(np.clip(40_000 / len(curves), 60, 120))
    with tempfile.TemporaryDirectory() as folder:
        return train(curves, Path(folder) / "run", taxonomy, options=choose_options(hidden=32, layers=1, seed=seed, epochs=epochs))


def attempt(function, *arguments) -> tuple[HierarchicalClassifier | None, dict]:
    "What a method returns, with its time, or the reason for a refusal."
    start = time.process_time()
    try:
        found = function(*arguments)
    except ValueError as error:
        return None, {"refused": str(error)}
    return found, {"cpu_s": round(time.process_time() - start, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("--simulated", type=Path)
    parser.add_argument("--classifier", default="synthetic")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--all-layers", type=int, default=0, help="draws in which all layers are tuned as well (minutes each)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    begin = time.process_time()
    classifier = HierarchicalClassifier.load(options.classifier)
    real = LightCurves.from_parquet(options.real)
    simulated = LightCurves.from_parquet(options.simulated) if options.simulated else None
    if simulated is not None:
        simulated = simulated[np.arange(len(simulated)) % SIMULATED_SHARE == 0]
    about = {"date": f"{date.today()}", "machine": platform.machine(), "cores": os.cpu_count(), "classifier": options.classifier,
             "trained": str(classifier.description.get("date")), "objects": len(real), "draws": options.draws, "labels": LABELS,
             "simulated": 0 if simulated is None else len(simulated)}  # fmt: skip
    print(json.dumps(about), flush=True)
    methods = {
        "untouched": lambda curves, seed: classifier,
        "prior and calibration": lambda curves, seed: classifier.fine_tune(curves, "calibration", seed),
        "head": lambda curves, seed: classifier.fine_tune(curves, "head", seed),
        "all layers": lambda curves, seed: classifier.fine_tune(curves, "all", seed),
        "from scratch": lambda curves, seed: from_scratch(curves, classifier.taxonomy, seed),
    }
    for draw in range(options.draws):
        order = np.random.default_rng(draw).permutation(len(real))
        half, judged = order[: len(real) // 2], real[np.sort(order[len(real) // 2 :])]
        for labels in LABELS:
            given = real[half[:labels]]
            for name, method in methods.items():
                limit = {"all layers": options.all_layers, "from scratch": SCRATCH_DRAWS}.get(name, options.draws)
                if draw >= limit or name == "untouched" and labels > LABELS[0]:
                    continue
                made, row = attempt(method, given, draw)
                if made:
                    row |= scores(made, judged)
                    row |= {"steps": made.description["fine_tuning"][-1]["steps"]} if "fine_tuning" in made.description else {}
                    if simulated is not None and draw == 0 and name != "from scratch":
                        row["simulated"] = accuracy(made.predict(simulated, (8, 64, END), "uniform"))[0]
                print(json.dumps({"labels": 0 if name == "untouched" else labels, "method": name, "draw": draw, **row}), flush=True)
    print(json.dumps({"cpu_s": round(time.process_time() - begin)}), flush=True)


if __name__ == "__main__":
    main()
