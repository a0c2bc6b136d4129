"""The packaged classifiers on real objects, compared with new simulated objects of the same selection.

Real: a Parquet file with `ELASTICC_class`, `SOURCE` (fink_…: alerts of ELAsTiCC 1; e2_fits: complete light curves of ELAsTiCC 2)
and `ALERT_MJD`, and, with --rubin, one of Rubin's objects. Simulated: the same models in the same numbers, new objects. If the
real ones are alerts, alerts are drawn at random from ten times as many objects with the cadence, depth and detections of ELAsTiCC 1,
so objects with many alerts are drawn more often, as in the alerts of one night. All but 5 % of the real alerts are from one night
at full moon, without u, g and r: the simulated ones are drawn from such nights. An object is cut at its alert, without forced
photometry for a first alert, else with that of the 30 days before the first. Prints one JSON line about the run, then one for each
classifier, set, treatment of the metadata, group, prior and level.

A day contains the objects that have reached it; the last column is the last day of each object, for all of them.

    python bench/real.py real.parquet [--rubin rubin.parquet] [--classifier synthetic] [--seed 0]
    python bench/real.py real.parquet --classifier RUN … --trees HELD_OUT.parquet

With --trees, hybrid classifiers with and without their boosted trees, each calibrated with the objects held out, on the real ones.
"""

import argparse
import itertools
import json
import os
import platform
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from elasticc_hc import HierarchicalClassifier, LightCurves
from elasticc_hc.evaluation.metrics import calibration_error
from elasticc_hc.simulation.population import MODELS, survey_sky
from elasticc_hc.simulation.simulator import simulate_chunks
from elasticc_hc.simulation.survey import LUNATION
from elasticc_hc.simulation.training_objects import chunk_table
from elasticc_hc.taxonomy.taxonomy import LEVELS

DAYS = (1, 8, 64, 100_000)
HIDDEN = {"all": r"^$", "no host": r"HOSTGAL.*", "no metadata": r"HOSTGAL.*|MWEBV.*|REDSHIFT.*|RA|DEC"}
FORCED_DAYS = 30.0


def in_bright_time(curves: LightCurves) -> np.ndarray:  # (n_obs,) bool
    "Detections in i, z and Y within three days of full moon, as 19 of 20 real alerts."
    return curves.detected & (curves.BAND >= 3) & (np.abs((curves.MJD - LUNATION[1] + 15) % LUNATION[0] - 15) < 3)


def as_alerts(curves: LightCurves, rng: np.random.Generator) -> LightCurves:
    "Each light curve up to one of its detections in bright time, drawn at random."
    seen = np.flatnonzero(in_bright_time(curves))
    owner = curves.object_index[seen]
    first = np.searchsorted(owner, np.arange(len(curves)))
    counts = np.bincount(owner, minlength=len(curves))
    end = seen[first + (rng.uniform(size=len(curves)) * counts).astype(int)]
    start = curves.trigger_mjd - np.where(end > curves.first_detection, FORCED_DAYS, 0.0)
    rows, place = np.arange(curves.n_obs), curves.object_index
    known = curves.select((rows <= end[place]) & (curves.MJD >= start[place]))
    return replace(known, header=known.header.assign(ALERT_MJD=curves.MJD[end]))


CANDIDATES, EXTRA = 10, 200  # simulated objects per real one, if alerts are drawn, and more of each model


def simulated_twin(real: LightCurves, alerts: bool, seed: int) -> LightCurves:
    "New objects of the same models, in the same numbers, under the same selection."
    names = real.header["ELASTICC_class"].str.replace("SNIa-SALT2", "SNIa-SALT3").value_counts()
    tables, sky, first = [], survey_sky("elasticc1" if alerts else "wfd", seed), 0
    for name, n in names.items():
        for chunk in simulate_chunks(MODELS[name], sky, CANDIDATES * n + EXTRA if alerts else n, seed):
            tables.append(chunk_table(MODELS[name], chunk, first))
            first += len(chunk)
    curves, rng = LightCurves.from_arrow(pa.concat_tables(tables, promote_options="permissive")), np.random.default_rng(seed)
    return as_alerts(curves[np.sort(drawn_by_alerts(curves, names, rng))], rng) if alerts else curves


def drawn_by_alerts(curves: LightCurves, numbers: pd.Series, rng: np.random.Generator) -> np.ndarray:
    "Rows of as many objects of each model, drawn in proportion to their detections in bright time."
    detections = np.bincount(curves.object_index[in_bright_time(curves)], minlength=len(curves))
    models = curves.header["ELASTICC_class"].to_numpy()
    shares = {name: np.where(models == name, detections, 0) for name in numbers.index}
    return np.concatenate([rng.choice(len(curves), n, replace=False, p=shares[name] / shares[name].sum()) for name, n in numbers.items()])


def hidden(curves: LightCurves, pattern: str) -> LightCurves:
    "The same without the header columns of a pattern."
    columns = curves.header.columns
    return replace(curves, header=curves.header.drop(columns=columns[columns.str.fullmatch(pattern)]))


def scores(classifier: HierarchicalClassifier, curves: LightCurves, prior: str) -> list[dict]:
    "Accuracy at each level and day, calibration error and confusions at the end, for each leaf with objects."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions = classifier.predict(curves, DAYS, prior)
    tree, rows = classifier.taxonomy, []
    for leaf in np.unique(predictions.truth[predictions.truth >= 0]):
        mine = predictions.truth == leaf
        reached = predictions.reached[mine]
        reached[:, -1] = True
        row = {"class": tree.nodes[leaf], "n": reached.sum(0).tolist()}
        for level in LEVELS:
            nodes = tree.level(level)
            answers = predictions.probabilities[mine][:, :, nodes]
            right = answers.argmax(2) == tree.at_level(predictions.truth[mine], level)[:, None]
            row[level] = [round(float(right[known, k].mean()), 4) if known.any() else None for k, known in enumerate(reached.T)]
        end = predictions.probabilities[mine][:, -1][:, tree.leaf_nodes]
        names = pd.Series(np.array(tree.leaves)[end.argmax(1)]).value_counts(normalize=True).head(4)
        rows.append(row | {"answers at the end": names.round(3).to_dict()})
    known = predictions.truth >= 0
    end = predictions.probabilities[known][:, -1][:, tree.leaf_nodes]
    right = tree.leaf_nodes[end.argmax(1)] == predictions.truth[known]
    return rows + [{"class": "all", "n": int(known.sum()), "ece": round(float(calibration_error(end.max(1), right)[0]), 4),
                    "leaf": round(float(right.mean()), 4)}]  # fmt: skip


def report(classifier, name: str, label: str, curves: LightCurves) -> None:
    priors = ("training", "uniform", "elasticc2") if classifier.taxonomy.name == "elasticc2" else ("training", "uniform")
    for metadata, pattern in HIDDEN.items():
        for prior in priors:
            for row in scores(classifier, hidden(curves, pattern), prior):
                print(json.dumps({"classifier": name, "set": label, "metadata": metadata, "prior": prior} | row), flush=True)


def compare_trees(runs: list[str], real: dict[str, LightCurves], held_out: LightCurves) -> None:
    "One line for each hybrid classifier, with and without its trees, set and group."
    for run, with_trees in itertools.product(runs, (False, True)):
        whole = HierarchicalClassifier.load(run)
        classifier = replace(whole, trees=whole.trees if with_trees else None).calibrate(held_out)
        for label, curves in real.items():
            for row in scores(classifier, curves, "uniform"):
                print(json.dumps({"classifier": Path(run).name, "trees": with_trees, "set": label, "prior": "uniform"} | row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("--rubin", type=Path)
    parser.add_argument("--classifier", nargs="+", default=["synthetic"], help="one; several with --trees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trees", type=Path, help="objects held out, to calibrate hybrid classifiers with and without trees")
    options = parser.parse_args()
    name = options.classifier[0]
    classifier, real = HierarchicalClassifier.load(name), LightCurves.from_parquet(options.real)
    about = {"date": f"{date.today()}", "machine": platform.machine(), "cores": os.cpu_count(), "classifier": name,
             "trained": str(classifier.description.get("date")), "days": DAYS, "seed": options.seed}  # fmt: skip
    print(json.dumps(about), flush=True)
    files = real.header["SOURCE"].eq("e2_fits").to_numpy()
    sets = {"alerts of ELAsTiCC 1": real[~files], "files of ELAsTiCC 2": real[files]}
    if options.trees:
        return compare_trees(options.classifier, sets, LightCurves.from_parquet(options.trees))
    for label, curves in sets.items():
        report(classifier, name, label, curves)
        report(classifier, name, f"{label}, simulated", simulated_twin(curves, label.startswith("alerts"), options.seed))
    if options.rubin:
        report(classifier, name, "Rubin", LightCurves.from_parquet(options.rubin))


if __name__ == "__main__":
    main()
