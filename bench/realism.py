"""Realism of the simulator: synthetic objects compared with PLAsTiCC's training set, by class, at PLAsTiCC's visits.

    python bench/realism.py PLASTICC.parquet METADATA.csv [--classes 90 42 …] [--limit 400] [--half 1] [--seed 0]

The first argument is the converted training set (`elasticc-hc plasticc`), the second the metadata of the same release, of which
the true redshift and the number of the submodel are used, only here. At most `--limit` objects of a class are drawn at random.
For each real object a synthetic one of the class, of the model corresponding to its submodel, is drawn at its redshift and
observed at its visits so that its brightest visit and the flux there are the same (`simulation.transplant`; for variables, so
that the scatter in r is the same). Then, per class, the Kolmogorov-Smirnov distances of summary numbers, and the area under the
ROC curve of gradient boosting that separates real from synthetic by all numbers (five folds, a pair always in the same fold; 0.5
if they are indistinguishable). Prints a JSON line about the machine and one per class; distances of fewer than five values are
left out. Numbers that follow from the visits alone are the same on both sides by construction. The areas of two seeds differ by
about 0.03.

Most models were adjusted to objects of the class, so this measures the description of these objects, not the prediction of
others. Eclipsing binaries and type II were adjusted to half 0 (by a hash of SNID): `--half 1` uses the other objects. `--fields
deep` uses only the objects of the deep fields, which have more visits and less noise and are more sensitive to differences.
"""

import argparse
import hashlib
import json
import os
import platform
from datetime import date

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from elasticc_hc.lightcurves.lightcurves import BANDS, LightCurves
from elasticc_hc.simulation.population import MODELS
from elasticc_hc.simulation.transplant import brightest_visit, transplant_transients, transplant_variables

TRANSIENTS = {  # PLAsTiCC target: name, models used in turn by PLAsTiCC's submodel
    90: ("SNIa", {1: ["SNIa-SALT3"]}), 67: ("SNIa-91bg", {1: ["SNIa-91bg"]}), 52: ("SNIax", {1: ["SNIax"]}),
    42: ("SNII", {1: ["SNII-Templates"], 2: ["SNII-NMF"], 3: ["SNIIn-MOSFIT"]}),
    62: ("SNIbc", {1: ["SNIb-Templates", "SNIc-Templates"], 2: ["SNIb+HostXT_V19", "SNIc+HostXT_V19"]}),
    95: ("SLSN-I", {1: ["SLSN-I+host"]}), 15: ("TDE", {1: ["TDE"]}), 64: ("KN", {1: ["KN_K17"]}),
}  # fmt: skip
VARIABLES = {92: ("RRL", {1: ["RRL"]}), 16: ("EB", {1: ["EB"]}), 88: ("AGN", {1: ["CLAGN"]}), 65: ("M-dwarf", {1: ["Mdwarf-flare"]}),
             6: ("uLens", dict.fromkeys((1, 2), ["uLens-Single_PyLIMA"]))}  # fmt: skip
GOALS = {"SNIa": 0.65} | {name: 0.75 for name, _ in TRANSIENTS.values() if name != "SNIa"}  # maximum area under the curve
GOALS |= {name: 0.85 for name, _ in VARIABLES.values()}
WINDOWS = (-40, -20, -8, 8, 20, 40, 70, 120)  # rest-frame days from the brightest visit


def window_fluxes(curves: LightCurves, days: np.ndarray) -> np.ndarray:
    "Weighted mean flux in each band and window, (n, 6, windows); NaN without a visit."
    n, windows = len(curves), len(WINDOWS) - 1
    window = np.digitize(days, WINDOWS) - 1
    inside = (window >= 0) & (window < windows)
    key = (curves.object_index * 6 + curves.BAND) * windows + window
    weight = 1 / curves.FLUXCALERR.astype(float) ** 2
    total, light = (np.bincount(key[inside], values[inside], n * 6 * windows) for values in (weight, weight * curves.FLUXCAL))
    return np.where(total > 0, light / np.maximum(total, 1e-12), np.nan).reshape(n, 6, windows)


def transient_numbers(curves: LightCurves, z: np.ndarray) -> pd.DataFrame:
    "Summary numbers of transients."
    when, _, flux = brightest_visit(curves)
    days = (curves.MJD - when[curves.object_index]) / (1 + z[curves.object_index])
    light = window_fluxes(curves, days)
    peak = light[:, :, 3]
    mags = np.where(peak > 0, 27.5 - 2.5 * np.log10(np.maximum(peak, 1)), np.nan)
    numbers = {f"peak {band}": mags[:, i] for i, band in enumerate(BANDS)}
    for a, b in ("gr", "ri", "iz"):
        numbers[f"{a}-{b} at peak"] = numbers[f"peak {a}"] - numbers[f"peak {b}"]
    reference = np.where(np.isfinite(flux), flux, 1)[:, None, None]
    shape = np.arcsinh(light / reference / 0.1)
    for i, band in enumerate(BANDS[1:], 1):
        for j, (start, stop) in enumerate(zip(WINDOWS[:-1], WINDOWS[1:], strict=True)):
            numbers[f"{band} {start} to {stop} d"] = shape[:, i, j]
    bright = curves.FLUXCAL > 0.5 * flux[curves.object_index]
    bright &= np.isin(curves.BAND, (2, 3)) & (curves.FLUXCAL > 3 * curves.FLUXCALERR)
    parts = np.split(days[bright], np.cumsum(np.bincount(curves.object_index[bright], minlength=len(curves)))[:-1])
    numbers["width"] = np.array([np.ptp(part) if len(part) else np.nan for part in parts])
    numbers["detections"] = np.bincount(curves.object_index, curves.detected, len(curves))
    return pd.DataFrame(numbers)


def variable_numbers(curves: LightCurves, z: np.ndarray) -> pd.DataFrame:
    "Summary numbers of variables: scatter and skewness by band, relations between bands, detections of either sign."
    n, numbers = len(curves), {}
    frame = pd.DataFrame({"obj": curves.object_index, "band": curves.BAND, "flux": curves.FLUXCAL.astype(float),
                          "variance": curves.FLUXCALERR.astype(float) ** 2, "night": np.round(curves.MJD)})  # fmt: skip
    groups = frame.groupby(["obj", "band"])["flux"]
    variance = frame.groupby(["obj", "band"])["variance"].mean()
    low, middle, high, deviation, skew, rms = (
        values.unstack().reindex(index=range(n), columns=range(6)).to_numpy() for values in
        (groups.quantile(0.03), groups.median(), groups.quantile(0.97), groups.std(), groups.skew(), np.sqrt(variance))
    )  # fmt: skip
    for i, band in enumerate(BANDS):
        numbers[f"amplitude {band}"] = np.log(np.maximum(high - low, 1e-2))[:, i]
        numbers[f"skewness {band}"] = skew[:, i]
        numbers[f"median over range {band}"] = ((middle - low) / np.maximum(high - low, 1e-3))[:, i]
        numbers[f"scatter over noise {band}"] = np.log(deviation / rms)[:, i]
    for i, j in ((1, 2), (2, 3), (3, 4)):
        numbers[f"amplitude {BANDS[i]}/{BANDS[j]}"] = numbers[f"amplitude {BANDS[i]}"] - numbers[f"amplitude {BANDS[j]}"]
        table = frame[frame["band"].isin([i, j])].pivot_table(index=["obj", "night"], columns="band", values="flux").dropna()
        correlation = table.groupby("obj").apply(lambda part, i=i, j=j: part[i].corr(part[j]) if len(part) > 4 else np.nan)
        numbers[f"correlation {BANDS[i]} {BANDS[j]}"] = correlation.reindex(range(n)).to_numpy()
    numbers["detections"] = np.bincount(curves.object_index, curves.detected, n)
    negative = np.bincount(curves.object_index, curves.detected & (curves.FLUXCAL < 0), n)
    numbers["negative detections"] = negative / np.maximum(numbers["detections"], 1)
    return pd.DataFrame(numbers)


def two_sample(real: pd.DataFrame, ours: pd.DataFrame, seed: int) -> tuple[float, list]:
    "Area under the ROC curve of real against synthetic, and the most important numbers."
    both = pd.concat([real, ours])
    both = both.loc[:, (both.notna().mean() > 0.1) & (both.nunique() > 5)]
    x = both.to_numpy(float)
    y = np.repeat([0, 1], [len(real), len(ours)])
    pair = np.concatenate([np.arange(len(real)), np.arange(len(ours))])
    score, weight = np.zeros(len(y)), np.zeros(x.shape[1])
    for train, test in GroupKFold(5, shuffle=True, random_state=seed).split(x, y, pair):
        model = HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=8, random_state=seed
        ).fit(x[train], y[train])
        score[test] = model.predict_proba(x[test])[:, 1]
        shuffled = permutation_importance(model, x[test], y[test], n_repeats=2, random_state=seed, scoring="roc_auc")
        weight += shuffled.importances_mean
    names = both.columns[np.argsort(-weight)[:5]]
    return roc_auc_score(y, score), list(names)


def pairs_of(curves, z, submodel, models, kind, rng):
    "Real objects and their synthetic partners, from the models of the real submodel in turn."
    numbers = transient_numbers if kind == "transient" else variable_numbers
    transplant = transplant_transients if kind == "transient" else transplant_variables
    real, ours = [], []
    for code, turn, name in [(code, turn, name) for code, names in models.items() for turn, name in enumerate(names)]:
        mine = np.flatnonzero(submodel == code)[turn :: len(models[code])]
        synthetic, mask = transplant(rng, MODELS[name], curves[mine], z[mine])
        partner = curves[mine[mask]]
        at_least = (np.bincount(synthetic.object_index, synthetic.detected, len(synthetic)) >= 2)
        at_least &= np.bincount(partner.object_index, partner.detected, len(partner)) >= 2
        if kind == "transient":
            at_least &= np.isfinite(brightest_visit(synthetic)[2])
        kept = np.flatnonzero(at_least)
        redshift = z[mine[mask]][kept]
        real.append(numbers(partner[kept], redshift))
        ours.append(numbers(synthetic[kept], redshift))
    return pd.concat(real, ignore_index=True), pd.concat(ours, ignore_index=True)


def half_of(snid: pd.Series) -> np.ndarray:
    "0 or 1 for each object, by a hash of its SNID."
    return np.array([hashlib.sha256(str(name).encode()).digest()[0] & 1 for name in snid])


def judge(curves, z, submodel, name, models, kind, seed):
    "One class: distances, area, and number of objects with a partner."
    rng = np.random.Generator(np.random.Philox(seed))
    real, ours = pairs_of(curves, z, submodel, models, kind, rng)
    if kind == "transient":
        rows = [*(f"peak {b}" for b in "griz"), "g-r at peak", "r-i at peak", "i-z at peak", "width", "detections"]
    else:
        rows = [*(f"amplitude {b}" for b in "gri"), "amplitude g/r", "amplitude r/i", "skewness r", "correlation g r",
                "correlation r i", "negative detections", "detections"]  # fmt: skip
    values = {row: (real[row].dropna(), ours[row].dropna()) for row in rows}
    distance = {row: round(float(ks_2samp(*both).statistic), 3) for row, both in values.items() if min(map(len, both)) > 4}
    area, why = two_sample(real, ours, seed)
    account = {"class": name, "objects": len(curves), "pairs": len(real), "auc": round(area, 3), "goal": GOALS[name]}
    return account | {"tells": why, "ks": distance}, real, ours


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet")
    parser.add_argument("metadata")
    parser.add_argument("--classes", type=int, nargs="*")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--half", type=int, choices=(0, 1), help="only objects of this half; all by default")
    parser.add_argument("--fields", choices=("all", "deep"), default="all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"
    print(json.dumps({"bench": "realism", "date": date.today().isoformat(), "machine": machine, "limit": options.limit}), flush=True)
    truth = pd.read_csv(options.metadata, index_col="object_id")
    for target, (name, models) in (TRANSIENTS | VARIABLES).items():
        if options.classes and target not in options.classes:
            continue
        curves = LightCurves.from_parquet(options.parquet)
        members = np.flatnonzero((curves.header["ELASTICC_class"] == f"PLAsTiCC-{target}").to_numpy())
        if options.half is not None:
            members = members[half_of(curves.header["SNID"].iloc[members]) == options.half]
        if options.fields == "deep":
            members = members[truth.loc[curves.header["SNID"].iloc[members].astype(int), "ddf_bool"].to_numpy() == 1]
        chosen = np.random.default_rng(options.seed).permutation(members)[: options.limit]
        curves = curves[np.sort(chosen)]
        mine = truth.loc[curves.header["SNID"].astype(int)]
        kind = "transient" if target in TRANSIENTS else "variable"
        z, submodel = mine["true_z"].to_numpy(float), mine["true_submodel"].to_numpy()
        account = judge(curves, z, submodel, name, models, kind, options.seed)[0]
        sample = "deep fields" if options.fields == "deep" else "all" if options.half is None else f"half {options.half}"
        print(json.dumps(account | {"sample": sample, "seed": options.seed}), flush=True)


if __name__ == "__main__":
    main()
