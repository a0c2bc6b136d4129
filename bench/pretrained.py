"""Add a trained run to the package, with its model card.

    python bench/pretrained.py demo/plasticc/run demo/plasticc/split/test.parquet plasticc

Copies the checkpoint to elasticc_hc/pretrained/NAME and writes its README.md: data, split, scores by day, limits, licence.
The test set is read once. A run without a model of outliers gets it afterwards, with `python bench/outliers.py fit`.
"""

import argparse
import json
import shutil
from datetime import date
from pathlib import Path

import torch
from metadata import shown

from elasticc_hc.classification.classifier import PRETRAINED, HierarchicalClassifier
from elasticc_hc.classification.outliers import OUTLIERS_FILE
from elasticc_hc.classification.predictions import Predictions, day_name
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.training.dataset import DAYS
from elasticc_hc.training.trees import TREES_FILE

COLUMNS = (("root", "f1"), ("level2", "f1"), ("leaf", "f1"), ("leaf", "accuracy"), ("leaf", "ece"))
HOST_REDSHIFT = ("HOSTGAL_PHOTOZ", "HOSTGAL_PHOTOZ_ERR", "HOSTGAL_SPECZ", "HOSTGAL_SPECZ_ERR")
HEADS = ("root macro F1", "level 2 macro F1", "leaf macro F1", "leaf accuracy", "leaf ECE")
ABOUT = {
    "plasticc": {
        "data": "The PLAsTiCC training set (7,848 simulated LSST light curves of 14 classes), from the wheel of snmachine 2.0.0.post3.",
        "limits": (
            "PLAsTiCC's training set is small and its objects are bright; every host has a spectroscopic redshift. Fainter objects, and"
            " hosts with a photometric redshift only, are not in the training set.",
            "Without the redshift of the host the scores are much lower (table above).",
            "Passbands, noise and cadence are those of PLAsTiCC. These are not scores on ELAsTiCC 2, and no real object was used.",
            "An object of a class outside the tree is assigned to a class inside it; the p-value `outlier` finds most artefacts, but few"
            " of the unknown classes that resemble a known one (`bench/results/outliers.jsonl`).",
        ),
        "licence": "Weights: Apache-2.0. Light curves: BSD-3-Clause, with snmachine (see elasticc_hc/sample/LICENSE-snmachine).",
    },
    "synthetic": {
        "data": (
            "Synthetic objects of this package's own simulator: 32 models, equal numbers of the 19 leaves; the survey `mixed` for"
            " training and calibration, the wide survey for the test. Weights trained for 32 epochs with an earlier version of the"
            " simulator were trained for one, then for seven epochs with the present one; those of the first and the last of the seven"
            " are averaged."
        ),
        "limits": (
            "Trained on this package's simulator, not on ELAsTiCC 2 and not on real objects. The tables above give its accuracy and"
            " calibration error on real objects.",
            "The training set has equal numbers of all leaves; the sky has not. Choose another class mix with the argument `prior` of"
            " `predict`, such as `elasticc2` or `observed`.",
            "An object with MWEBV but without host columns is treated as one without a host, that is, distant or Galactic. If its host is"
            " unknown, omit MWEBV as well, or provide a photometric redshift.",
            "An object of a class outside the tree is assigned to a class inside it; the p-value `outlier` finds most artefacts, but few"
            " of the unknown classes that resemble a known one (`bench/results/outliers.jsonl`).",
        ),
        "licence": "Weights: Apache-2.0.",
    },
}


def numbers(predictions: Predictions) -> dict:
    "Overall metrics by level, metric and day."
    table = compute_metrics(predictions)
    whole = table["node"].isin(["all", "macro"])
    return table[whole].set_index(["level", "metric", "day"])["value"].groupby(level=[0, 1, 2]).first().to_dict()


def rows(cells) -> str:
    "Lines of a Markdown table; the second is the separator below the header."
    lines = [f"| {' | '.join(map(str, row))} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def on_real_objects(name: str, path: Path) -> list[str]:
    "The section of the card on real objects, from the output of bench/real.py; empty without it."
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    found = [line for line in lines if line.get("classifier") == name and line.get("metadata") == "all" and line.get("prior") == "uniform"]
    if not found or "class" not in found[0]:
        return []
    heads = ("objects", "class", "number", "day 1", "day 8", "day 64", "end")
    table = [heads] + [(line["set"], line["class"], line["n"][-1], *("–" if value is None else f"{value:.3f}" for value in line["leaf"]))
                       for line in found if line["class"] != "all"]  # fmt: skip
    ends = {(line["set"], line["prior"]): line for line in lines if line.get("class") == "all" and line["metadata"] == "all"}
    priors = [prior for prior in ("training", "elasticc2") if any(key[1] == prior for key in ends)]
    errors = [("objects", *(f"prior {prior}: {what}" for prior in priors for what in ("calibration error", "right leaf")))]
    errors += [(name, *(f"{ends[name, prior][key]:.3f}" for prior in priors for key in ("ece", "leaf")))
               for name in dict.fromkeys(name for name, _ in ends)]  # fmt: skip
    return [
        "## On real objects",
        "Fraction of the objects that have reached the day whose most probable leaf is right, with equal priors of all leaves. No real"
        " object was used for training or calibration; distributions of the simulator (hosts, cadence, light curves) were set with them."
        " *Simulated*: new objects of the same models under the same selection.",
        rows(table),
        "Calibration error of the most probable leaf at the end, and the fraction of objects for which it is right, with the classifier's"
        " own prior and others. The real sets contain a few classes only, so the class mix matters as much as the network:",
        rows(errors),
        f"Measured by `bench/real.py` on {lines[0]['date']}.",
    ]


def card(name: str, run: Path, test: LightCurves, calibrated_with_folds: bool = False) -> str:
    "The model card, as Markdown."
    classifier, about = HierarchicalClassifier.load(run), ABOUT[name]
    description = json.loads((run / "checkpoint.json").read_text(encoding="utf-8"))
    options, objects, n_test = description["options"], description["objects"], 0
    views = {"all": None, "the host's redshift": HOST_REDSHIFT, "none": ()}
    found = {}
    for view, columns in views.items():
        predictions = classifier.predict(shown(test, columns), DAYS, first_alert=True)
        found[view], n_test = numbers(predictions), len(predictions)
    days = (0, *DAYS)
    by_day = [("day", *HEADS)]
    by_day += [(day_name(day, True), *(f"{found['all'][level, metric, day]:.3f}" for level, metric in COLUMNS)) for day in days]
    hidden = [("static features known", *(day_name(day, True, "day {:g}") for day in (0, 1, 8, 64, 1024)))]
    hidden += [(view, *(f"{found[view]['leaf', 'f1', day]:.3f}" for day in (0, 1, 8, 64, 1024))) for view in views]
    weights = sum(parameter.numel() for parameter in classifier.network.parameters())
    members = f"{options.get('members', 1)} networks, each an " if options.get("members", 1) > 1 else ""
    trees = ", and boosted trees" if classifier.trees else ""
    out_of_fold = calibrated_with_folds or (run / "out_of_fold.parquet").is_file()
    folds = "out of fold, with all training objects" if out_of_fold else "with the objects held out"
    learned, chosen = (f"{objects[name]:,} objects" for name in ("train", "validation"))
    split = f"Split by a hash of the SNID: {learned} for training, {chosen} for the choice of the epoch, {n_test:,} for the test."
    if "simulated_per_leaf" in description["data"]:
        split = (
            f"{learned} for training, new in every epoch; {chosen} of another seed for the choice of the epoch, {n_test:,} of a third for"
            " the test."
        )
    parts = (
        f"# {name}",
        f'`HierarchicalClassifier.from_pretrained("{name}")`: {len(classifier.taxonomy.leaves)} leaves, {members}'
        f"{options['encoder'].upper()} of {options['layers']} × {options['hidden']} units, {weights:,} weights{trees}."
        f" Written {date.today().isoformat()}.",
        "## Data and split",
        f"{about['data']} {split} Fingerprint of the training objects: `{description['data']['train']}`. Seed {options['seed']}, at most"
        f" {options['epochs']} epochs. Calibrated {folds}.",
        "## Numbers on test objects, by day since trigger",
        rows(by_day),
        f"Leaf macro F1 with static features hidden:\n\n{rows(hidden)}",
        *on_real_objects(name, Path(__file__).parent / "results" / f"real_{name}.jsonl"),
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
    for name in ("checkpoint.json", "model.safetensors", TREES_FILE, OUTLIERS_FILE):
        if folder.resolve() != asked.run.resolve() and (asked.run / name).is_file():
            shutil.copy(asked.run / name, folder / name)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
