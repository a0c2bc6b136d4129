"""Input of the network: comparison of observation policies on the same objects with the same number of steps.

Prints one JSON line about the run, then one for each policy: leaf macro F1 by day of objects not used for training, in the best
epoch. The objects are simulated, or, with --data, those of a training set, of which a tenth is held out. With --real (a Parquet
file with `ELASTICC_class` and `SOURCE`) also the fraction of real complete light curves of each class with a correct leaf on days
1, 8, 64 and the last day.

    python bench/reading.py [--real real.parquet] [--keep alerts forced all] [--per-leaf 700] [--epochs 8] [--seed 0]
    python bench/reading.py --data split/train.parquet --taxonomy plasticc --keep alerts forced --epochs 40
"""

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

from new_objects import VALIDATION_PER_LEAF, VALIDATION_SEED, drawn

from elasticc_hc import HierarchicalClassifier, LightCurves, Taxonomy
from elasticc_hc.classification.runs import held_out_split
from elasticc_hc.lightcurves.lightcurves import POLICIES
from elasticc_hc.simulation.training_objects import SimulatedObjects
from elasticc_hc.training.options import choose_options
from elasticc_hc.training.trainer import fit

DAYS = (1, 8, 64, 100_000)


def right(classifier: HierarchicalClassifier, curves: LightCurves) -> dict:
    "Fraction of the objects of each leaf with a correct leaf on each day."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions = classifier.predict(curves, DAYS)
    tree = classifier.taxonomy
    answers = tree.leaf_nodes[predictions.probabilities[:, :, tree.leaf_nodes].argmax(2)]
    hits = answers == predictions.truth[:, None]
    found = sorted(set(predictions.truth[predictions.truth >= 0].tolist()))
    return {tree.nodes[leaf]: hits[predictions.truth == leaf].mean(0).round(3).tolist() for leaf in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--taxonomy", default="elasticc2")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--keep", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--per-leaf", type=int, default=700)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    tree = Taxonomy.from_yaml(asked.taxonomy)
    if asked.data:
        train, validation = held_out_split(asked.data)
    else:
        plans = (asked.per_leaf, asked.seed), (VALIDATION_PER_LEAF, VALIDATION_SEED)
        train, validation = (drawn(SimulatedObjects(tree, number, seed, "wfd")) for number, seed in plans)
    real = LightCurves.from_parquet(asked.real) if asked.real else None
    about = {"date": f"{date.today()}", "machine": platform.machine(), "cores": os.cpu_count()}
    about |= {"taxonomy": asked.taxonomy, "objects": len(train), "held_out": len(validation), "epochs": asked.epochs, "seed": asked.seed}
    about["scores"] = "of the best epoch"
    print(json.dumps(about), flush=True)
    for keep in asked.keep:
        options, start = choose_options("default", keep=keep, seed=asked.seed, epochs=asked.epochs), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            history = fit(train, validation, tree, Path(folder) / "run", options)
            best = history.loc[history["score"].idxmax()]
            seconds = round(time.process_time() - start)
            classifier = HierarchicalClassifier.load(Path(folder) / "run")
        f1 = {name.removeprefix("f1_"): round(float(best[name]), 4) for name in best.index if name.startswith("f1_day_")}
        whole = {} if real is None else {"real": right(classifier, real[real.header["SOURCE"].eq("e2_fits").to_numpy()])}
        print(json.dumps({"keep": keep, "mean": round(float(best["score"]), 4), **f1, **whole, "cpu_s": seconds}), flush=True)


if __name__ == "__main__":
    main()
