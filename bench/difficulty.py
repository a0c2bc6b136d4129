"""Difficulty of synthetic data: F1 score of each class for a classifier trained on one simulation and tested on another.

    elasticc-hc simulate one --per-model 1500 --seed 1
    elasticc-hc simulate two --per-model 200 --seed 77
    elasticc-hc convert one train; elasticc-hc convert two test
    elasticc-hc combine train/*.parquet --out split --test-fraction 0.02
    elasticc-hc combine test/*.parquet --out fresh --test-fraction 0.98
    echo "keep: alerts" > alerts.yaml
    elasticc-hc train split/train.parquet --out run --options alerts.yaml --epochs 25
    elasticc-hc evaluate run fresh/test.parquet --out results
    python bench/difficulty.py results --per-model 1500 --epochs 25

Prints a JSON line about the machine, one per day with the macro F1 of the leaves, and one per leaf with its F1 on the last day
and the value published for ORACLE with the real ELAsTiCC2 (Shah et al. 2025, arXiv 2501.01496; trained on ten times as many
objects, at most 40,000 of a class). With equal numbers of each model a leaf of six models is six times as frequent as one of one
model; `equal classes` is the F1 score if all leaves are equally frequent and this prior is used. A macro F1 of 0.95 or more would
mean that the simulator is too simple.
"""

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path

import pandas as pd
import torch
from sklearn.metrics import f1_score

ORACLE_DAYS = {1: 0.592, 2: 0.602, 4: 0.621, 8: 0.655, 16: 0.703, 32: 0.764, 64: 0.803, 128: 0.821, 256: 0.829, 512: 0.838, 1024: 0.843}
ORACLE_LEAVES = {
    "SNIa": 0.69, "SNIb/c": 0.57, "SNIax": 0.63, "SNI91bg": 0.85, "SNII": 0.60, "KN": 0.96, "Dwarf Novae": 0.91, "uLens": 0.95,
    "M-dwarf Flare": 0.92, "SLSN": 0.86, "TDE": 0.89, "ILOT": 0.86, "CART": 0.69, "PISN": 0.92, "Cepheid": 0.995, "RR Lyrae": 0.985,
    "Delta Scuti": 1.0, "EB": 0.99, "AGN": 0.995,
}  # fmt: skip


def equal_classes(predictions: pd.DataFrame) -> dict:
    "F1 score of each leaf on the last day if all leaves are equally frequent: probabilities over the fractions of leaves."
    last = predictions[predictions["day"] == predictions["day"].max()]
    leaves, share = list(ORACLE_LEAVES), last["truth"].value_counts()
    called = (last[leaves] / share[leaves]).idxmax(axis=1)
    scores = f1_score(last["truth"], called, labels=leaves, average=None, sample_weight=1 / last["truth"].map(share))
    return dict(zip(leaves, scores, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of `elasticc-hc evaluate`")
    parser.add_argument("--per-model", type=int, required=True, help="objects per model trained on")
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    table = pd.read_csv(options.results / "metrics.csv")
    equal = equal_classes(pd.read_parquet(options.results / "predictions.parquet"))
    leaf = table[(table["level"] == "leaf") & (table["metric"] == "f1")]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    about = {"bench": "difficulty", "date": date.today().isoformat(), "machine": machine}
    mean = round(sum(equal.values()) / len(equal), 3)
    print(json.dumps(about | {"per_model": options.per_model, "epochs": options.epochs, "macro F1 of equal classes": mean}))
    for row in leaf[leaf["node"] == "macro"].itertuples():
        print(json.dumps({"day": row.day, "macro F1": round(row.value, 3), "ORACLE": ORACLE_DAYS.get(row.day)}))
    for row in leaf[(leaf["day"] == leaf["day"].max()) & leaf["node"].isin(ORACLE_LEAVES)].itertuples():
        scores = {"F1 at the end": round(row.value, 3), "equal classes": round(equal[row.node], 3), "ORACLE": ORACLE_LEAVES[row.node]}
        print(json.dumps({"leaf": row.node} | scores))


if __name__ == "__main__":
    main()
