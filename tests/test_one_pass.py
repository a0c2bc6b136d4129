"""One pass over a curve says at each detection, and on each day, what cutting the raw curve there, and classifying it alone, says."""

from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.lightcurves.lightcurves import POLICIES, LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import SERIES_FEATURES, fit_preprocessing
from elasticc_hc.training.model import Architecture, build_network
from elasticc_hc.training.trees import STATE_FEATURES, TREE_SETTINGS, BoostedTrees

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data" / "elasticc2_train_01_1percent"
SAMPLE = ROOT / "nbs" / "data" / "plasticc_sample.parquet"
ENCODERS = ["lstm", "attention", "hybrid"]  # an LSTM with boosted trees


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL.is_dir():
        pytest.skip("the real ELAsTiCC 2 files (../shared/data) are not here")
    out = tmp_path_factory.mktemp("real") / "converted"
    convert(REAL, out)
    return [LightCurves.from_parquet(out / f"{model}.parquet") for model in ("KN_K17", "SNIb-Templates")]


def untrained(curves, tree, keep, encoder="lstm"):
    """A classifier with random weights, which must keep the promise as well as any other."""
    torch.manual_seed(0)
    taxonomy, preprocessing = Taxonomy.from_yaml(tree), fit_preprocessing(curves, keep=keep)
    shape = Architecture(len(SERIES_FEATURES), preprocessing.n_static, len(taxonomy.nodes), "lstm" if encoder == "hybrid" else encoder)
    trees = some_trees(len(STATE_FEATURES) + len(preprocessing.static_columns), taxonomy) if encoder == "hybrid" else None
    return HierarchicalClassifier(build_network(shape).eval(), taxonomy, preprocessing, trees=trees)


def some_trees(n_features, taxonomy):
    """Trees that have learned noise, so that every feature counts."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 10 ** rng.uniform(-1, 2, n_features), (4000, n_features)).astype(np.float32)
    data = lightgbm.Dataset(values, rng.integers(0, len(taxonomy.leaves), len(values)), params={"verbose": -1})
    booster = lightgbm.train(TREE_SETTINGS | {"num_class": len(taxonomy.leaves), "num_threads": 1}, data, num_boost_round=5)
    return BoostedTrees(booster, taxonomy.leaf_nodes, taxonomy)


def check(classifier, curves):
    """Every detection of every object, each cut and classified alone; the number of cuts."""
    story = classifier.predict_detections(curves)
    assert len(story) == curves.detected.sum()
    many = curves[np.repeat(np.arange(len(curves)), np.add.reduceat(curves.detected.astype(int), curves.offsets[:-1]))]
    cut = many.select(many.MJD <= np.repeat(story["MJD"].to_numpy(), many.counts))
    assert (cut.header["SNID"].to_numpy() == story["SNID"].to_numpy()).all()
    alone = classifier.predict(cut, days=[1e6]).probabilities[:, 0]
    np.testing.assert_allclose(alone, story[list(classifier.taxonomy.nodes)], rtol=0, atol=1e-5)
    assert np.ptp(alone[:, 1]) > 1e-3, "answers differ, so that their agreement says something"
    return len(story)


@pytest.mark.parametrize("keep", POLICIES)
@pytest.mark.parametrize("encoder", [*ENCODERS, "gru"])
def test_every_detection_of_every_real_object(real, keep, encoder):
    classifier = untrained(real[1], "elasticc2", keep, encoder)
    assert sum(check(classifier, curves) for curves in real) == 1829


@pytest.mark.parametrize("keep", POLICIES)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_detection_of_every_sample_object(keep, encoder):
    curves = LightCurves.from_parquet(SAMPLE)
    assert check(untrained(curves, "plasticc", keep, encoder), curves[::4]) > 2000


@pytest.fixture(scope="module")
def sample():
    return LightCurves.from_parquet(SAMPLE)


@pytest.fixture(scope="module")
def networks(sample):
    return {(keep, encoder): untrained(sample, "plasticc", keep, encoder) for keep in POLICIES for encoder in ENCODERS}


@pytest.mark.parametrize("keep", POLICIES)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("day", [0, 1, 8, 64, 365, 1024])
def test_the_answer_of_a_day_is_that_of_the_curve_until_then(sample, networks, keep, encoder, day):
    whole = networks[keep, encoder].predict(sample, [day]).probabilities
    cut = networks[keep, encoder].predict(sample.select(sample.days <= day), [day, 1e6]).probabilities
    np.testing.assert_allclose(np.broadcast_to(whole, cut.shape), cut, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.one_of(st.floats(0, 1200), st.sampled_from([0.0, 1.0, 8.0])), min_size=1, max_size=6),
    st.sampled_from(tuple(POLICIES)),
    st.sampled_from(ENCODERS),
    st.integers(0, 2**32),
)
def test_no_later_observation_changes_an_answer(sample, networks, days, keep, encoder, seed):
    """Each object is cut on a day of its own, or goes on in another way from there."""
    some = sample[np.random.default_rng(seed).choice(len(sample), 30, replace=False)]
    until = np.resize(days, len(some))
    known = some.days <= np.repeat(until, some.counts)
    rng = np.random.default_rng(seed)
    other = replace(
        some,
        FLUXCAL=np.where(known, some.FLUXCAL, rng.normal(0, 1e4, some.n_obs)).astype(np.float32),
        PHOTFLAG=np.where(known, some.PHOTFLAG, 4096 * rng.integers(0, 2, some.n_obs)).astype(np.int32),
    )
    asked = np.unique(days)
    of_day = np.arange(len(some)), np.searchsorted(asked, until)
    whole, cut, changed = (networks[keep, encoder].predict(c, asked).probabilities[of_day] for c in (some, some.select(known), other))
    np.testing.assert_allclose(whole, cut, rtol=0, atol=1e-5)
    np.testing.assert_allclose(whole, changed, rtol=0, atol=1e-5)


def test_answers_after_the_last_detection(sample, networks):
    """Under `alerts` the last detection speaks for ever, else what follows it is read."""
    followed = sample.counts + sample.offsets[:-1] - 1 > sample.last_detection
    assert 50 < followed.sum() < len(sample)
    for (keep, _), classifier in networks.items():
        story = classifier.predict_detections(sample).groupby("SNID", sort=False).last()[list(classifier.taxonomy.nodes)]
        change = np.abs(classifier.predict(sample, [1e6]).probabilities[:, 0] - story.to_numpy()).max(axis=1)
        assert (change[~followed] < 1e-5).all()
        assert (change < 1e-5).all() if keep == "alerts" else (change[followed] > 1e-5).all()


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["alerts", "forced"]), st.sampled_from(ENCODERS), st.integers(0, 40), st.integers(0, 2**32))
def test_night_by_night_gives_the_answers_of_the_whole_curve(sample, networks, keep, encoder, nights, seed):
    rng, classifier = np.random.default_rng(seed), networks[keep, encoder]
    some = sample[rng.choice(len(sample), 20, replace=False)]
    night = np.searchsorted(np.sort(rng.uniform(some.MJD.min(), some.MJD.max(), nights)), some.MJD)
    state, told = classifier.new_state(), []
    for number in range(nights + 1):
        part = some.select(night == number)
        told.append(classifier.update(state, part[part.counts > 0], every=keep == "forced"))
    answers, nodes = pd.concat(told), list(classifier.taxonomy.nodes)
    both = classifier.predict_detections(some).merge(answers, on=["SNID", "MJD"], suffixes=("", " streamed"))
    assert len(both) == some.detected.sum()
    np.testing.assert_allclose(both[nodes], both[[f"{node} streamed" for node in nodes]], rtol=0, atol=1e-5)
    newest = answers.groupby("SNID")[nodes].last().loc[some.header["SNID"]]
    np.testing.assert_allclose(newest, classifier.predict(some, [1e6]).probabilities[:, 0], rtol=0, atol=1e-5)


def test_the_classifier_that_comes_with_the_package():
    assert check(HierarchicalClassifier.from_pretrained("plasticc"), LightCurves.from_parquet(SAMPLE)[1::4]) > 2000


@pytest.mark.parametrize("day", [0.0, 7.0, 60.0])
def test_what_comes_later_changes_nothing(day):
    curves = LightCurves.from_parquet(SAMPLE)
    classifier = HierarchicalClassifier.from_pretrained("plasticc")
    later = curves.days > day
    rng = np.random.default_rng(1)
    spoilt = replace(
        curves,
        FLUXCAL=np.where(later, rng.normal(0, 1e5, curves.n_obs), curves.FLUXCAL).astype(np.float32),
        BAND=np.where(later, rng.integers(0, 6, curves.n_obs), curves.BAND).astype(np.int8),
        PHOTFLAG=np.where(later, 4096 * rng.integers(0, 2, curves.n_obs), curves.PHOTFLAG).astype(np.int32),
    )
    before, after = (classifier.predict(c, days=[day]).probabilities for c in (curves, spoilt))
    assert later.sum() > 10_000
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-6)
