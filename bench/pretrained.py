"""Put a trained run into the package, with its model card.

    python bench/pretrained.py demo/plasticc/run demo/plasticc/split/test.parquet plasticc

Copies the checkpoint to elasticc_hc/pretrained/NAME and writes README.md beside it: data, split, numbers by day, limits, licence.
The test side is read once.
"""

import argparse
import json
import shutil
from datetime import date
from pathlib import Path

import torch
from metadata import HOST_REDSHIFT, shown

from elasticc_hc.classification.classifier import PRETRAINED, HierarchicalClassifier, Predictions
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.training.dataset import DAYS

COLUMNS = (("root", "f1"), ("level2", "f1"), ("leaf", "f1"), ("leaf", "accuracy"), ("leaf", "ece"))
HEADS = ("root macro F1", "level 2 macro F1", "leaf macro F1", "leaf accuracy", "leaf ECE")
ABOUT = {
    "plasticc": {
        "data": "The PLAsTiCC training set (7,848 simulated LSST light curves of 14 classes), from the wheel of snmachine 2.0.0.post3.",
        "limits": (
            "PLAsTiCC's training set is bright and small, and every host has a spectroscopic redshift; fainter objects, and photometric"
            " redshifts alone, were not among what it learned from.",
            "Without the redshift of the host it is much weaker (see above).",
            "Made for the passbands, noise and cadence of PLAsTiCC; these are not ELAsTiCC 2 numbers, and nothing real was seen.",
            "Classes outside the tree are given to some class inside it.",
        ),
        "licence": "Weights: Apache-2.0. Light curves: BSD-3-Clause, with snmachine (see nbs/data/LICENSE-snmachine).",
    },
    "synthetic": {
        "data": "Synthetic ELAsTiCC2-format data of this package's own simulator: 32 models, 1,500 objects each, wide survey, seed 0.",
        "limits": (
            "Learned from this package's simulator, not from ELAsTiCC 2 and not from the sky: use it to try things, not for science.",
            "As many objects of every model: its class mix is not that of the sky; give `predict` a prior for another one.",
            "Classes outside the tree are given to some class inside it.",
        ),
        "licence": "Weights: Apache-2.0.",
    },
}


def numbers(predictions: Predictions) -> dict:
    "The metrics of the whole by level, metric and day."
    table = compute_metrics(predictions)
    whole = table["node"].isin(["all", "macro"])
    return table[whole].set_index(["level", "metric", "day"])["value"].groupby(level=[0, 1, 2]).first().to_dict()


def rows(cells) -> str:
    "Lines of a Markdown table; the second is the rule below the heads."
    lines = [f"| {' | '.join(map(str, row))} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def card(name: str, run: Path, test: LightCurves, calibrated_with_folds: bool = False) -> str:
    "The model card, as Markdown."
    classifier, about = HierarchicalClassifier.load(run), ABOUT[name]
    description = json.loads((run / "checkpoint.json").read_text(encoding="utf-8"))
    options, objects, n_test = description["options"], description["objects"], 0
    views = {"all": None, "the host's redshift": HOST_REDSHIFT, "none": ()}
    found = {}
    for view, columns in views.items():
        predictions = classifier.predict(shown(test, columns), DAYS)
        found[view], n_test = numbers(predictions), len(predictions)
    by_day = [("day", *HEADS), *((day, *(f"{found['all'][level, metric, day]:.3f}" for level, metric in COLUMNS)) for day in DAYS)]
    hidden = [("static features known", *(f"day {day}" for day in (1, 8, 64, 1024)))]
    hidden += [(view, *(f"{found[view]['leaf', 'f1', day]:.3f}" for day in (1, 8, 64, 1024))) for view in views]
    weights = sum(parameter.numel() for parameter in classifier.network.parameters())
    out_of_fold = calibrated_with_folds or (run / "out_of_fold.parquet").is_file()
    folds = "out of fold, with all training objects" if out_of_fold else "with the objects held out"
    parts = (
        f"# {name}",
        f'`HierarchicalClassifier.from_pretrained("{name}")`: {len(classifier.taxonomy.leaves)} leaves, {options["encoder"].upper()} of'
        f" {options['layers']} × {options['hidden']} units, {weights:,} weights. Written {date.today().isoformat()}.",
        "## Data and split",
        f"{about['data']} Split by a hash of the SNID: {objects['train']:,} objects to learn from, {objects['validation']:,} to choose the"
        f" best epoch by, {n_test:,} to test. Fingerprint of the training objects: `{description['data']['train']}`. Seed"
        f" {options['seed']}, at most {options['epochs']} epochs. Calibrated {folds}.",
        "## Numbers on test objects, by day since trigger",
        rows(by_day),
        f"Leaf macro F1 when static features are hidden:\n\n{rows(hidden)}",
        "## Limits",
        "\n".join(f"- {limit}" for limit in about["limits"]),
        "## Licence",
        about["licence"],
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("name", choices=ABOUT)
    parser.add_argument("--folds", action="store_true", help="the run was calibrated out of fold")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    text, folder = card(asked.name, asked.run, LightCurves.from_parquet(asked.test), asked.folds), Path(str(PRETRAINED)) / asked.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("checkpoint.json", "model.safetensors"):
        if folder.resolve() != asked.run.resolve():
            shutil.copy(asked.run / name, folder / name)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
