"""Speed of building batches: vectorised, compared with one object at a time, for curves of about 150 observations.

    python bench/dataset.py --curves 20000

Prints one JSON line per method: CPU seconds, curves per CPU second, peak memory of the vectorised method over the raw columns.
The object-by-object method makes a source for each curve, applies the rules, and makes a table, the static features (one
`SkyCoord` and four separations) and a row padded to 500, as in published methods; it is timed on `--objects` curves.
"""

import argparse
import json
import os
import time
import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import torch

from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.lightcurves.statics import static_features
from elasticc_hc.source.source import LSSTSource
from elasticc_hc.training.dataset import LightCurveDataset, batch_loader, fit_preprocessing, series_values

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
RAW = ("MJD", "BAND", "PHOTFLAG", "FLUXCAL", "FLUXCALERR")


def many(n: int) -> LightCurves:
    "Repeated curves of the sample."
    curves = LightCurves.from_parquet(SAMPLE)
    return curves[np.arange(n) % len(curves)]


def columnar(curves: LightCurves) -> int:
    "Rules, features and one epoch of batches for all curves; returns the number of curves."
    dataset = LightCurveDataset(curves, fit_preprocessing(curves))
    return sum(len(batch.length) for batch in batch_loader(dataset, 256, seed=0))


def one_by_one(curves: LightCurves) -> int:
    "The same, one curve at a time."
    rows = []
    for i in range(len(curves)):
        source = LSSTSource(curves[i]).process_lightcurve()
        table = source.to_pandas()
        padded = np.zeros((500, 4), dtype=np.float32)
        values = series_values(source.curves)[:500]
        padded[: len(values)] = values
        static = np.nan_to_num(static_features(source.curves.header), nan=-9.0)
        rows.append((len(table), torch.from_numpy(padded), torch.from_numpy(static)))
    return len(rows)


def measure(name: str, way, curves: LightCurves) -> dict:
    "CPU seconds of one method."
    start = time.process_time()
    n = way(curves)
    seconds = time.process_time() - start
    return {"way": name, "curves": n, "cpu_seconds": round(seconds, 3), "curves_per_cpu_second": round(n / seconds)}


def memory_ratio(curves: LightCurves) -> float:
    "Peak allocations of the vectorised method over the size of the raw columns."
    raw = sum(getattr(curves, name).nbytes for name in RAW)
    tracemalloc.start()
    columnar(curves)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    curves = many(arguments.curves)
    columnar(curves[:500])
    fast = measure("columnar", columnar, curves)
    slow = measure("one by one", one_by_one, curves[: arguments.objects])
    length = round(curves.n_obs / len(curves))
    about = {"date": date.today().isoformat(), "cores": os.cpu_count(), "observations_per_curve": length}
    ratio = round(fast["curves_per_cpu_second"] / slow["curves_per_cpu_second"])
    for line in (about, fast, slow, {"ratio": ratio, "numpy_peak_over_raw": round(memory_ratio(curves), 2)}):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
