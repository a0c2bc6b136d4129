"""Comparison with other classifiers on the same objects: the package SuperNNova, and ORACLE's configuration.

    python3.11 -m venv other && other/bin/pip install supernnova==3.0.51
    OMP_NUM_THREADS=1 python bench/peers.py train.parquet test.parquet --name PLAsTiCC --supernnova other/bin/python
    OMP_NUM_THREADS=1 python bench/peers.py … --presets default oracle "oracle, batch 64" --epochs 40

SuperNNova (Möller & de Boissière 2020, MNRAS 491, 4277; MIT licence) is installed in a separate environment and is called with
`snn make_data` and `snn train_rnn` at default options, and with `classify_lcs` for the predictions. Its input is the processed
light curves in all passbands as CSV, the leaves as `--sntypes`, no class of the test set, and the requested host redshift (−1
where unknown, as in its own `--random_redshift`). It is trained on all objects except a tenth that it draws to select the best
epoch; this requires that the objects of its own test are specified, which are copies of training objects here. With `--balanced`
the package uses as many objects of each class as the rarest has, 80 % of them for training. `--debug` in its call limits it to
one process.

Its default `--norm global` was designed for supernovae: the logarithm of flux above the overall minimum, which is −10⁶ for
PLAsTiCC because of variable stars. `--norms cosmo` divides each light curve by its maximum instead.

The package is trained on curves of at least three rows, where a row contains all observations within 8 hours. It classifies
shorter ones as well. Every score is given for all curves, then with curves of fewer than three rows counted as wrong
(unclassified), then without them; for the presets of this library for all and without.

Prints a line about the data; one JSON line per run with its CPU seconds; then one line per model, level and day. `short` is the
number of curves of fewer than three rows, `unanswered` that of unclassified curves, which count as wrong. The test set is
classified once, after all training.
"""

import argparse
import itertools
import json
import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from quality import MODELS, VALIDATION_FRACTION, argument_parser, provenance, trained

from elasticc_hc.augmentation.augmentation import windows_by_days
from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.evaluation.metrics import confusion, confusion_scores, macro_average
from elasticc_hc.lightcurves.lightcurves import BANDS, LightCurves, process
from elasticc_hc.lightcurves.statics import known_values
from elasticc_hc.taxonomy.taxonomy import LEVELS, Taxonomy
from elasticc_hc.training.dataset import DAYS, leaf_labels

REDSHIFTS = {"none": "without", "zpho": "photometric redshift", "zspe": "spectroscopic redshift"}  # names in the package
NORMS = ("global", "perfilter", "cosmo", "cosmo_quantile")
HOST_COLUMNS = ("HOSTGAL_PHOTOZ", "HOSTGAL_PHOTOZ_ERR", "HOSTGAL_SPECZ", "HOSTGAL_SPECZ_ERR")
UNKNOWN = -1.0  # redshift
ROW_DAYS, FEWEST_ROWS = 0.33, 3
COPIES = 100  # of training objects, for the package's own test
CLASSIFY = """
import sys, numpy as np, pandas as pd
from supernnova.validation.validate_onthefly import classify_lcs
model, source, target, most = sys.argv[1:]
table, found = pd.read_csv(source), []
for _, part in table.groupby(table["SNID"] // int(most)):
    snid, answers = classify_lcs(part.copy(), model, "cpu")
    found.append(pd.DataFrame(answers[:, 0], index=snid))
pd.concat(found).rename_axis("SNID").to_csv(target)
"""
TOGETHER = 500  # curves classified at once
VERSION = "import importlib.metadata; print(importlib.metadata.version('supernnova'))"


def rows_of(curves: LightCurves) -> np.ndarray:  # (n,)
    "Number of rows of each curve in the package: one for all observations within 8 hours of its first."
    counts = np.zeros(len(curves), int)
    for i, times in enumerate(np.split(curves.MJD, curves.offsets[1:-1])):
        while len(times):
            times, counts[i] = times[times - times[0] > ROW_DAYS], counts[i] + 1
    return counts


def observations(curves: LightCurves) -> pd.DataFrame:
    "The observations with the package's column names; the objects are numbered."
    names = np.array(list(BANDS))[curves.BAND]
    return pd.DataFrame({"SNID": curves.object_index, "MJD": curves.MJD, "FLT": names, "FLUXCAL": curves.FLUXCAL,
                         "FLUXCALERR": curves.FLUXCALERR})  # fmt: skip


def objects(curves: LightCurves) -> pd.DataFrame:
    "A row per object with its redshifts; the required time of the peak is that of the trigger."
    host = {name: np.nan_to_num(known_values(curves.header, name), nan=UNKNOWN) for name in HOST_COLUMNS}
    return pd.DataFrame({"SNID": np.arange(len(curves)), "PEAKMJD": curves.trigger_mjd, **host})


@dataclass
class SuperNNova:
    "The package with its own folder; `seconds` is the CPU time of its steps."

    python: Path
    folder: Path
    taxonomy: Taxonomy
    redshift: str
    norm: str
    seed: int

    def __post_init__(self):
        self.seconds, self.choices = {}, ("--dump_dir", self.folder, "--raw_dir", self.folder / "raw", "--seed", self.seed)
        types = {str(number): leaf for number, leaf in enumerate(self.taxonomy.leaves)}
        self.choices += ("--sntypes", json.dumps(types), "--target_sntype", self.taxonomy.leaves[0], "--list_filters", *BANDS)
        (self.folder / "raw").mkdir(parents=True)

    def call(self, step: str, *arguments) -> str:
        "Its output; RuntimeError with the end of the output if it failed."
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [str(part) for part in (self.python.absolute(), "-E", *arguments)]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds[step] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
        (self.folder / f"{step}.log").write_text(done.stdout)
        if done.returncode:
            raise RuntimeError(f"SuperNNova, {step}: {done.stdout[-3000:]}")
        return done.stdout

    def train(self, curves: LightCurves, epochs: int | None, balanced: bool) -> int:
        "Train on processed curves; returns the number of epochs."
        truth = self.taxonomy.at_level(leaf_labels(curves, self.taxonomy), "leaf")
        if not balanced:
            copies = np.random.default_rng(self.seed).choice(len(curves), min(COPIES, len(curves)), replace=False)
            curves = curves[np.append(np.arange(len(curves)), copies)]
            truth = np.append(truth, truth[copies])
            pd.DataFrame({"SNID": np.arange(len(curves))[-len(copies) :]}).to_csv(self.folder / "copies.csv", index=False)
        observations(curves).to_csv(self.folder / "raw" / "objects_PHOT.csv", index=False)
        objects(curves).assign(SNTYPE=truth).to_csv(self.folder / "raw" / "objects_HEAD.csv", index=False)
        copied = () if balanced else ("--testing_ids", self.folder / "copies.csv")
        self.call("data", "-m", "cli.run", "make_data", *self.choices, *copied, "--debug")
        limit = () if epochs is None else ("--nb_epoch", epochs)
        network = ("--nb_classes", len(self.taxonomy.leaves), "--redshift", self.redshift, "--norm", self.norm, *limit)
        told = self.call("training", "-m", "cli.run", "train_rnn", *self.choices, *network)
        return 1 + max(int(number) for number in re.findall(r"Epoch: (\d+)", told))

    def answers(self, curves: LightCurves) -> np.ndarray:  # (n, n_nodes) float32
        "Probabilities of all nodes; NaN for unclassified objects."
        observations(curves).merge(objects(curves), on="SNID").to_csv(self.folder / "asked.csv", index=False)
        (model,) = (self.folder / "models").glob("*/vanilla*.pt")
        self.call("answers", "-c", CLASSIFY, model, self.folder / "asked.csv", self.folder / "answers.csv", TOGETHER)
        leaves = pd.read_csv(self.folder / "answers.csv", index_col="SNID").reindex(range(len(curves))).to_numpy(np.float32)
        nodes = self.taxonomy.level("leaf")
        probabilities = np.zeros((len(curves), len(self.taxonomy.nodes)), np.float32)
        probabilities[:, nodes] = leaves
        return probabilities @ self.taxonomy.paths.astype(np.float32)


def scores(predictions: Predictions, judged: np.ndarray, left_out: bool) -> dict:  # (level, day) → macro F1 and accuracy
    "Scores of the predictions selected by a mask (n, n_days); the others count as wrong, for no class, or are left out."
    table, tree = {}, predictions.taxonomy
    for level, (place, day) in itertools.product(LEVELS, enumerate(predictions.days)):
        size = len(tree.level(level))
        counts = np.zeros((size + 1, size + 1))  # the last one is for unclassified objects
        if judged[:, place].any():
            counts[:size, :size] = confusion(replace(predictions, reached=judged), level, day)
        if not left_out:
            counts[:size, size] = np.bincount(tree.at_level(predictions.truth[~judged[:, place]], level), minlength=size)
        f1 = macro_average(confusion_scores(counts)["f1"])
        accuracy = np.trace(counts) / counts.sum() if counts.any() else np.nan
        table[level, int(day)] = [None if np.isnan(value) else round(float(value), 4) for value in (f1, accuracy)]
    return table


def report(about: dict, predictions: Predictions, short: np.ndarray) -> None:
    "One JSON line per level and day; `short` (n, n_days) marks curves of fewer than three rows."
    answered = np.isfinite(predictions.probabilities).all(2)
    ways = {"": (answered, False), "_without_short": (answered & ~short, True)}
    if about["model"] == "SuperNNova":
        ways["_short_wrong"] = answered & ~short, False
    tables = {name: scores(predictions, *way) for name, way in ways.items()}
    for level, (place, day) in itertools.product(LEVELS, enumerate(predictions.days)):
        counts = {"objects": len(predictions), "short": int(short[:, place].sum()), "unanswered": int((~answered[:, place]).sum())}
        values = {f"{score}{way}": value for way, table in tables.items()
                  for score, value in zip(("f1", "accuracy"), table[level, int(day)], strict=True)}  # fmt: skip
        print(json.dumps({**about, "level": level, "day": int(day), **counts, **values}), flush=True)


def packages(
    asked: argparse.Namespace, curves: LightCurves, taxonomy: Taxonomy, folder: Path
) -> list[tuple[dict, SuperNNova]]:  # what each is, and itself
    "SuperNNova, trained with every requested option; a JSON line for each."
    found = []
    for seed, norm, redshift in itertools.product(asked.seeds, asked.norms, asked.redshifts if asked.supernnova else []):
        about = {"model": "SuperNNova", "norm": norm, "statics": REDSHIFTS[redshift], "seed": seed}
        package = SuperNNova(asked.supernnova, folder / f"supernnova-{norm}-{redshift}-{seed}", taxonomy, redshift, norm, seed)
        version = package.call("version", "-c", VERSION).strip()
        epochs = package.train(process(curves), asked.supernnova_epochs, asked.balanced)
        spent = {"epochs": epochs, "cpu_seconds": package.seconds["training"], "cpu_seconds_data": package.seconds["data"]}
        print(json.dumps({"run": about, "version": version, "balanced": asked.balanced, **spent}), flush=True)
        found.append((about, package))
    return found


def presets(
    asked: argparse.Namespace, curves: LightCurves, taxonomy: Taxonomy, folder: Path
) -> list[tuple[dict, HierarchicalClassifier]]:  # what each is, and itself
    "The presets of this library, trained with every requested option; a JSON line for each."
    found, held_out = [], split_value(curves.header["SNID"], seed=1) < VALIDATION_FRACTION
    for seed, statics, preset in itertools.product(asked.seeds, asked.statics, asked.presets):
        options = replace(MODELS[preset], seed=seed, epochs=asked.epochs or MODELS[preset].epochs)
        if statics == "without":
            options = replace(options, static_columns=())
        run = folder / f"{preset.replace(', ', '-').replace(' ', '')}-{statics}-{seed}"
        about = {"model": preset, "statics": statics, "seed": seed}
        classifier, course = trained(curves[~held_out], curves[held_out], taxonomy, options, run)
        print(json.dumps({"run": about, "epochs": len(course), "cpu_seconds": round(float(course[:, 0].max(initial=0)), 1)}), flush=True)
        found.append((about, classifier))
    return found


def main() -> None:
    parser = argument_parser(__doc__, ["default", "oracle", "oracle, batch 64"], ["with", "without"], [0])
    parser.add_argument("--supernnova", type=Path, metavar="PYTHON", help="interpreter with the package; else it is omitted")
    parser.add_argument("--redshifts", nargs="+", default=["none", "zspe"], choices=REDSHIFTS, help="of the host, for SuperNNova")
    parser.add_argument("--norms", nargs="+", default=["global"], choices=NORMS, help="of SuperNNova's inputs; see above")
    parser.add_argument("--balanced", action="store_true", help="train SuperNNova on equal numbers of objects of each class")
    parser.add_argument("--supernnova-epochs", type=int, help="the package's default if omitted")
    asked = parser.parse_args()
    taxonomy = Taxonomy.from_yaml(asked.taxonomy)
    curves, test = LightCurves.from_parquet(asked.train), LightCurves.from_parquet(asked.test)
    print(json.dumps({"bench": "peers", "data": asked.name, **provenance(curves, test)}), flush=True)
    scratch = tempfile.TemporaryDirectory()
    folder = (asked.keep or Path(scratch.name)).absolute()
    theirs = packages(asked, curves, taxonomy, folder)
    ours = presets(asked, curves, taxonomy, folder)
    processed = process(test)
    windows = windows_by_days(processed, DAYS).cut()
    shape = len(processed), len(DAYS)
    short = (rows_of(windows) < FEWEST_ROWS).reshape(shape)
    snid, truth = processed.header["SNID"].to_numpy(), leaf_labels(processed, taxonomy)
    for about, package in theirs:
        report(about, Predictions(snid, np.array(DAYS), package.answers(windows).reshape(*shape, -1), truth, taxonomy), short)
    for about, classifier in ours:
        report(about | {"calibrated": False}, replace(classifier, calibration=None).predict(test, DAYS), short)
        report(about | {"calibrated": True}, classifier.predict(test, DAYS), short)


if __name__ == "__main__":
    main()
