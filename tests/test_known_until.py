"""A light curve that came in an alert ends with it: answers until then are those of the whole curve, later ones count nowhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc import HierarchicalClassifier, LightCurves, Predictions
from elasticc_hc.classification.object_card import extreme_objects
from elasticc_hc.classification.prediction_sets import coverage, fit_thresholds
from elasticc_hc.evaluation.by_day import class_change_shares, confident_shares
from elasticc_hc.evaluation.by_property import scores_of_groups
from elasticc_hc.evaluation.curves import pr_curves, rankings, roc_curves
from elasticc_hc.evaluation.metrics import compute_metrics, confusions, reliability, with_known_class
from elasticc_hc.evaluation.report import evaluate
from elasticc_hc.evaluation.results import compare_runs

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "nbs/data/plasticc_sample.parquet"
REAL = ROOT.parent / "shared/data/elasticc_real/real_elasticc_labelled.parquet"
several = settings(deadline=None, max_examples=15)


@pytest.fixture(scope="module")
def curves():
    return LightCurves.from_parquet(SAMPLE)[::4]


@pytest.fixture(scope="module")
def classifier():
    return HierarchicalClassifier.load("plasticc")


def cut_at(curves, days):
    """The curves as they came in alerts, each so many days after its trigger; infinite: whole."""
    until = np.where(np.isfinite(days), curves.trigger_mjd + days, np.nan)
    cut = replace(curves, header=curves.header.assign(ALERT_MJD=until))
    return cut.select(cut.MJD <= np.repeat(cut.known_until, cut.counts))


ends = st.lists(st.one_of(st.floats(0, 300), st.sampled_from([0.0, 1.0, 8.0, np.inf])), min_size=1, max_size=6)


@several
@given(ends, st.lists(st.sampled_from([0, 0.5, 1, 2, 8, 64, 1024]), min_size=1, max_size=5), st.booleans())
def test_answers_on_reached_days_are_those_of_the_whole_curve(curves, classifier, ends, days, first_alert):
    until = np.resize(ends, len(curves))
    whole = classifier.predict(curves, days, first_alert=first_alert)
    cut = classifier.predict(cut_at(curves, until), days, first_alert=first_alert)
    np.testing.assert_array_equal(cut.SNID, whole.SNID)
    seen = until[curves.first_detection >= 0][:, None]
    expected = cut.days <= seen + 1e-6
    if first_alert:
        expected[:, 0] = True
    np.testing.assert_array_equal(cut.reached, expected)
    np.testing.assert_allclose(cut.probabilities[cut.reached], whole.probabilities[cut.reached], rtol=0, atol=2e-6)


@several
@given(ends, st.integers(0, 2**32))
def test_what_is_not_reached_counts_nowhere(curves, classifier, ends, seed):
    """Other answers there change no table, whatever they are."""
    whole = classifier.predict(curves, (1, 8, 64), first_alert=True)
    cut = replace(whole, reached=(whole.days <= np.resize(ends, len(whole))[:, None]) | (whole.days == 0))
    shuffled = whole.probabilities[np.random.default_rng(seed).permutation(len(whole))]
    other = replace(cut, probabilities=np.where(cut.reached[..., None], cut.probabilities, shuffled))
    one, two = with_known_class(cut), with_known_class(other)
    for level in ("root", "leaf"):
        np.testing.assert_array_equal(confusions(one, level), confusions(two, level))
        pd.testing.assert_frame_equal(confident_shares(one, level), confident_shares(two, level))
        pd.testing.assert_frame_equal(reliability(cut, level), reliability(other, level))
        for curve in (roc_curves, pr_curves):
            pd.testing.assert_frame_equal(*(curve(rankings(p, level, one.days[-1])) for p in (cut, other)))
    for table in (class_change_shares, extreme_objects, lambda p: scores_of_groups(p, np.zeros(p.reached.shape, int), ["all"])):
        pd.testing.assert_frame_equal(table(one), table(two))
    for table in (lambda p: compute_metrics(p, 3), lambda p: compare_runs(p, {"whole": whole}, 3)):
        pd.testing.assert_frame_equal(table(cut), table(other))
    thresholds = fit_thresholds(cut)
    for level, values in fit_thresholds(other).values.items():
        np.testing.assert_array_equal(values, thresholds.values[level])
    np.testing.assert_array_equal(*(coverage(p, p.probabilities > 0.5) for p in (cut, other)))


def test_numbers_of_objects_by_day(curves, classifier):
    until = np.where(np.arange(len(curves)) % 3 == 0, 4, np.inf)
    predictions = classifier.predict(cut_at(curves, until), (1, 8), first_alert=True)
    table = compute_metrics(predictions)
    support = table[(table.metric == "support") & (table.node == "all") & (table.level == "leaf")].set_index("day")
    assert support.value.tolist() == [len(predictions), len(predictions), predictions.reached[:, 2].sum()]
    assert support.first_alert.tolist() == [True, False, False]


def test_constructions_without_the_field_have_reached_all(curves, classifier):
    whole = classifier.predict(curves, (1, 8))
    plain = Predictions(whole.SNID, whole.days, whole.probabilities, whole.truth, whole.taxonomy)
    assert plain.reached.all() and plain.reached.shape == (len(plain), 2) and not plain.first_alert
    fewer = replace(plain, SNID=plain.SNID[:3], probabilities=plain.probabilities[:3], truth=plain.truth[:3])
    assert fewer.reached.shape == (3, 2)


def test_real_alerts(tmp_path):
    """ELAsTiCC alerts with their histories, early and late ones, and whole curves beside them."""
    if not REAL.is_file():
        pytest.skip(f"the real ELAsTiCC objects ({REAL.name} in ../shared/data/elasticc_real) are not here")
    import pyarrow.parquet as pq

    path = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(REAL).take(np.arange(0, 3743, 60)), path)
    table = evaluate("synthetic", path, tmp_path / "results", days=[1, 16, 64], draws=3, cards=2)
    predictions = Predictions.from_parquet(tmp_path / "results/predictions.parquet")
    counts = pd.read_csv(tmp_path / "results/objects_by_day.csv", index_col=0).sum()
    assert predictions.first_alert and not predictions.reached.all() and predictions.reached[:, 0].all()
    assert counts.tolist() == predictions.reached[predictions.truth >= 0].sum(0)[: len(counts)].tolist()
    assert table.groupby("day").first_alert.all().tolist() == [True, False, False, False]
    assert "Only they are scored" in (tmp_path / "results/report.html").read_text(encoding="utf-8")
