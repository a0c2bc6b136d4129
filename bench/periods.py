"""Periods found against true periods, for simulated stars with many detections.

    python bench/periods.py [--stars 100] [--detections 60] [--seed 0] > bench/results/periods.jsonl

Draws stars of four classes from the simulator, in the cadence of the wide survey, and searches the period of each with
`LSSTSource.find_period`. Prints one JSON line for the run and one per star.
"""

import argparse
import json
import os
import sys
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from periodic_stars import periodic_stars

from elasticc_hc.source.source import LSSTSource

CLASSES = {"RRL": "RR Lyrae", "Cepheid": "Cepheid", "d-Sct": "Delta Scuti", "EB": "EB"}  # model → class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stars", type=int, default=100, help="of each class")
    parser.add_argument("--detections", type=int, default=60, help="at least")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps({"date": date.today().isoformat(), "cores": os.cpu_count(), **vars(options)}), flush=True)
    for model, name in CLASSES.items():
        curves, periods = periodic_stars(model, options.stars, options.seed, options.detections)
        for i, true in enumerate(periods):
            start = time.process_time()
            found = LSSTSource(curves[i]).find_period()
            row = {"class": name, "detections": int(curves[i].detected.sum()), "true_days": float(f"{true:.7g}"),
                   "found_days": float(f"{found.period_days:.7g}"), "doubled": found.doubled,
                   "double_days": float(f"{found.aliases['double period']:.7g}") if not found.doubled else None,
                   "explained": round(found.explained, 3), "cpu_s": round(time.process_time() - start, 2)}  # fmt: skip
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
