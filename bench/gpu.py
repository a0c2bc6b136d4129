"""The encoders trained on a GPU: curves per second beside one core of the CPU, and whole runs whose scores can be compared.

    python bench/gpu.py speed TRAIN.parquet --taxonomy plasticc
    python bench/gpu.py train TRAIN.parquet --taxonomy plasticc --out FOLDER --presets default attention --seeds 0 1 2 --epochs 80

`speed` takes steps of training on one core, with the batches of the preset, and on the GPU, also with larger ones, in float32 and
with bfloat16 autocast. `train` makes the runs of `bench/quality.py` on the GPU (the same objects held out), each in a folder that
`bench/quality.py --keep` reads. Prints one JSON line per measurement.
"""

import argparse
import itertools
import json
import os
import platform
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.options import PRESETS, Options
from elasticc_hc.training.trainer import Trainer, fit

HELD_OUT = 0.1  # as in bench/quality.py
WARM_UP = {"cpu": 2, "cuda": 20}  # steps that are not timed
KINDS = (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16"))


def provenance() -> dict:
    "Machine and versions of the measurement."
    machine = f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    return {"bench": "gpu", "date": date.today().isoformat(), "machine": machine}


def curves_per_second(learned: LightCurves, held_out: LightCurves, taxonomy: Taxonomy, options: Options, device: str, steps: int) -> float:
    "Training throughput: batches prepared, forward, backward, step of the optimiser; the arithmetic is that of `fit`."
    torch.use_deterministic_algorithms(device == "cuda")
    trainer = Trainer(learned, held_out, taxonomy, options, device)
    trainer.network.train()
    batches = itertools.cycle(trainer.epoch_batches())
    for batch in itertools.islice(batches, WARM_UP[device]):
        trainer.step(batch)
    start, curves = time.perf_counter(), 0
    for batch in itertools.islice(batches, steps):
        trainer.step(batch)  # reads the loss, so the GPU has finished
        curves += len(batch.length)
    return curves / (time.perf_counter() - start)


def speed(asked: argparse.Namespace, learned: LightCurves, held_out: LightCurves, taxonomy: Taxonomy) -> None:
    "One JSON line per preset, size of a batch, precision and device."
    for preset, size in itertools.product(asked.presets, asked.batch_sizes):
        for device, precision in KINDS:
            if device not in asked.devices or (device == "cpu" and size != PRESETS[preset].batch_size):
                continue
            options = replace(PRESETS[preset], batch_size=size, precision=precision, epochs=1000)
            rate = curves_per_second(learned, held_out, taxonomy, options, device, asked.steps if device == "cuda" else asked.steps // 10)
            about = {"preset": preset, "batch_size": size, "device": device, "precision": precision}
            print(json.dumps({**about, "curves_per_second": round(rate, 1), "ms_per_step": round(1000 * size / rate, 2)}), flush=True)


def train(asked: argparse.Namespace, learned: LightCurves, held_out: LightCurves, taxonomy: Taxonomy) -> None:
    "One run per preset and seed, with its wall-clock time."
    for preset, seed in itertools.product(asked.presets, asked.seeds):
        options = replace(PRESETS[preset], seed=seed, precision=asked.precision, epochs=asked.epochs, members=asked.members)
        run, start = asked.out / f"{preset}-with-{seed}", time.perf_counter()
        history = fit(learned, held_out, taxonomy, run, options, device="cuda")
        seconds = time.perf_counter() - start
        about = {"preset": preset, "members": asked.members, "seed": seed, "precision": asked.precision, "epochs": len(history)}
        rate = {"seconds": round(seconds, 1), "curves_per_second": round(len(history) * len(learned) / seconds, 1)}
        print(json.dumps({"run": about, **rate, "best_score": round(float(history["score"].max()), 4)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "train"])
    parser.add_argument("data", type=Path, help="Parquet file of a training set")
    parser.add_argument("--taxonomy", default="plasticc")
    parser.add_argument("--presets", nargs="+", default=["default", "attention"], choices=PRESETS)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256], help="of speed")
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], choices=["cpu", "cuda"], help="of speed")
    parser.add_argument("--steps", type=int, default=200, help="of speed")
    parser.add_argument("--out", type=Path, help="folder of the runs of train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use")
    taxonomy, curves = Taxonomy.from_yaml(asked.taxonomy), LightCurves.from_parquet(asked.data)
    held_out = split_value(curves.header["SNID"], seed=1) < HELD_OUT
    torch.set_num_threads(1)
    print(json.dumps({**provenance(), "data": asked.taxonomy, "train": len(curves)}), flush=True)
    {"speed": speed, "train": train}[asked.what](asked, curves[~held_out], curves[held_out], taxonomy)


if __name__ == "__main__":
    main()
