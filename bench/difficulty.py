"""How hard synthetic data are: the F1 score of each class, of a classifier trained on one simulation and tested on another.

    elasticc-hc simulate one --per-model 600 --seed 1
    elasticc-hc simulate two --per-model 100 --seed 77
    elasticc-hc convert one train; elasticc-hc convert two test
    elasticc-hc combine train/*.parquet --out split --test-fraction 0.02
    elasticc-hc combine test/*.parquet --out fresh --test-fraction 0.98
    elasticc-hc train split/train.parquet --out run --epochs 30
    elasticc-hc evaluate run fresh/test.parquet --out results
    python bench/difficulty.py results/metrics.csv --per-model 600 --epochs 30

Prints one JSON line. A macro F1 of 0.95 or more would mean that the simulator is a toy.
"""

import argparse
import json
import os
import platform
from datetime import date

import pandas as pd
import torch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics")
    parser.add_argument("--per-model", type=int, required=True, help="objects per model trained on")
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    table = pd.read_csv(options.metrics)
    leaf = table[(table["level"] == "leaf") & (table["metric"] == "f1")]
    macro = leaf[leaf["node"] == "macro"]
    last = leaf[(leaf["day"] == leaf["day"].max()) & ~leaf["node"].isin(["macro", "weighted"])]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    about = {"bench": "difficulty", "date": date.today().isoformat(), "machine": machine}
    chosen = {"per_model": options.per_model, "epochs": options.epochs}
    by_day = {f"{day:g}": round(value, 3) for day, value in zip(macro["day"], macro["value"], strict=True)}
    f1 = {node: round(value, 3) for node, value in zip(last["node"], last["value"], strict=True)}
    print(json.dumps(about | chosen | {"macro_f1_by_day": by_day, "f1_at_the_end": f1}))


if __name__ == "__main__":
    main()
