"""Effect of missing metadata: one model trained with metadata blackout, compared with a model without metadata.

    python bench/metadata.py demo/plasticc/split/train.parquet demo/plasticc/split/test.parquet --blackout 0.15

Both are trained with the same preset and seeds. The first is evaluated with all static features, with the host redshift
only, and with none; the second with none. One JSON line per model, set of features and day: leaf macro F1. With
`--validation`, the held-out objects of the training set are used and the test set is not read.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from quality import VALIDATION_FRACTION, provenance

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS
from elasticc_hc.training.options import PRESETS
from elasticc_hc.training.trainer import fit

HOST_REDSHIFT = ("HOSTGAL_PHOTOZ", "HOSTGAL_PHOTOZ_ERR", "HOSTGAL_SPECZ", "HOSTGAL_SPECZ_ERR")


def shown(curves: LightCurves, columns: tuple[str, ...] | None) -> LightCurves:
    "The curves with only these header columns, the SNID and the label; None keeps all."
    names = None if columns is None else [c for c in ("SNID", "ELASTICC_class", *columns) if c in curves.header]
    return curves if names is None else replace(curves, header=curves.header[names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--taxonomy", default="plasticc")
    parser.add_argument("--preset", default="lstm", choices=PRESETS)
    parser.add_argument("--epochs", type=int, help="the preset's by default")
    parser.add_argument("--blackout", type=float, nargs="+", default=[0.15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validation", action="store_true", help="use the held-out objects of the training set")
    arguments = parser.parse_args()
    taxonomy, curves = Taxonomy.from_yaml(arguments.taxonomy), LightCurves.from_parquet(arguments.train)
    held_out = split_value(curves.header["SNID"], seed=1) < VALIDATION_FRACTION
    asked = curves[held_out] if arguments.validation else LightCurves.from_parquet(arguments.test)
    print(json.dumps(provenance(curves[~held_out], asked) | {"asked": "validation" if arguments.validation else "test"}), flush=True)
    preset = PRESETS[arguments.preset]
    preset = replace(preset, epochs=arguments.epochs or preset.epochs)
    models = {f"blackout {share:g}": replace(preset, blackout=share) for share in arguments.blackout}
    models["no statics"] = replace(preset, static_columns=())
    for (name, options), seed in ((model, seed) for model in models.items() for seed in arguments.seeds):
        with tempfile.TemporaryDirectory() as run:
            fit(curves[~held_out], curves[held_out], taxonomy, run, replace(options, seed=seed))
            classifier = HierarchicalClassifier.load(run)
        views = {"all": None, "host redshift": HOST_REDSHIFT, "none": ()} if options.static_columns else {"none": ()}
        for view, columns in views.items():
            table = compute_metrics(classifier.predict(shown(asked, columns), DAYS))
            f1 = table[(table["node"] == "macro") & (table["metric"] == "f1") & (table["level"] == "leaf")]
            by_day = dict(zip(f1["day"].astype(int).astype(str), f1["value"].round(4), strict=True))
            row = {"model": name, "seed": seed, "shown": view, "mean": round(float(np.mean(f1["value"])), 4)}
            print(json.dumps(row | by_day), flush=True)


if __name__ == "__main__":
    main()
