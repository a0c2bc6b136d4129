"""Training on files larger than memory: peak memory and time for a synthetic file.

    python bench/larger.py --objects 1500000 --observations 30

Writes a Parquet file with this number of objects (noise, two classes) in row groups as written by `combine`, trains a small
network on it for one epoch in a separate process, and prints peak memory and time. The scores have no meaning.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.lightcurves.statics import HEADER_FEATURES
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import curves_on_disk
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import fit

GROUP = 20_000  # objects in a row group


def group_table(first: int, n: int, observations: int, rng: np.random.Generator) -> pa.Table:
    "One row group: random static features, random fluxes, a third of them detected."
    size = n * observations
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * observations)
    columns = {
        "MJD": 60000 + np.sort(rng.uniform(0, 1000, (n, observations)), axis=1).ravel(),
        "BAND": pa.array(list("ugrizY")).take(pa.array(rng.integers(0, 6, size))),
        "PHOTFLAG": (4096 * (rng.random(size) < 0.3)).astype(np.int32),
        "FLUXCAL": rng.normal(0, 50, size).astype(np.float32),
        "FLUXCALERR": rng.uniform(1, 9, size).astype(np.float32),
    }
    lists = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in columns.values()]
    header = {name: rng.normal(0, 1, n).astype(np.float32) for name in HEADER_FEATURES}
    header |= {"RA": rng.uniform(0, 360, n), "DEC": rng.uniform(-60, 5, n)}
    snid = [f"{first + i}" for i in range(n)]
    label = np.where(rng.random(n) < 0.5, "PLAsTiCC-90", "PLAsTiCC-42")
    return pa.table({"SNID": snid, "ELASTICC_class": label, **header, "lightcurve": pa.StructArray.from_arrays(lists, list(columns))})


def write(path: Path, objects: int, observations: int) -> None:
    "Write the synthetic file."
    rng, writer = np.random.default_rng(0), None
    for first in range(0, objects, GROUP):
        table = group_table(first, min(GROUP, objects - first), observations, rng)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    writer.close()


def train(path: Path, folder: Path) -> None:
    "Train one epoch and print time and memory."
    start, disk = time.process_time(), curves_on_disk(path)
    opened = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    held_out = np.arange(len(disk)) % 500 == 0
    group = pq.ParquetFile(path).read_row_group(0)
    validation = LightCurves.from_arrow(group.slice(0, 2000))
    options = replace(PRESETS["gru"], hidden=16, layers=1, epochs=1, batch_size=2048)
    fit(disk[~held_out], validation, Taxonomy.from_yaml("plasticc"), folder, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"objects": len(disk), "pool": disk.pool, "GB after opening": round(opened, 2), "peak GB": round(peak, 2),
                      "cpu_s": round(time.process_time() - start)}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_500_000)
    parser.add_argument("--observations", type=int, default=30)
    parser.add_argument("--file", type=Path, help="train on this file only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.file:
            return train(arguments.file, Path(folder) / "run")
        path = Path(folder) / "larger.parquet"
        write(path, arguments.objects, arguments.observations)
        told = subprocess.run([sys.executable, __file__, "--file", path], check=True, capture_output=True, text=True).stdout
        size = round(path.stat().st_size / 1e9, 2)
        print(json.dumps({"bench": "larger", "date": date.today().isoformat(), "cores": os.cpu_count()}))
        print(json.dumps({"observations": arguments.observations, "file GB": size, **json.loads(told)}))


if __name__ == "__main__":
    main()
