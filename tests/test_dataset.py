"""Batches hold what the curves hold: padding is zero, days lead to the right answer, windows are beginnings of curves."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.augmentation.augmentation import windows_by_days, windows_by_fraction, windows_by_random_day, windows_by_random_detection
from elasticc_hc.lightcurves.lightcurves import BANDS, DETECTED, POLICIES, SATURATED, LightCurves, answering, process
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import DAYS, LightCurveDataset, batch_loader, fit_preprocessing, positions_at_days, scaling_knots

STATIC = ("MWEBV", "HOSTGAL_PHOTOZ", "HOSTGAL_MAG_r")
MODELS = ("SNIa-SALT3", "KN_K17", "TDE", "CLAGN", "EB")
TAXONOMY = Taxonomy.from_yaml("elasticc2")


def ragged(counts, rng):
    """Curves of these lengths with detections in most of them, ties in time, and headers with missing values."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n, n_obs = len(counts), int(offsets[-1])
    header = pd.DataFrame({
        "SNID": [str(100 + i) for i in range(n)],
        "ELASTICC_class": rng.choice(MODELS, n),
        "MWEBV": rng.uniform(0, 0.5, n),
        "HOSTGAL_PHOTOZ": np.where(rng.uniform(size=n) < 0.4, -9.0, rng.uniform(0.01, 2, n)),
        "HOSTGAL_MAG_r": np.where(rng.uniform(size=n) < 0.4, 999.0, rng.uniform(18, 27, n)),
    })  # fmt: skip
    times = rng.choice([0, 0.01, 1, 2, 4, 30, 900], n_obs) * rng.integers(1, 4, n_obs)
    return LightCurves(
        header,
        offsets,
        60000 + times[np.lexsort((times, np.repeat(np.arange(n), counts)))],
        rng.integers(0, 6, n_obs).astype(np.int8),
        rng.choice([0, 0, 0, DETECTED, SATURATED], n_obs).astype(np.int32),
        rng.normal(0, 10.0 ** rng.integers(0, 6, n_obs), n_obs).astype(np.float32),
        rng.uniform(1, 50, n_obs).astype(np.float32),
    )


@st.composite
def curves(draw):
    """One to twelve curves, at least one with a detection."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = draw(st.lists(st.integers(0, 30), min_size=0, max_size=11))
    made = ragged([*counts, 5], rng)
    made.PHOTFLAG[-3] = DETECTED
    return made


def by_hand(curves, i, length=None):
    """The series (T, 10) of one processed object, one number at a time."""
    rows = list(range(curves.offsets[i], curves.offsets[i + 1]))
    trigger = next(curves.MJD[row] for row in rows if curves.PHOTFLAG[row] & 4096)
    series = []
    for row in rows[:length]:
        one_hot = [float(curves.BAND[row] == band) for band in range(len(BANDS))]
        flux, error = float(curves.FLUXCAL[row]), float(curves.FLUXCALERR[row])
        seen = float(bool(curves.PHOTFLAG[row] & 4096))
        series.append([(curves.MJD[row] - trigger) / 100, seen, np.arcsinh(flux / 10), np.arcsinh(error / 10), *one_hot])
    return np.array(series, dtype=np.float64).reshape(-1, 10)


def with_detection(curves, keep="alerts"):
    """The processed curves that have a detection, by asking each one."""
    processed = process(curves, keep)
    return processed[[i for i in range(len(processed)) if processed[i].detected.any()]]


def make(curves, windows=None, keep="alerts"):
    """A data set scaled on its own curves."""
    return LightCurveDataset(curves, fit_preprocessing(curves, STATIC, keep), TAXONOMY, windows)


# --- items and batches ---


@settings(deadline=None, max_examples=60)
@given(curves(), st.sampled_from(tuple(POLICIES)))
def test_items_are_what_the_curves_say(curves, keep):
    dataset, wanted = make(curves, keep=keep), with_detection(curves, keep)
    assert len(dataset) == len(wanted) and dataset.n_skipped == len(curves) - len(wanted)
    for i in range(len(wanted)):
        series, static, leaf = dataset[i]
        assert series.dtype == static.dtype == torch.float32
        np.testing.assert_allclose(series, by_hand(wanted, i), rtol=2e-6, atol=1e-6)
        assert TAXONOMY.nodes[leaf] == TAXONOMY.nodes[TAXONOMY.node_of([wanted.header["ELASTICC_class"].iloc[i]])[0]]
        row = wanted.header.iloc[i]
        missing = [False, row["HOSTGAL_PHOTOZ"] == -9, row["HOSTGAL_MAG_r"] == 999]
        assert static[3:].tolist() == missing and (static[:3][torch.tensor(missing)] == 0).all()


@settings(deadline=None, max_examples=60)
@given(curves(), st.integers(1, 7), st.sampled_from([None, 0, 3]), st.integers(0, 5), st.sampled_from(tuple(POLICIES)))
def test_batches_are_the_items_padded_with_zeros(curves, size, seed, epoch, keep):
    dataset, seen = make(curves, keep=keep), []
    answers = torch.from_numpy(answering(dataset.curves, keep))
    for batch in batch_loader(dataset, size, seed, epoch):
        assert len(batch.item) <= size and batch.series.shape[:2] == batch.detected.shape == (len(batch.item), batch.length.max())
        for row, item in enumerate(batch.item.tolist()):
            series, static, leaf = dataset[item]
            length = int(batch.length[row])
            assert length == len(series)
            assert torch.equal(batch.series[row, :length], series) and not batch.series[row, length:].any()
            assert torch.equal(batch.detected[row, :length], series[:, 1] > 0) and not batch.detected[row, length:].any()
            assert torch.equal(batch.answers[row, :length], answers[dataset.start[item] :][:length])
            assert not batch.answers[row, length:].any()
            assert torch.equal(batch.static[row], static) and batch.leaf[row] == leaf
        seen += batch.item.tolist()
    assert sorted(seen) == list(range(len(dataset))), "every item once"
    again = [batch.item.tolist() for batch in batch_loader(dataset, size, seed, epoch)]
    assert again == [batch.item.tolist() for batch in batch_loader(dataset, size, seed, epoch)], "reproducible"


def test_objects_without_labels_have_no_leaf():
    labelled = ragged([20] * 8, np.random.default_rng(0))
    curves = replace(labelled, header=labelled.header.drop(columns="ELASTICC_class"))
    dataset = LightCurveDataset(curves, fit_preprocessing(curves, STATIC))
    assert len(dataset) and (dataset.leaf == -1).all()
    with pytest.raises(ValueError, match="no column ELASTICC_class"):
        make(curves)


def test_epochs_differ_and_batches_are_of_similar_length():
    dataset = make(ragged(np.random.default_rng(0).integers(5, 200, 600), np.random.default_rng(1)))
    first, second = (torch.cat([b.item for b in batch_loader(dataset, 32, seed=0, epoch=e)]).tolist() for e in (0, 1))
    assert first != second and sorted(first) == sorted(second)
    padded = sum(batch.detected.numel() for batch in batch_loader(dataset, 32, seed=0))
    assert padded < 1.15 * int(dataset.length.sum())


def test_the_scaling_is_that_of_the_training_set():
    curves = ragged([5] * 400, np.random.default_rng(0))
    preprocessing = fit_preprocessing(curves, STATIC)
    z = curves.header["HOSTGAL_PHOTOZ"]
    known = z[z != -9]
    assert preprocessing.knots[1][0] == pytest.approx(known.min()) and preprocessing.knots[1][-1] == pytest.approx(known.max())
    other = ragged([5] * 10, np.random.default_rng(1))
    static = LightCurveDataset(other, preprocessing).static
    kept = with_detection(other).header["MWEBV"]
    np.testing.assert_allclose(static[:, 0], np.interp(kept, preprocessing.knots[0], preprocessing.levels[0]), rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(np.nan), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_scaling_keeps_the_order_and_stays_small(values):
    knots, levels = scaling_knots(np.array(values))
    assert (np.diff(knots) > 0).all() and (np.diff(levels) > 0).all() and np.abs(levels).max() < 4
    scaled = np.interp(np.sort(values), knots, levels)
    assert (np.diff(scaled[np.isfinite(scaled)]) >= -1e-12).all()


# --- days ---


@settings(deadline=None, max_examples=60)
@given(
    curves(),
    st.lists(st.sampled_from([0, 0.005, 0.01, 1, 3, 30, 512, 1024, 1e6]), min_size=1, max_size=5),
    st.sampled_from(tuple(POLICIES)),
)
def test_the_state_of_a_day_is_at_the_last_answer_by_then(curves, days, keep):
    dataset, wanted = make(curves, keep=keep), with_detection(curves, keep)
    positions, days = positions_at_days(dataset, days), sorted(set(days))
    assert positions.shape == (len(wanted), len(days))
    for i in range(len(wanted)):
        start, stop = wanted.offsets[i], wanted.offsets[i + 1]
        seen = [row for row in range(start, stop) if wanted.PHOTFLAG[row] & 4096]
        for j, day in enumerate(days):
            answers = seen if keep == "alerts" else range(seen[0], stop)
            by_then = [row for row in answers if wanted.MJD[row] - wanted.MJD[seen[0]] <= day]
            assert positions[i, j] == by_then[-1] - start


@pytest.mark.parametrize("days", [[], [-1], [1, -0.5]])
def test_days_that_make_no_sense(days):
    with pytest.raises(ValueError, match="days since trigger"):
        positions_at_days(make(ragged([5] * 9, np.random.default_rng(0))), days)


# --- windows ---

TRANSFORMS = {
    "days": lambda rng, keep="alerts": partial(windows_by_days, days=DAYS, keep=keep),
    "random day": lambda rng, keep="alerts": partial(windows_by_random_day, rng=rng, keep=keep),
    "fraction": lambda rng, keep="alerts": partial(windows_by_fraction, rng=rng, keep=keep),
    "random detection": lambda rng, keep="alerts": partial(windows_by_random_detection, rng=rng, per_object=3),
}
PER_OBJECT = {"days": len(DAYS), "random day": 1, "fraction": 1, "random detection": 3}


@settings(deadline=None, max_examples=60)
@given(curves(), st.sampled_from(tuple(TRANSFORMS)), st.sampled_from(tuple(POLICIES)), st.integers(0, 2**32))
def test_windows_are_beginnings_that_end_at_an_answer(curves, name, keep, seed):
    wanted = with_detection(curves, keep)
    answers = answering(wanted, keep)
    dataset = make(curves, TRANSFORMS[name](np.random.default_rng(seed), keep), keep)
    assert len(dataset) == PER_OBJECT[name] * len(wanted), "every object has its windows"
    assert len(dataset.static) == len(wanted), "windows share the static features"
    for item in range(len(dataset)):
        owner, length = int(dataset.owner[item]), int(dataset.length[item])
        series, static, leaf = dataset[item]
        full = by_hand(wanted, owner)
        assert 1 <= length == len(series) <= len(full) and answers[wanted.offsets[owner] + length - 1]
        assert series[-1, 1] == 1 or (keep != "alerts" and name != "random detection")
        np.testing.assert_allclose(series, full[:length], rtol=2e-6, atol=1e-6)
        assert torch.equal(static, dataset.static[owner]) and leaf == dataset.leaf[owner]


@settings(deadline=None, max_examples=40)
@given(curves(), st.integers(0, 2**32))
def test_cutting_the_raw_curve_gives_the_same_window(curves, seed):
    """A window of the processed curve is the processed curve of the raw one cut by that day."""
    day = np.random.default_rng(seed).choice([0, 0.01, 1, 2, 8, 60, 900])
    usable = curves.select((curves.PHOTFLAG & SATURATED) == 0)
    early = process(usable.select(usable.days <= day))
    early = early[early.first_detection >= 0]
    window = windows_by_days(with_detection(curves), [day]).cut()
    for name in ("offsets", "MJD", "FLUXCAL"):
        np.testing.assert_array_equal(getattr(early, name), getattr(window, name))


def test_the_same_seed_draws_the_same_windows():
    curves = with_detection(ragged([40] * 50, np.random.default_rng(0)))
    for name, transform in TRANSFORMS.items():
        first, second, third = (transform(np.random.default_rng(seed))(curves).length for seed in (0, 0, 1))
        assert np.array_equal(first, second) and (name == "days" or not np.array_equal(first, third))
