"""Cost of input checks: `LightCurves.from_frame`, rows in order and shuffled, compared with another version.

    python bench/entrances.py --objects 100000 --other OTHER_CLONE/.venv/bin/python

Prints one JSON line per order of the rows: CPU seconds, the median over the rounds, and the ratio to the other version. The
versions run alternately, each in separate processes, one thread, on the same frame of about 45 observations per object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from elasticc_hc import LightCurves

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
TIMED = """
import sys, time, pandas as pd
try:
    from elasticc_hc.lightcurves.lightcurves import LightCurves
except ImportError:
    from elasticc_hc.lightcurves import LightCurves
frame, header = map(pd.read_parquet, sys.argv[1:])
start = time.process_time()
LightCurves.from_frame(frame, header)
print(time.process_time() - start)
"""


def write_frames(folder: Path, objects: int) -> None:
    "Tables of observations, in order and shuffled, and their header: the repeated, thinned sample."
    curves = LightCurves.from_parquet(SAMPLE)
    copies = -(-objects // len(curves))
    frame = curves.to_frame()
    frames = [frame.assign(SNID=frame["SNID"] + f"_{k}") for k in range(copies)]
    header = pd.concat([curves.header.assign(SNID=curves.header["SNID"] + f"_{k}") for k in range(copies)])
    many = pd.concat(frames, ignore_index=True)
    many = many[np.random.default_rng(0).random(len(many)) < 0.25]
    many.to_parquet(folder / "ordered.parquet")
    many.sample(frac=1, random_state=1).to_parquet(folder / "shuffled.parquet")
    header.to_parquet(folder / "header.parquet")


def seconds(python: str, *files: Path) -> float:
    "CPU seconds of one call in a new process."
    words = [python, "-W", "ignore", "-c", TIMED, *map(str, files)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True, cwd="/").stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", help="Python in which another version is installed")
    choice = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    pythons = [sys.executable, *filter(None, [choice.other])]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    print(json.dumps({"bench": "entrances", "date": date.today().isoformat(), "machine": machine}))
    with tempfile.TemporaryDirectory() as folder:
        write_frames(Path(folder), choice.objects)
        for order in ("ordered", "shuffled"):
            files = Path(folder) / f"{order}.parquet", Path(folder) / "header.parquet"
            times = np.array([[seconds(python, *files) for python in pythons] for _ in range(choice.rounds)])
            line = {"rows": order, "objects": choice.objects, "cpu_s": np.median(times, axis=0).round(3).tolist()}
            if choice.other:
                line["ratio to the other"] = round(float(np.median(times[:, 0] / times[:, 1])), 3)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
