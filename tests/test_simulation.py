"""The simulator as a whole: columns of the real files, readers, reproducibility, bad input, statistics of what comes out."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.lightcurves.lightcurves import BANDS, LightCurves
from elasticc_hc.simulation import simulator, survey
from elasticc_hc.simulation.explosions import grid_days, photosphere_of_magnitudes, scaled_to_magnitude
from elasticc_hc.simulation.population import MODELS, Model, choose_models, core_collapse_rate, objects_per_model, survey_sky
from elasticc_hc.taxonomy.taxonomy import Taxonomy

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
COLUMNS = SHARED / "elasticc_formats" / "elasticc2_train01_columns.json"
REAL = SHARED / "elasticc2_train_01_1percent"
GALACTIC = [name for name, model in MODELS.items() if model.galactic]
needs_real = pytest.mark.skipif(not COLUMNS.exists(), reason="the real files in ../shared/data are absent")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All 32 models, 20 objects each."""
    out = tmp_path_factory.mktemp("simulation") / "made"
    report = simulator.simulate(out, 20, seed=4)
    return out, report


def files(folder, model, kind):
    """Opened files of a model."""
    (path,) = (folder / f"ELASTICC2_SYNTH_{model}").glob(f"*_{kind}.FITS.gz")
    return fits.open(path)


def shapes(table):
    """Names and types of the columns of a table."""
    letter = {"D": "1D", "E": "1E", "I": "1I", "J": "1J", "K": "1K"}
    return [[column.name, letter.get(column.format, column.format)] for column in table.columns]


# --- format ---


@needs_real
@pytest.mark.parametrize("model", ["SNIb-Templates", "KN_K17", "Mdwarf-flare"])
def test_columns_are_those_of_the_real_files(made, model):
    real = json.loads(COLUMNS.read_text())
    with files(made[0], model, "HEAD") as head, files(made[0], model, "PHOT") as phot:
        assert shapes(head[1]) == real[model]
        assert shapes(phot[1]) == real["PHOT"]


@needs_real
def test_columns_of_type_ia(made):
    names = (SHARED / "elasticc_formats" / "elasticc2_train02_SNIa-SALT3_head_columns.txt").read_text().split("\n")
    with files(made[0], "SNIa-SALT3", "HEAD") as head:
        ours = head[1].columns.names
    wanted = [name for name in names if name and name not in ("file_num", "head_filename")]
    assert [name for name in ours if name in wanted] == wanted


@needs_real
@pytest.mark.parametrize("kind", ["HEAD", "PHOT"])
def test_keywords_are_those_of_the_real_files(made, kind):
    path = REAL / "ELASTICC2_TRAIN_01_1percent_SNIb-Templates" / f"ELASTICC2_TRAIN_01_1percent_NONIaMODEL0-0001_{kind}.FITS.gz"
    skip = {"COMMENT", "LONGSTRN", "CONTINUE", "KCOR_FILE", ""}
    with fits.open(path) as real, files(made[0], "SNIb-Templates", kind) as ours:
        assert [key for key in real[0].header if key not in skip] == list(ours[0].header)
        assert real[1].name == ours[1].name
        for key in ("CODE_IVERSION", "SURVEY", "PHOTFLAG_DETECT", "FILTERS", "DATATYPE", "SIM_HOSTLIB_NPAR", "SIM_HOSTLIB_PAR00"):
            assert real[0].header[key] == ours[0].header[key]


@pytest.mark.parametrize("model", MODELS)
def test_pointers_separators_and_flags(made, model):
    with files(made[0], model, "HEAD") as head, files(made[0], model, "PHOT") as phot:
        head, phot = head[1].data, phot[1].data
        assert len(head) == 20 and len(set(head["SNID"])) == 20
        assert (phot["MJD"][head["PTROBS_MAX"]] == -777).all() and (phot["MJD"] == -777).sum() == len(head)
        assert (head["PTROBS_MAX"] - head["PTROBS_MIN"] + 1 == head["NOBS"]).all()
        real = phot["MJD"] > 0
        assert np.isfinite(phot["FLUXCAL"]).all() and (phot["FLUXCALERR"][real] > 0).all()
        assert set(phot["PHOTFLAG"]) <= {0, 1024, 4096, 6144} and (phot["PHOTFLAG"] == 6144).sum() == len(head)
        for row in head:
            curve = phot[row["PTROBS_MIN"] - 1 : row["PTROBS_MAX"]]
            assert (np.diff(curve["MJD"]) >= 0).all()
            detected = np.flatnonzero(curve["PHOTFLAG"] & 4096)
            assert curve["PHOTFLAG"][detected[0]] == 6144
            assert abs(row["MJD_TRIGGER"] - curve["MJD"][detected[0]]) < 0.005


@pytest.mark.parametrize("model", MODELS)
def test_missing_values(made, model):
    with files(made[0], model, "HEAD") as opened:
        head, primary = opened[1].data, opened[0].header
        lonely = head["HOSTGAL_NMATCH"] == 0
        assert lonely.all() or not MODELS[model].galactic
        assert (head["HOSTGAL_PHOTOZ"][lonely] == -9).all() and (head["HOSTGAL_MAG_r"][lonely] == 999).all()
        assert (head["HOSTGAL_RA"][lonely] == -999).all() and (head["HOSTGAL_LOGMASS"][lonely] == -9999).all()
        assert (head["REDSHIFT_FINAL"][lonely] == -9).all()
        assert ("HOSTGAL_ZPHOT_Q050" in head.names) is not MODELS[model].galactic
        assert primary["NZPHOT_Q"] == (0 if MODELS[model].galactic else 11)
        assert ((head["SNTYPE"] % 100) == MODELS[model].gentype).all()


def test_quantiles_ascend(made):
    with files(made[0], "SNII-NMF", "HEAD") as opened:
        head = opened[1].data[opened[1].data["HOSTGAL_NMATCH"] > 0]
    quantiles = np.stack([head[f"HOSTGAL_ZPHOT_Q{q:03d}"] for q in range(0, 101, 10)], 1)
    assert (np.diff(quantiles, axis=1) >= 0).all() and np.allclose(quantiles[:, 5], head["HOSTGAL_PHOTOZ"])


# --- readers ---


def test_our_converter_reads_everything(made, tmp_path):
    out, report = made
    convert(out, tmp_path / "converted")
    curves = LightCurves.from_parquet(sorted((tmp_path / "converted").glob("*.parquet")))
    assert set(curves.header["ELASTICC_class"]) == set(MODELS) and len(curves) == 20 * 32
    assert curves.n_obs == sum(row["observations"] for row in report.values())
    assert not [name for name in curves.header if name.startswith("SIM_")]
    taxonomy = Taxonomy.from_yaml("elasticc2")
    assert len(np.unique(taxonomy.node_of(curves.header["ELASTICC_class"]))) == 19
    galactic = curves.header["ELASTICC_class"].isin(GALACTIC)
    assert curves.header.loc[galactic, "HOSTGAL_ZPHOT_Q050"].isna().all()


def test_sncosmo_reads_it(made):
    sncosmo = pytest.importorskip("sncosmo")
    (head,) = (made[0] / "ELASTICC2_SYNTH_SNIa-SALT3").glob("*HEAD.FITS.gz")
    curves = sncosmo.read_snana_fits(head, str(head).replace("HEAD", "PHOT"))
    assert len(curves) == 20 and set(np.char.strip(np.asarray(curves[0]["BAND"], str))) <= set(BANDS)


# --- what comes out ---


def test_pulls_and_detections_of_the_files(made):
    flux, measured, sigma, detected = [], [], [], []
    for model in MODELS:
        if MODELS[model].recurrent:
            continue
        with files(made[0], model, "PHOT") as opened:
            phot = opened[1].data[opened[1].data["MJD"] > 0]
        flux.append(survey.fluxcal(phot["SIM_MAGOBS"].astype(float)))
        measured.append(phot["FLUXCAL"])
        sigma.append(phot["FLUXCALERR"])
        detected.append(phot["PHOTFLAG"] & 4096 > 0)
    flux, measured, sigma, detected = map(np.concatenate, (flux, measured, sigma, detected))
    pulls = (measured - flux) / sigma
    assert abs(pulls.mean()) < 0.02 and abs(pulls.std() - 1) < 0.01
    snr = flux / sigma
    for low, high in ((4, 5), (5, 6.5), (6.5, 9)):
        inside = (snr > low) & (snr < high)
        expected = survey.detection_probability(snr[inside]).mean()
        assert abs(detected[inside].mean() - expected) < 4 * np.sqrt(0.25 / inside.sum())


@needs_real
def test_efficiency_matches_the_real_files():
    snr, found = [], []
    for path in sorted(REAL.glob("*/*PHOT.FITS.gz")):
        with fits.open(path) as opened:
            phot = opened[1].data
        if phot is None or not len(phot):
            continue
        phot = phot[phot["MJD"] > 0]
        snr.append(survey.fluxcal(phot["SIM_MAGOBS"].astype(float)) / phot["FLUXCALERR"])
        found.append(phot["PHOTFLAG"] & 4096 > 0)
    snr, found = np.concatenate(snr), np.concatenate(found)
    for low, high in ((1, 3), (3, 4), (4, 5), (5, 6), (6, 8), (8, 50)):
        inside = (snr > low) & (snr < high)
        assert abs(found[inside].mean() - survey.detection_probability(snr[inside]).mean()) < 0.05


def population(head, counts):
    """What the truth says of a model: redshift, peak magnitudes, apparent and absolute, and the number of visits."""
    absolute = {f"M {band}": head[f"SIM_PEAKMAG_{band}"] - head["SIM_DLMU"] for band in "gri"}
    return {"z": head["SIM_REDSHIFT_CMB"], "i": head["SIM_PEAKMAG_i"], "visits": counts, **absolute}


@needs_real
@pytest.mark.parametrize("model, chunks, limit", [("SNIb-Templates", 12, 0.25), ("KN_K17", 40, 0.35)])
def test_population_of_a_real_model(model, chunks, limit):
    """Type Ib from templates and kilonovae: as in the real files, by Kolmogorov-Smirnov distances (of kilonovae there are 47)."""
    from scipy.stats import ks_2samp

    heads = [fits.getdata(path, 1) for path in sorted((REAL / f"ELASTICC2_TRAIN_01_1percent_{model}").glob("*HEAD.FITS.gz"))]
    real = [population(head, head["NOBS"]) for head in heads if head is not None and len(head)]
    parts = [simulator.simulate_chunk(MODELS[model], survey_sky(), number) for number in range(chunks)]
    ours = [population(part.head, part.counts) for part in parts]
    distance = {name: ks_2samp(*(np.concatenate([part[name] for part in side]) for side in (real, ours))).statistic for name in ours[0]}
    assert max(distance.values()) < limit, distance


# --- reproducible, and clean after failure ---


def contents(folder):
    """File names with their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.gz"))}


def test_same_seed_same_bytes_for_any_number_of_jobs(tmp_path):
    models = ["SNIax", "RRL", "CLAGN", "KN_K17"]
    for name, options in {"one": {}, "two": {"jobs": 2}, "other": {"seed": 1}}.items():
        simulator.simulate(tmp_path / name, 6, models=models, **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    different = contents(tmp_path / "other")
    assert all(different[name] != data for name, data in contents(tmp_path / "one").items())


def test_no_time_stamp(made):
    path = next(made[0].rglob("*HEAD.FITS.gz"))
    assert path.read_bytes()[4:8] == bytes(4) and gzip.decompress(path.read_bytes())[:6] == b"SIMPLE"


@pytest.mark.parametrize(
    "options, said",
    [
        ({"per_model": 0}, "0 objects per model"),
        ({"per_model": -3}, "-3 objects per model"),
        ({"per_model": 1, "models": ["SN1987A"]}, "SN1987A"),
        ({"per_model": 1, "survey": "ztf"}, "ztf"),
        ({"per_model": 1, "balance": "fair"}, "fair"),
        ({"per_model": 1, "agn": "realistic"}, "realistic"),
        ({"per_model": 1, "jobs": 0}, "0 jobs"),
    ],
)
def test_bad_input(tmp_path, options, said):
    with pytest.raises(ValueError, match=said) as failure:
        simulator.simulate(tmp_path / "out", **options)
    assert "\n" not in str(failure.value) and not list(tmp_path.iterdir())


def test_existing_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="out exists"):
        simulator.simulate(tmp_path / "out", 1)
    simulator.simulate(tmp_path / "out", 1, models=["RRL"], overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ELASTICC2_SYNTH_RRL"]


def test_a_disk_that_fills(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("elasticc_hc.simulation.snana_files.write_gzip", full)
    with pytest.raises(OSError, match="No space left"):
        simulator.simulate(tmp_path / "out", 1, models=["RRL"])
    assert not list(tmp_path.iterdir())


def test_deep_fields_have_more_visits(tmp_path):
    counts = {}
    for area in ("wfd", "ddf"):
        simulator.simulate(tmp_path / area, 10, models=["EB"], survey=area)
        with files(tmp_path / area, "EB", "HEAD") as head:
            counts[area] = np.median(head[1].data["NOBS"])
    assert counts["ddf"] > 1.7 * counts["wfd"]


def test_one_function_and_one_row_make_another_model(tmp_path, monkeypatch):
    def red_nova(rng, n):
        days = grid_days(np.full(n, 4.0))
        sphere = photosphere_of_magnitudes(0.02 * days, np.full_like(days, np.log(3500.0)), np.full(n, 4.0), "hydrogen")
        return scaled_to_magnitude(sphere, rng.normal(-13, 1, n))

    monkeypatch.setitem(MODELS, "LRN", Model("LRN", 48, red_nova, 1, (0.001, 0.05), core_collapse_rate, "exponential"))
    assert simulator.simulate(tmp_path / "out", 5, models=["LRN"])["LRN"]["objects"] == 5
    with files(tmp_path / "out", "LRN", "HEAD") as head:
        near = head[1].data["SIM_REDSHIFT_CMB"] < 0.054  # 0.05, and peculiar velocities
        assert near.all() and (head[1].data["SIM_TYPE_INDEX"] == 48).all()


def test_natural_balance(tmp_path):
    report = simulator.simulate(tmp_path / "out", 20, models=["SNIa-SALT3", "KN_B19"], balance="natural")
    assert report["SNIa-SALT3"]["objects"] > 30 and report["KN_B19"]["objects"] == 1


def test_balance_by_leaf(tmp_path):
    report = simulator.simulate(tmp_path / "out", 3, models=["TDE", "KN_K17", "KN_B19"], balance="leaf")
    assert {name: row["objects"] for name, row in report.items()} == {"TDE": 4, "KN_K17": 3, "KN_B19": 2}


@settings(deadline=None, max_examples=100)
@given(st.sets(st.sampled_from(sorted(MODELS)), min_size=1), st.integers(1, 2000))
def test_objects_per_leaf(names, per_model):
    """Leaves differ by one object at most, and so do the models of a leaf; the sum is that of the balance `equal`."""
    models = choose_models(sorted(names))
    numbers = np.array(objects_per_model(models, per_model, "leaf"))
    leaf = Taxonomy.from_yaml("elasticc2").node_of([model.name for model in models])
    totals = [numbers[leaf == node].sum() for node in np.unique(leaf)]
    assert all(np.ptp(numbers[leaf == node]) <= 1 for node in leaf) and numbers.min() >= 1
    if per_model >= 6:
        assert np.ptp(totals) <= 1 and sum(totals) == per_model * len(models)


def test_command_line(tmp_path):
    command = [sys.executable, "-c", "from elasticc_hc.cli import main; main()", "simulate"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*options):
        return subprocess.run([*command, *map(str, options)], env=env, capture_output=True, text=True, timeout=120)

    done = run(tmp_path / "out", "--per-model", 3, "--models", "TDE", "--models", "EB", "--seed", 2)
    assert done.returncode == 0 and "6 objects" in done.stdout, done.stderr
    again = run(tmp_path / "out", "--per-model", 3)
    assert again.returncode == 1 and len(again.stderr.strip().split("\n")) == 1 and "exists" in again.stderr
    assert run(tmp_path / "new", "--per-model", 3, "--models", "SN1987A").returncode == 1
    assert run(tmp_path / "new").returncode == 2 and not (tmp_path / "new").exists()
