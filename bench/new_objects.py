"""New simulated objects in every epoch, compared with the same objects in all epochs: two trainings of equal numbers of steps.

Both use the options of a preset; one reads newly simulated objects in every epoch, the other those of the first epoch in all
epochs. Prints one JSON line about the run, then one for each training: leaf macro F1 by day on a common simulated test set, for
the last epoch.

    python bench/new_objects.py [--per-leaf 500] [--epochs 12] [--preset default] [--seed 0]
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

from elasticc_hc import LightCurves, Taxonomy
from elasticc_hc.simulation.training_objects import SimulatedObjects
from elasticc_hc.training.options import PRESETS, choose_options
from elasticc_hc.training.trainer import fit

VALIDATION_PER_LEAF, VALIDATION_SEED = 150, 1_000_003


def drawn(plan: SimulatedObjects) -> LightCurves:
    "The objects of the first epoch of a plan."
    with plan.producer() as producer:
        return producer.objects(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-leaf", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    tree, options = Taxonomy.from_yaml("elasticc2"), choose_options(asked.preset, seed=asked.seed, epochs=asked.epochs)
    plan = SimulatedObjects(tree, asked.per_leaf, asked.seed)
    validation = drawn(SimulatedObjects(tree, VALIDATION_PER_LEAF, VALIDATION_SEED))
    about = {
        "date": f"{date.today()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        **vars(asked),
        "validation": len(validation),
    }
    print(json.dumps(about), flush=True)
    for objects, train in (("new in every epoch", plan), ("the same in every epoch", drawn(plan))):
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            last = fit(train, validation, tree, Path(folder) / "run", options).iloc[-1]
        f1 = {name.removeprefix("f1_"): round(float(last[name]), 4) for name in last.index if name.startswith("f1_day_")}
        scores = {"mean": round(float(last["score"]), 4), "loss": round(float(last["loss"]), 4), **f1}
        print(json.dumps({"objects": objects, **scores, "cpu_s": round(time.process_time() - start)}), flush=True)


if __name__ == "__main__":
    main()
