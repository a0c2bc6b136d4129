"""Speed of inference: all eleven days in one pass, compared with one pass per day, padded to 500.

    python bench/inference.py --curves 4000

Full curves of about 150 observations (all forced photometry kept), one thread. This library: the full `predict`, from raw columns
to probabilities. ORACLE's network as released: only the network, on prepared tensors padded to 500, once for each day. Prints one
JSON line per method: curves per CPU second, each with the probabilities of eleven days.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from datetime import date

import numpy as np
import torch
from dataset import many

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.training.dataset import DAYS, fit_preprocessing
from elasticc_hc.training.model import Architecture, build_network
from elasticc_hc.training.options import ORACLE_STATICS


def ours(n: int) -> float:
    "Curves per CPU second."
    curves, classifier = many(n), HierarchicalClassifier.from_pretrained("plasticc")
    everything = replace(classifier, preprocessing=replace(classifier.preprocessing, keep="all"))
    everything.predict(curves[:100])
    start = time.process_time()
    everything.predict(curves)
    return n / (time.process_time() - start)


@torch.no_grad()
def once_per_day(n: int, batch: int = 1024, length: int = 500) -> float:
    "Curves per CPU second."
    preprocessing = fit_preprocessing(many(100), ORACLE_STATICS, "all", inputs="oracle")
    network = build_network(Architecture(preprocessing.n_series, preprocessing.n_static, 26, "oracle")).eval()
    start = time.process_time()
    for part in np.array_split(np.arange(n), -(-n // batch)):
        series, static = torch.rand(len(part), length, preprocessing.n_series), torch.rand(len(part), preprocessing.n_static)
        for _ in DAYS:
            features, _ = network.encode(series, static)
            network.head(features[:, -1])
    return n / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=4000)
    parser.add_argument("--oracle-curves", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    fast, slow = ours(asked.curves), once_per_day(asked.oracle_curves)
    about = {"bench": "inference", "date": date.today().isoformat(), "cores": os.cpu_count()}
    print(json.dumps(about | {"observations_per_curve": round(many(asked.curves).n_obs / asked.curves)}))
    print(json.dumps({"way": "one pass, from raw columns", "curves_per_cpu_second": round(fast)}))
    print(json.dumps({"way": "ORACLE's network, padded to 500, once per day", "curves_per_cpu_second": round(slow, 1)}))
    print(json.dumps({"ratio": round(fast / slow, 1)}))


if __name__ == "__main__":
    main()
