"""Speed and memory of all metrics, and of the whole results folder, on a test set of ELAsTiCC 2's size.

    python bench/metrics.py [--objects 225000] [--draws 0 200] [--folder]

Random probabilities of the 26 nodes at 11 days, float32. Prints a line about the machine, then one JSON line per number of
bootstrap draws: seconds of wall and of CPU time (the same where the machine has nothing else to do), the peak memory of the
process in MB so far, and how much of that the probabilities themselves are. With --folder every table and figure is written
as well (all but the cards, which need a classifier).
"""

import argparse
import datetime
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from elasticc_hc.classification.classifier import Predictions
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.evaluation.report import write_evaluation
from elasticc_hc.lightcurves.lightcurves import DETECTED, LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS


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


def random_curves(predictions: Predictions, points: int = 20, seed: int = 1) -> LightCurves:
    "Detections of noise at random times, with redshifts of which a third is missing: only counts and headers matter."
    n, rng = len(predictions), np.random.default_rng(seed)
    redshift = np.where(rng.random(n) < 0.33, np.nan, rng.gamma(2, 0.2, n))
    header = pd.DataFrame({"SNID": predictions.SNID, "HOSTGAL_PHOTOZ": redshift, "HOSTGAL_SPECZ": redshift, "MWEBV": 0.1})
    mjd = np.sort(rng.uniform(60000, 61000, (n, points)), axis=1).ravel()
    flux = np.ones(n * points, np.float32)
    band, flag = np.zeros(n * points, np.int8), np.full(n * points, DETECTED, np.int32)
    return LightCurves(header, np.arange(n + 1) * points, mjd, band, flag, flux, flux)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, default=225_000)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 200])
    parser.add_argument("--folder", action="store_true")
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    print(json.dumps({"date": f"{datetime.date.today()}", "machine": machine}), flush=True)
    predictions = random_predictions(options.objects)
    curves = random_curves(predictions) if options.folder else None
    for draws in options.draws:
        start, cpu = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as place:
            if curves:
                table = write_evaluation(predictions, Path(place) / "results", curves, draws=draws)
            else:
                table = compute_metrics(predictions, draws)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({
            "bench": "results folder" if curves else "metrics", "objects": options.objects, "days": len(DAYS), "draws": draws,
            "numbers": len(table), "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1),
            "peak_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "probabilities_MB": round(predictions.probabilities.nbytes / 2**20),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
