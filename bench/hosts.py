"""Simulated and real host galaxies: separability by a gradient-boosted classifier.

Real: a Parquet file with `ELASTICC_class`, `SOURCE` and `ZTRUE` (the redshift of the source; of objects without it that of their
host). Simulated: hosts of the model's profile for sources at the same redshifts and positions. The area under the ROC curve of
gradient-boosted trees, in five-fold cross-validation, is .5 if they are indistinguishable. Prints one JSON line about the run,
then one for each class and group of columns, with the most important columns.

    python bench/hosts.py real.parquet [--seed 0]
"""

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from elasticc_hc import LightCurves
from elasticc_hc.lightcurves.statics import HEADER_FEATURES, known_values
from elasticc_hc.simulation.hosts import PROFILES, draw_hosts, host_header_columns, model_columns
from elasticc_hc.simulation.population import MODELS
from elasticc_hc.simulation.snana_files import BAND_NAMES, QUANTILES

CLASSES = {"SNIa": r"SNIa-\w+", "SNII": r"SNII.*", "SNIb/c": r"SNI[bc].*", "KN": r"KN_.*"}
SIMULATED = {"SNIa": "SNIa-SALT3", "SNII": "SNII-Templates", "SNIb/c": "SNIb-Templates", "KN": "KN_K17"}
MOST_REDSHIFT = {"KN": 0.28}  # of a source with unknown redshift
MAGNITUDES = tuple(f"HOSTGAL_MAG_{band}" for band in BAND_NAMES)
GROUPS = {
    "magnitudes": MAGNITUDES,
    "read by the network": tuple(name for name in HEADER_FEATURES if name.startswith("HOSTGAL") and not name.endswith("SPECZ_ERR")),
    "shape": ("HOSTGAL_SNSEP", "HOSTGAL_ELLIPTICITY", "HOSTGAL_SQRADIUS"),
    "magnitude errors": tuple(name.replace("MAG", "MAGERR") for name in MAGNITUDES),
    "photometric redshift": ("HOSTGAL_PHOTOZ", "HOSTGAL_PHOTOZ_ERR", *(f"HOSTGAL_ZPHOT_Q{q:03d}" for q in QUANTILES)),
}
GROUPS["all"] = tuple(dict.fromkeys(name for names in GROUPS.values() for name in names))


def simulated_hosts(name: str, real: pd.DataFrame, z: np.ndarray, seed: int) -> pd.DataFrame:
    "Host columns of sources of this class at the redshifts and positions of the real ones."
    model, rng = MODELS[SIMULATED[name]], np.random.default_rng(seed)
    missing = {column: default for column, _, default in model_columns(model)[0]}
    hosts, other = (draw_hosts(rng, z, real["MWEBV"].to_numpy(), PROFILES[key]) for key in (model.host, "massive"))
    return pd.DataFrame(host_header_columns(rng, hosts, other, real["RA"].to_numpy(), real["DEC"].to_numpy(), missing))


def features(header: pd.DataFrame, columns: tuple) -> pd.DataFrame:
    "The columns as numbers, with colours if all magnitudes are available."
    table = pd.DataFrame({name: known_values(header, name) for name in columns})
    if set(MAGNITUDES) <= set(columns):
        for blue, red in zip(MAGNITUDES, MAGNITUDES[1:], strict=False):
            table[f"{blue[-1]}-{red[-1]}"] = table[blue] - table[red]
    return table


def told_apart(real: pd.DataFrame, simulated: pd.DataFrame, seed: int) -> tuple[float, dict]:
    "Area under the ROC curve, and the columns with the largest permutation importance."
    table, truth = pd.concat([real, simulated]), np.repeat([1, 0], [len(real), len(simulated)])
    trees = HistGradientBoostingClassifier(max_iter=120, learning_rate=0.06, max_leaf_nodes=15, random_state=seed)
    parts = StratifiedKFold(5, shuffle=True, random_state=seed)
    score = cross_val_predict(trees, table, truth, cv=parts, method="predict_proba")[:, 1]
    losses = permutation_importance(trees.fit(table, truth), table, truth, n_repeats=2, random_state=seed, scoring="roc_auc")
    worst = pd.Series(losses.importances_mean, table.columns).sort_values(ascending=False).head(4)
    return float(roc_auc_score(truth, score)), worst.round(3).to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    header = LightCurves.from_parquet(options.real).header
    print(json.dumps({"date": f"{date.today()}", "machine": platform.machine(), "cores": os.cpu_count(), "seed": options.seed}))
    for name, pattern in CLASSES.items():
        real = header[header["ELASTICC_class"].str.fullmatch(pattern)]
        found = np.isfinite(known_values(real, "HOSTGAL_MAG_r"))
        photo = np.clip(known_values(real, "HOSTGAL_PHOTOZ"), 0.02, MOST_REDSHIFT.get(name, 0.6))
        spectrum = known_values(real, "HOSTGAL_SPECZ")
        z = np.where(spectrum > 0, spectrum, photo)
        z = np.where(np.isfinite(known_values(real, "ZTRUE")), known_values(real, "ZTRUE"), z)
        real, z = real[found], z[found]
        drawn = simulated_hosts(name, real, z, options.seed)
        drawn_found = np.isfinite(known_values(drawn, "HOSTGAL_MAG_r"))
        shares = {"without host": [1 - found.mean(), 1 - drawn_found.mean()]}
        for column in ("HOSTGAL_SPECZ", "HOSTGAL2_MAG_r"):
            shares[column] = [float((known_values(table, column) > 0).mean()) for table in (real, drawn)]
        shares = {column: [round(float(value), 3) for value in pair] for column, pair in shares.items()}
        print(json.dumps({"class": name, "n": len(real), "shares, real and simulated": shares}), flush=True)
        for group, columns in GROUPS.items():
            score, worst = told_apart(features(real, columns), features(drawn[drawn_found], columns), options.seed)
            print(json.dumps({"class": name, "columns": group, "auc": round(score, 3), "told apart by": worst}), flush=True)


if __name__ == "__main__":
    main()
