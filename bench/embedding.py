"""Search of similar objects among a hundred thousand: time of a query, size and time of the file, agreement with scikit-learn.

The vectors are those of a sample of light curves with a little noise added until there are enough of them, of unit length.
Prints one JSON line.

    python bench/embedding.py nbs/data/plasticc_sample.parquet [--classifier synthetic] > bench/results/embedding.jsonl
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from elasticc_hc import HierarchicalClassifier, LightCurves
from elasticc_hc.classification.embedding import SimilarObjects, most_similar, unit_length


def milliseconds(action, repeats: int) -> tuple[float, float]:
    "Median and 95th percentile of the time of a call."
    took = []
    for k in range(repeats):
        start = time.perf_counter()
        action(k)
        took.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(took)), 2), round(float(np.quantile(took, 0.95)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classifier", default="synthetic")
    parser.add_argument("--objects", type=int, default=100_000)
    options = parser.parse_args()
    classifier = HierarchicalClassifier.load(options.classifier)
    curves = LightCurves.from_parquet(options.data)
    sample, rng = SimilarObjects.from_curves(classifier, curves, 64), np.random.default_rng(0)
    rows = np.arange(options.objects) % len(sample)
    noise = rng.normal(0, 0.1 / np.sqrt(sample.vectors.shape[1]), (options.objects, sample.vectors.shape[1]))
    vectors = unit_length(sample.vectors[rows] + noise)
    snid = np.array([f"{sample.SNID[row]}_{k}" for k, row in enumerate(rows)], dtype=object)
    index = SimilarObjects(snid, sample.classes[rows], vectors, 64.0, sample.weights)
    query = milliseconds(lambda k: most_similar(vectors, vectors[k : k + 1], 6), 60)
    with_curve = milliseconds(lambda k: index.query(classifier, curves[[k]]), 60)
    exact = NearestNeighbors(n_neighbors=6, algorithm="brute").fit(vectors)
    near, _ = most_similar(vectors, vectors[:50], 6)
    same = bool((np.sort(exact.kneighbors(vectors[:50], return_distance=False), axis=1) == np.sort(near, axis=1)).all())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.safetensors"
        save, load = milliseconds(lambda k: index.save(path), 3), milliseconds(lambda k: SimilarObjects.load(path), 3)
        size = path.stat().st_size
    print(json.dumps({
        "date": f"{date.today()}", "machine": platform.machine(), "cores": os.cpu_count(), "classifier": options.classifier,
        "objects": len(index), "features": vectors.shape[1], "query_ms": query[0], "query_95_ms": query[1],
        "query_with_light_curve_ms": with_curve[0], "query_with_light_curve_95_ms": with_curve[1],
        "same_as_scikit_learn": same, "file_mb": round(size / 1e6, 1), "save_ms": save[0], "load_ms": load[0],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
