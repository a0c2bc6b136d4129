"""Speed and memory of all metrics on a test set of ELAsTiCC 2's size.

    python bench/metrics.py [--objects 225000] [--draws 0 200]

Random probabilities of the 26 nodes at 11 days, float32. Prints one JSON line per number of bootstrap draws: seconds of wall
time, the peak memory of the process in MB so far, and how much of that the probabilities themselves are.
"""

import argparse
import json
import resource
import time

import numpy as np

from elasticc_hc.classifier import DAYS, Predictions
from elasticc_hc.evaluation.metrics import metrics
from elasticc_hc.taxonomy import Taxonomy


def random_predictions(n: int, seed: int = 0) -> Predictions:
    "Probabilities that get better with the days, made day by day to stay small."
    taxonomy, rng = Taxonomy.from_yaml("elasticc2"), np.random.default_rng(seed)
    leaves = len(taxonomy.leaf_nodes)
    truth, below = rng.integers(0, leaves, n), taxonomy.paths[taxonomy.leaf_nodes].astype(np.float32)
    probabilities = np.empty((n, len(DAYS), len(taxonomy.nodes)), np.float32)
    for day in range(len(DAYS)):
        leaf = rng.standard_normal((n, leaves), np.float32)
        leaf[np.arange(n), truth] += 1 + day / 2
        np.exp(leaf, out=leaf)
        probabilities[:, day] = (leaf / leaf.sum(1, keepdims=True)) @ below
    return Predictions(np.arange(n).astype(str), np.array(DAYS), probabilities, taxonomy.leaf_nodes[truth], taxonomy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, default=225_000)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 200])
    options = parser.parse_args()
    predictions = random_predictions(options.objects)
    for draws in options.draws:
        start = time.perf_counter()
        table = metrics(predictions, draws)
        seconds = time.perf_counter() - start
        print(json.dumps({
            "bench": "metrics", "objects": options.objects, "days": len(DAYS), "draws": draws, "numbers": len(table),
            "seconds": round(seconds, 1), "peak_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "probabilities_MB": round(predictions.probabilities.nbytes / 2**20),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
