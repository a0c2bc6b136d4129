"""Training throughput: buckets of similar length with denormals flushed, compared with one block padded to the longest curve.

    python bench/training.py --data demo/plasticc/split/train.parquet demo/benchmark/split/train.parquet

The requested number of curves of each training set is drawn at random; by default from the committed sample of PLAsTiCC, which
has more objects of the deep fields. Two layers of 100 units (the LSTM of the presets, and a GRU), forward and backward, one
thread; curves as in alerts, which the presets are trained with, and full curves (all forced photometry kept). Prints one JSON
line per method (curves per CPU second), the largest difference between the gradients of the two methods, and the cost of a
training prefix if all detections are used in one pass and if each is cut and read separately. Then the preset `default` with
PyTorch's dropout and with masks from random bytes, whole steps of training, alternately.
"""

import argparse
import copy
import itertools
import json
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from elasticc_hc.augmentation.augmentation import windows_by_random_detection
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.loss.loss import HierarchicalCrossEntropy
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import LightCurveDataset, batch_loader, fit_preprocessing
from elasticc_hc.training.model import Architecture, build_network
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import Trainer, dense_loss, window_loss

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


def gradients(network, loader: Iterable, loss, of_batch) -> torch.Tensor:
    "Sum over the batches of the gradient of the summed loss, as a vector."
    network.zero_grad()
    for batch in loader:
        (of_batch(network, batch, loss) * len(batch.length)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def timed(work) -> tuple[float, torch.Tensor]:
    "CPU seconds and result."
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def padded(dataset: LightCurveDataset, size: int) -> list:
    "Batches in the order of the file, each padded to the longest curve of the set."
    parts = torch.arange(len(dataset)).split(size)
    longest = int(dataset.length.max())

    def stretch(block: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(block, (0, 0) * (block.dim() - 2) + (0, longest - block.shape[1]))

    ragged = ("series", "detected", "answers")
    loaded = [dataset.__getitems__(part) for part in parts]
    return [batch._replace(**{name: stretch(getattr(batch, name)) for name in ragged}) for batch in loaded]


def plain(network: torch.nn.Module) -> torch.nn.Module:
    "The same network with PyTorch's recurrent layers, which read a batch at once."
    ours, kind = network.encoder, {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[network.architecture.encoder]
    copied = copy.deepcopy(network)
    copied.encoder = kind(ours.input_size, ours.hidden_size, ours.num_layers, batch_first=True)
    copied.encoder.load_state_dict(ours.state_dict())
    return copied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[SAMPLE], help="Parquet files of training sets")
    parser.add_argument("--curves", type=int, default=1024)
    parser.add_argument("--encoders", nargs="+", default=["lstm", "gru"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    about = {"date": date.today().isoformat(), "cores": os.cpu_count(), "curves": asked.curves, "torch": torch.__version__}
    print(json.dumps(about))
    for path, encoder, keep in itertools.product(asked.data, asked.encoders, ("alerts", "all")):
        measure(drawn(path, asked.curves), encoder, keep)
    for path in asked.data:
        compare_dropout(drawn(path, asked.curves))


def drawn(path: Path, n: int) -> LightCurves:
    "Random curves of a file, the same every time; repeated if the file has fewer."
    curves = LightCurves.from_parquet(path)
    order = np.random.default_rng(0).permutation(len(curves))
    return curves[order[np.arange(n) % len(order)]]


def measure(curves: LightCurves, encoder: str, keep: str) -> None:
    "All lines of one encoder, for curves of one policy."
    synthetic = not curves.header["ELASTICC_class"].iloc[0].startswith("PLAsTiCC")
    n, taxonomy = len(curves), Taxonomy.from_yaml("elasticc2" if synthetic else "plasticc")
    preprocessing = fit_preprocessing(curves, keep=keep)
    dataset = LightCurveDataset(curves, preprocessing, taxonomy)
    torch.manual_seed(0)
    shape = Architecture(preprocessing.n_series, preprocessing.n_static, len(taxonomy.nodes), encoder, dropout=0.0)
    network, loss = build_network(shape), HierarchicalCrossEntropy(taxonomy)
    mean, longest = int(dataset.length.float().mean()), int(dataset.length.max())
    about = {"data": taxonomy.name, "encoder": encoder, "keep": keep, "observations_per_curve": mean, "longest": longest}

    torch.set_flush_denormal(False)
    before, block = timed(lambda: gradients(plain(network), padded(dataset, 1024), loss, dense_loss))
    print(json.dumps(about | {"way": "padded to the longest, batch 1024", "curves_per_cpu_second": round(n / before, 1)}), flush=True)
    torch.set_flush_denormal(True)
    for size in (32, 128):
        after, ours = timed(lambda size=size: gradients(network, batch_loader(dataset, size, seed=0), loss, dense_loss))
        difference = float((ours - block).abs().max() / block.abs().max())
        line = about | {"way": f"buckets of {size}, denormals flushed", "curves_per_cpu_second": round(n / after, 1)}
        print(json.dumps(line | {"ratio": round(before / after, 1), "largest_gradient_difference": difference}), flush=True)

    rng = np.random.default_rng(0)
    few = LightCurveDataset(curves[: n // 8], preprocessing, taxonomy)
    cut = LightCurveDataset(curves[: n // 8], preprocessing, taxonomy, lambda c: windows_by_random_detection(c, rng, 8))
    dense, _ = timed(lambda: gradients(network, batch_loader(few, 32, seed=0), loss, dense_loss))
    windowed, _ = timed(lambda: gradients(network, batch_loader(cut, 32, seed=0), loss, window_loss))
    costs = [1e3 * dense / int(few.curves.detected.sum()), 1e3 * windowed / len(cut)]
    line = about | {"prefix_ms_dense": round(costs[0], 3), "prefix_ms_cut": round(costs[1], 3), "ratio": round(costs[1] / costs[0], 1)}
    print(json.dumps(line))


def with_dropout_of_pytorch(network: torch.nn.Module) -> torch.nn.Module:
    "The same network with PyTorch's dropout."
    copied, chance = plain(network), network.architecture.dropout
    copied.encoder.dropout = chance
    for place, layer in enumerate(copied.head):
        if isinstance(layer, torch.nn.Dropout):
            copied.head[place] = torch.nn.Dropout(chance)
    return copied


def compare_dropout(curves: LightCurves, rounds: int = 5) -> None:
    "Curves per CPU second of steps of training with either dropout; the median of alternate rounds."
    taxonomy = Taxonomy.from_yaml("elasticc2" if not curves.header["ELASTICC_class"].iloc[0].startswith("PLAsTiCC") else "plasticc")
    trainer, seconds = Trainer(curves, curves[:64], taxonomy, replace(PRESETS["default"], epochs=1000)), {}
    ours = trainer.network.train()
    batches = list(trainer.epoch_batches())
    networks = {"PyTorch's": with_dropout_of_pytorch(ours), "random bytes": ours}
    for _ in range(rounds):
        for name, network in networks.items():
            trainer.training_loss.network = network
            seconds.setdefault(name, []).append(timed(lambda: [trainer.step(batch) for batch in batches])[0])
    for name, spent in seconds.items():
        rate = {"curves_per_cpu_second": round(len(curves) / np.median(spent), 1)}
        print(json.dumps({"data": taxonomy.name, "preset": "default", "dropout": name, **rate}), flush=True)


if __name__ == "__main__":
    main()
