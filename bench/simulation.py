"""Speed and size of the simulator: triggered objects per CPU second for each model, with and without writing.

    python bench/simulation.py [--per-model 1000] [--seed 0] [--models NAME …]

Prints a JSON line about the machine, one per model and one for all: objects and CPU seconds without writing (chunks are simulated
until the number of objects is reached) and with writing FITS.gz, the peak memory of the process, and the bytes written. Averages
over models are for equal numbers of objects: all objects over all seconds.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from elasticc_hc.simulation.population import choose_models, survey_sky
from elasticc_hc.simulation.simulator import simulate_chunk, simulate_chunks, write_model


def cpu_seconds(work):
    "CPU seconds and result of a call."
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def measure(model, n, seed, folder):
    "One model: objects per CPU second without and with writing."
    simulate_chunk(model, survey_sky("wfd", seed), 999, seed)  # tables are built once
    bare, parts = cpu_seconds(lambda: [len(part) for part in simulate_chunks(model, survey_sky("wfd", seed), n, seed)])
    written, observations = cpu_seconds(lambda: write_model(folder, model, n, seed))
    size = sum(path.stat().st_size for path in (folder / f"ELASTICC2_SYNTH_{model.name}").iterdir())
    return {"model": model.name, "objects": sum(parts), "observations": observations, "seconds": bare, "seconds_writing": written,
            "per_second": sum(parts) / bare, "per_second_writing": sum(parts) / written, "bytes": size}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-model", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="*")
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    print(json.dumps({"bench": "simulation", "date": date.today().isoformat(), "machine": machine}), flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for model in choose_models(options.models):
            results.append(measure(model, options.per_model, options.seed, Path(folder)))
            print(json.dumps({name: round(x, 3) if isinstance(x, float) else x for name, x in results[-1].items()}), flush=True)
    summed = "objects", "observations", "seconds", "seconds_writing", "bytes"
    total = {name: sum(row[name] for row in results) for name in summed}
    total["per_second"] = total["objects"] / total["seconds"]
    total["per_second_writing"] = total["objects"] / total["seconds_writing"]
    total["peak_memory_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"model": "all", **{name: round(value, 1) for name, value in total.items()}}))


if __name__ == "__main__":
    main()
