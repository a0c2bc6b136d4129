"""How hard synthetic data are: the F1 score of each class, of a classifier trained on one simulation and tested on another.

    elasticc-hc simulate one --per-model 1500 --seed 1
    elasticc-hc simulate two --per-model 200 --seed 77
    elasticc-hc convert one train; elasticc-hc convert two test
    elasticc-hc combine train/*.parquet --out split --test-fraction 0.02
    elasticc-hc combine test/*.parquet --out fresh --test-fraction 0.98
    elasticc-hc train split/train.parquet --out run --epochs 10
    elasticc-hc evaluate run fresh/test.parquet --out results
    python bench/difficulty.py results/metrics.csv --per-model 1500 --epochs 10

Prints a JSON line about the machine, one per day with the macro F1 of the leaves, and one per leaf with its F1 at the end, beside
what ORACLE published for the real ELAsTiCC2 (Shah et al. 2025, arXiv 2501.01496; trained on ten times as many objects, at most
40,000 of a class). A macro F1 of 0.95 or more would mean that the simulator is a toy.
"""

import argparse
import json
import os
import platform
from datetime import date

import pandas as pd
import torch

ORACLE_DAYS = {1: 0.592, 2: 0.602, 4: 0.621, 8: 0.655, 16: 0.703, 32: 0.764, 64: 0.803, 128: 0.821, 256: 0.829, 512: 0.838, 1024: 0.843}
ORACLE_LEAVES = {
    "SNIa": 0.69, "SNIb/c": 0.57, "SNIax": 0.63, "SNI91bg": 0.85, "SNII": 0.60, "KN": 0.96, "Dwarf Novae": 0.91, "uLens": 0.95,
    "M-dwarf Flare": 0.92, "SLSN": 0.86, "TDE": 0.89, "ILOT": 0.86, "CART": 0.69, "PISN": 0.92, "Cepheid": 0.995, "RR Lyrae": 0.985,
    "Delta Scuti": 1.0, "EB": 0.99, "AGN": 0.995,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics")
    parser.add_argument("--per-model", type=int, required=True, help="objects per model trained on")
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    table = pd.read_csv(options.metrics)
    leaf = table[(table["level"] == "leaf") & (table["metric"] == "f1")]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    about = {"bench": "difficulty", "date": date.today().isoformat(), "machine": machine}
    print(json.dumps(about | {"per_model": options.per_model, "epochs": options.epochs}))
    for row in leaf[leaf["node"] == "macro"].itertuples():
        print(json.dumps({"day": row.day, "macro F1": round(row.value, 3), "ORACLE": ORACLE_DAYS.get(row.day)}))
    for row in leaf[(leaf["day"] == leaf["day"].max()) & leaf["node"].isin(ORACLE_LEAVES)].itertuples():
        print(json.dumps({"leaf": row.node, "F1 at the end": round(row.value, 3), "ORACLE": ORACLE_LEAVES[row.node]}))


if __name__ == "__main__":
    main()
