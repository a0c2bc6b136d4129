"""Rate and latency of the ONNX graphs, compared with PyTorch, in one run and with one thread each.

    python bench/onnx_graphs.py --curves 1000

Whole curves: probabilities after every detection of the objects of the sample, repeated. PyTorch: `predict_detections`, from raw
columns. ONNX: the processing rules, padding in batches of 64 curves of similar length, and the graph. A single alert: a light curve
of 60 observations in memory, of which the last detection is classified; PyTorch by `predict`. Prints one JSON line for each
classifier; --out appends them to a file.
"""

import argparse
import json
import os
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from dataset import many

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.onnx import INPUTS
from elasticc_hc.lightcurves.lightcurves import process
from elasticc_hc.lightcurves.statics import static_features


def open_session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def whole_curves(session, classifier, curves, batch: int = 64) -> np.ndarray:
    "Probabilities after every detection, in the order of the lengths of the curves."
    rules = classifier.preprocessing
    seen = process(curves, rules.keep, rules.skip)
    seen = seen[np.argsort(seen.counts, kind="stable")]
    static, answers = static_features(seen.header, rules.static_columns), []
    columns = [seen.days, seen.detected, seen.FLUXCAL, seen.FLUXCALERR, seen.BAND.astype(np.int64)]
    for begin in range(0, len(seen), batch):
        end = min(begin + batch, len(seen))
        rows, inside = slice(*seen.offsets[[begin, end]]), np.arange(seen.counts[end - 1]) < seen.counts[begin:end, None]
        padded = [np.zeros(inside.shape, column.dtype) for column in columns]
        for array, column in zip(padded, columns, strict=True):
            array[inside] = column[rows]
        row, step = np.nonzero(padded[1])
        inputs = dict(zip(INPUTS, [*padded, static[begin:end]], strict=True)) | {"row": row, "step": step}
        answers.append(session.run(None, inputs)[0])
    return np.concatenate(answers)


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def median_milliseconds(work, rounds: int = 100) -> float:
    spans = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spans.append(time.process_time() - start)
    return round(1000 * float(np.median(spans)), 2)


def measure(name: str, n: int) -> dict:
    "Rates in curves per CPU second and latencies in CPU milliseconds."
    classifier, curves = HierarchicalClassifier.from_pretrained(name), many(n)
    folder = Path(tempfile.mkdtemp())
    graph, single = (open_session(classifier.to_onnx(folder / f"{step}.onnx", step)) for step in (False, True))
    whole_curves(graph, classifier, curves[:64])
    classifier.predict_detections(curves[:64])
    rates = {
        "torch_curves_per_cpu_second": round(n / cpu_seconds(lambda: classifier.predict_detections(curves))),
        "onnx_curves_per_cpu_second": round(n / cpu_seconds(lambda: whole_curves(graph, classifier, curves))),
    }
    long = curves[[int(np.argmax(curves.counts >= 60))]]
    alert = long.select(np.arange(long.n_obs) < 60)
    last = np.array([np.flatnonzero(alert.detected)[-1]])
    columns = [alert.days, alert.detected, alert.FLUXCAL, alert.FLUXCALERR, alert.BAND.astype(np.int64)]
    static = static_features(alert.header, classifier.preprocessing.static_columns)
    inputs = dict(zip(INPUTS, [*(part[None] for part in columns), static], strict=True)) | {"row": last * 0, "step": last}
    sizes = {entry.name: entry.shape[1:] for entry in single.get_inputs()}
    state = {"hidden": np.zeros((1, *sizes["hidden"]), np.float32), "detections": np.zeros(1, np.int64)}
    state |= {"memory": np.zeros((1, *sizes["memory"]))} if "memory" in sizes else {}
    new = dict(zip(INPUTS, [*(part[last] for part in columns), static], strict=True)) | state
    return {
        "classifier": name,
        "curves": n,
        "observations_per_curve": round(curves.n_obs / n),
        "detections_per_curve": round(curves.detected.sum() / n),
        **rates,
        "alert_torch_ms": median_milliseconds(lambda: classifier.predict(alert, days=[1e4]), 30),
        "alert_onnx_ms": median_milliseconds(lambda: graph.run(None, inputs)),
        "step_onnx_ms": median_milliseconds(lambda: single.run(None, new)),
        "file_mb": round((folder / "False.onnx").stat().st_size / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    about = {"bench": "onnx", "date": date.today().isoformat(), "cores": os.cpu_count()}
    about |= {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
    for name in ("plasticc", "synthetic"):
        line = json.dumps(about | measure(name, asked.curves))
        print(line, flush=True)
        if asked.out:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
