"""The p-value of belonging to the class tree: uniform for known objects, small for artefacts, causal, stored with the checkpoint."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.outliers import (
    CALIBRATION_EDGES,
    DAY_EDGES,
    OUTLIERS_FILE,
    P_VALUES,
    FeatureRows,
    calibrate_scores,
    calibration_cell,
    fit_densities,
    fit_outliers,
    load_outliers,
    save_outliers,
)
from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.classification.runs import LEAST_HELD_OUT, concatenate_predictions, train
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.simulation.artefacts import ARTEFACT_KINDS, simulate_artefacts
from elasticc_hc.simulation.training_objects import SimulatedObjects
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.options import DEFAULT, update_options

DAYS = (1, 8, 64)
SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


@pytest.fixture(scope="module")
def classifier():
    return HierarchicalClassifier.from_pretrained("synthetic")


@pytest.fixture(scope="module")
def known(classifier):
    """New simulated objects, 20 of each leaf."""
    with SimulatedObjects(classifier.taxonomy, 20, seed=401, survey="wfd").producer() as producer:
        return producer.objects(0)


@pytest.fixture(scope="module")
def artefacts():
    return simulate_artefacts(40, seed=402)


def invented(rng, n, away=0.0):
    """Features of objects with one row each: two leaves at distance 6, and, with `away`, rows off both."""
    label = rng.integers(2, size=n)
    features = rng.standard_normal((n, 5)) + 6 * label[:, None] * np.eye(5)[0] + away * np.eye(5)[1]
    return FeatureRows(features, rng.integers(1, 300, n), rng.uniform(0, 900, n), label)


# --- the statistic ---


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_known_objects_have_uniform_p_values_and_others_small_ones(seed):
    rng = np.random.default_rng(seed)
    model = fit_densities(invented(rng, 2000), invented(rng, 300, away=9.0))
    held_out = invented(rng, 6000)
    model = calibrate_scores(model, replace(held_out, label=np.arange(6000)))
    fresh, strange = invented(rng, 4000), invented(rng, 500, away=9.0)
    p = model.p_values(fresh.features, fresh.detections, fresh.days)
    assert p.dtype == np.float32 and p.min() > 0 and p.max() <= 1
    for level in (0.05, 0.2, 0.5, 0.9):
        assert abs((p <= level).mean() - level) < 0.035
    assert np.median(model.p_values(strange.features, strange.detections, strange.days)) < 0.02


def test_p_values_fall_as_the_score_rises():
    rng = np.random.default_rng(1)
    model = fit_densities(invented(rng, 800), invented(rng, 100, away=9.0))
    model = calibrate_scores(model, replace(invented(rng, 900), label=np.arange(900)))
    assert (np.diff(model.scores, axis=1) < 0).all() and (np.diff(P_VALUES) > 0).all()
    rows = replace(invented(rng, 300, away=2.0), detections=np.full(300, 5), days=np.full(300, 20.0))
    order = np.argsort(model.score(model.components(rows.features), rows.detections))
    assert (np.diff(model.p_values(rows.features, rows.detections, rows.days)[order]) <= 1e-7).all()


def test_every_phase_has_a_cell_and_few_objects_borrow_from_their_neighbours():
    days, counts = [0.0, *DAY_EDGES], [1, *CALIBRATION_EDGES]
    cells = calibration_cell(np.repeat(counts, len(days)), np.tile(days, len(counts)))
    assert sorted(cells) == list(range((len(CALIBRATION_EDGES) + 1) * (len(DAY_EDGES) + 1)))
    rng = np.random.default_rng(2)
    model = fit_densities(invented(rng, 500), invented(rng, 100, away=9.0))
    early = replace(invented(rng, 60), detections=np.full(60, 2), days=np.full(60, 3.0), label=np.arange(60))
    model = calibrate_scores(model, early)
    assert (model.sizes == 60).all() and np.allclose(model.scores, model.scores[0])
    with pytest.raises(ValueError, match="19 objects to calibrate p-values with: 20 at least"):
        calibrate_scores(model, early.keep(np.arange(60) < 19))


# --- the packaged classifier ---


def test_false_alarms_and_artefacts(classifier, known, artefacts):
    found, strange = classifier.predict(known, DAYS).outlier, classifier.predict(artefacts, DAYS).outlier
    assert found.shape == (len(known), len(DAYS)) and found.dtype == np.float32
    assert ((found <= 0.05).mean(axis=0) < 0.1).all() and (abs(np.median(found, axis=0) - 0.5) < 0.15).all()
    for k, (day, least) in enumerate(zip(DAYS, (0.8, 0.87, 0.92), strict=True)):
        since = np.add.reduceat(artefacts.detected & (artefacts.days <= day), artefacts.offsets[:-1], dtype=int)
        seen = strange[since > 1, k]
        truth = np.repeat([0, 1], [len(found), len(seen)])
        assert roc_auc_score(truth, -np.concatenate([found[:, k], seen])) > least, DAYS[k]


def test_plasticc_has_p_values_too(artefacts):
    sample = LightCurves.from_parquet(SAMPLE)
    found = HierarchicalClassifier.from_pretrained("plasticc").predict(sample[:300], DAYS).outlier
    assert np.isfinite(found).all() and abs(np.median(found[:, 2]) - 0.5) < 0.15


def test_nothing_later_matters(classifier, known):
    some = known[:60]
    day = 8.0
    later = some.days > day
    changed = replace(some, FLUXCAL=np.where(later, 1e4, some.FLUXCAL).astype(np.float32))
    whole, other = (classifier.predict(curves, (day,)).outlier for curves in (some, changed))
    assert np.array_equal(whole, other)
    cut = some.select(~later)
    assert np.allclose(classifier.predict(cut, (day,)).outlier, whole, atol=1e-4)


def test_every_way_to_predict_gives_the_same(classifier, known):
    some = known[:40].select(np.arange(known[:40].n_obs) <= np.repeat(known[:40].last_detection, known[:40].counts))
    by_detection = classifier.predict_detections(some)
    last = by_detection.groupby("SNID", sort=False)["outlier"].last().to_numpy()
    first = by_detection.groupby("SNID", sort=False)["outlier"].first().to_numpy()
    predictions = classifier.predict(some, (4096,), first_alert=True)
    assert np.allclose(predictions.outlier[:, 1], last, atol=1e-4)
    alone = classifier.predict(some.select(np.arange(some.n_obs) == np.repeat(some.first_detection, some.counts)), (0.5,))
    assert np.allclose(predictions.outlier[:, 0], alone.outlier[:, 0], atol=1e-4) and len(first) == len(some)
    assert np.array_equal(classifier.predict(some, DAYS, prior="uniform").outlier, classifier.predict(some, DAYS).outlier)


def test_one_object_with_one_detection(classifier, known):
    one = known[:1].select(np.arange(known[:1].n_obs) == known[:1].first_detection[0])
    alone = classifier.predict_detections(one)
    assert len(alone) == 1 and np.allclose(alone["outlier"], classifier.predict(one, (1,)).outlier[:, 0], atol=1e-4)
    assert classifier.predict(known[:0], DAYS).outlier.shape == (0, 3) and "outlier" in classifier.predict_detections(known[:0])


# --- predictions carry it ---


def test_predictions_carry_the_p_values(classifier, known, tmp_path):
    whole = classifier.predict(known[:30], DAYS)
    assert np.array_equal(whole[3:9].outlier, whole.outlier[3:9])
    assert np.array_equal(whole.select_days([0, 2]).outlier, whole.outlier[:, [0, 2]])
    assert np.array_equal(concatenate_predictions([whole[:10], whole[10:]]).outlier, whole.outlier)
    assert concatenate_predictions([whole[:10], replace(whole[10:], outlier=None)]).outlier is None
    turned = replace(whole, days=whole.days[::-1], probabilities=whole.probabilities[:, ::-1], outlier=whole.outlier[:, ::-1])
    assert np.array_equal(turned.outlier, whole.outlier) and np.array_equal(turned.days, whole.days)
    whole.to_parquet(tmp_path / "new.parquet")
    assert np.array_equal(Predictions.from_parquet(tmp_path / "new.parquet").outlier, whole.outlier)
    pq.write_table(pq.read_table(tmp_path / "new.parquet").drop_columns(["outlier"]), tmp_path / "old.parquet")
    old = Predictions.from_parquet(tmp_path / "old.parquet")
    assert old.outlier is None and np.array_equal(old.probabilities, whole.probabilities) and old[:2].select_days([0]).outlier is None
    with pytest.raises(ValueError, match=r"outlier of shape \(29, 3\)"):
        replace(whole, outlier=whole.outlier[1:])


# --- the file ---


@pytest.fixture
def folder(tmp_path):
    """A copy of the packaged checkpoint."""
    return shutil.copytree(HierarchicalClassifier.pretrained_path("synthetic"), tmp_path / "run")


def test_a_checkpoint_without_the_file_has_none(folder, known):
    (folder / OUTLIERS_FILE).unlink()
    bare = HierarchicalClassifier.load(folder)
    assert bare.outliers is None and bare.predict(known[:5]).outlier is None
    assert "outlier" not in bare.predict_detections(known[:5])


def test_it_is_stored_and_small_and_refused_where_it_does_not_belong(folder, classifier, known):
    for name in ("synthetic", "plasticc"):
        assert (HierarchicalClassifier.pretrained_path(name) / OUTLIERS_FILE).stat().st_size < 300_000
    save_outliers(classifier.outliers, folder)
    again = HierarchicalClassifier.load(folder)
    assert np.array_equal(again.predict(known[:20]).outlier, classifier.predict(known[:20]).outlier)
    content = (folder / OUTLIERS_FILE).read_bytes()
    (folder / OUTLIERS_FILE).write_bytes(content[:-100])
    with pytest.raises(ValueError, match="outliers.safetensors: not a model of outliers"):
        load_outliers(folder)
    (folder / OUTLIERS_FILE).write_bytes(content)
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b" ")
    with pytest.raises(ValueError, match="other weights than those of this checkpoint"):
        load_outliers(folder)


def test_same_objects_same_model_and_too_few_are_refused(classifier, known, artefacts):
    one, two = (fit_outliers(classifier, known, artefacts=artefacts) for _ in range(2))
    assert np.array_equal(one.scores, two.scores) and np.array_equal(one.projection, two.projection)
    with pytest.raises(ValueError, match="objects with a known class for densities or p-values: 20 at least"):
        fit_outliers(classifier, known[:10], artefacts=artefacts)


def test_training_stores_it(known, tmp_path):
    options = update_options(DEFAULT, {"hidden": 8, "layers": 1, "epochs": 1})
    trained = train(known[::3], tmp_path / "run", options=options, simulate=1)
    assert trained.outliers is not None and (tmp_path / "run" / OUTLIERS_FILE).is_file()
    assert HierarchicalClassifier.load(tmp_path / "run").predict(known[:5], DAYS).outlier.shape == (5, 3)
    assert len(known[::4]) < LEAST_HELD_OUT <= len(known[::3])
    few = train(known[::4], tmp_path / "few", options=options, simulate=1)
    assert few.outliers is None and not (tmp_path / "few" / OUTLIERS_FILE).exists()


# --- artefacts ---


def test_artefacts_are_seeded_and_outside_every_tree(artefacts):
    again, other = simulate_artefacts(40, seed=402), simulate_artefacts(40, seed=403)
    assert np.array_equal(again.FLUXCAL, artefacts.FLUXCAL) and again.n_obs != other.n_obs
    kinds = artefacts.header["ELASTICC_class"].value_counts()
    assert dict(kinds) == dict.fromkeys(ARTEFACT_KINDS, 40) and artefacts.header["SNID"].is_unique
    for name in ("elasticc2", "plasticc", "desc"):
        for kind in ARTEFACT_KINDS:
            with pytest.raises(ValueError, match=kind):
                Taxonomy.from_yaml(name).node_of([kind])
    assert not [name for name in artefacts.header if name.startswith("SIM_")]


def test_one_kind_and_wrong_names():
    trails = simulate_artefacts(5, seed=1, kinds=["satellite trail"])
    assert set(trails.header["ELASTICC_class"]) == {"satellite trail"}
    brightest = pd.Series(trails.FLUXCAL).groupby(trails.object_index).max()
    assert (brightest > 200).all() and (np.add.reduceat(trails.detected, trails.offsets[:-1]) < 4).all()
    for wrong in ({"kinds": ["ghost"]}, {"per_kind": 0}, {"survey": "deep"}):
        with pytest.raises(ValueError, match=r"ghost|artefacts 0|deep"):
            simulate_artefacts(**{"per_kind": 3} | wrong)
