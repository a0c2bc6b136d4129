"""Light curves as alerts carry them: no detection is lost, nothing is invented, and patterns of metadata hide what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataset import curves

from elasticc_hc.augmentation.augmentation import METADATA_PATTERNS, as_alert_history, draw_hidden, hidden_columns, hide_statics
from elasticc_hc.lightcurves.lightcurves import keep_unsaturated, process
from elasticc_hc.lightcurves.statics import STATIC_COLUMNS

SEEDS, SHARES = st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0])


def observations(curves, i):
    """The observations of one object as a list of tuples."""
    rows = slice(curves.offsets[i], curves.offsets[i + 1])
    columns = (curves.MJD, curves.BAND, curves.PHOTFLAG, curves.FLUXCAL, curves.FLUXCALERR)
    return list(zip(*(column[rows].tolist() for column in columns), strict=True))


@settings(deadline=None)
@given(curves(), SEEDS, SHARES)
def test_all_detections_stay_and_nothing_is_invented(made, seed, share):
    history = as_alert_history(made, np.random.default_rng(seed), share)
    whole = made.select(keep_unsaturated(made))
    assert len(history) == len(whole) and list(history.header["SNID"]) == list(whole.header["SNID"])
    assert np.array_equal(history.trigger_mjd, whole.trigger_mjd, equal_nan=True)
    for i in range(len(whole)):
        mine, theirs = observations(history, i), observations(whole, i)
        assert all(mine.count(one) <= theirs.count(one) for one in mine)
        assert [one for one in mine if one[2] & 4096] == [one for one in theirs if one[2] & 4096]
        assert mine == sorted(mine, key=lambda one: one[0])
    again = as_alert_history(made, np.random.default_rng(seed), share)
    assert np.array_equal(history.MJD, again.MJD) and np.array_equal(history.offsets, again.offsets)


@settings(deadline=None)
@given(curves(), SEEDS)
def test_a_first_alert_is_one_observation(made, seed):
    history = process(as_alert_history(made, np.random.default_rng(seed), 1.0))
    known = history.counts > 0
    assert (history.days[~history.detected] > 0.5).all()
    assert history.detected[history.offsets[:-1][known]].all(), "the trigger comes first"


@settings(deadline=None)
@given(curves(), SEEDS)
def test_forced_photometry_begins_thirty_days_before(made, seed):
    history, whole = as_alert_history(made, np.random.default_rng(seed), 0.0), made.select(keep_unsaturated(made))
    assert history.n_obs == int((whole.days >= -30).sum())


@settings(deadline=None)
@given(curves(), SEEDS, SHARES)
def test_an_ended_history_is_a_beginning_of_the_whole_one(made, seed, share):
    ended = as_alert_history(made, np.random.default_rng(seed), share, ended=True)
    assert len(ended) == int((process(made).first_detection >= 0).sum())
    ends = ended.offsets[1:] - 1
    assert ended.detected[ends].all() and np.array_equal(ended.MJD[ends], ended.header["ALERT_MJD"])
    alone, forced = (as_alert_history(made, np.random.default_rng(0), chance) for chance in (1.0, 0.0))
    place = {snid: i for i, snid in enumerate(made.header["SNID"])}
    for i, snid in enumerate(ended.header["SNID"]):
        mine, n = observations(ended, i), ended.counts[i]
        options = [observations(history, place[snid])[:n] for history in (alone, forced)]
        assert mine in (options[:1] if ended.known_until[i] - ended.trigger_mjd[i] <= 0.5 else options)


N_PATTERNS = len(METADATA_PATTERNS)


@settings(deadline=None)
@given(SEEDS, st.lists(st.floats(0, 1 / N_PATTERNS), min_size=N_PATTERNS, max_size=N_PATTERNS))
def test_each_object_hides_one_pattern_or_none(seed, chances):
    names = [*STATIC_COLUMNS, "HOSTGAL2_PHOTOZ", "HOSTGAL2_MAG_r"]
    k, patterns = len(names), torch.from_numpy(hidden_columns(names))
    static = torch.cat([torch.ones(50, k), torch.zeros(50, k)], dim=1)
    hidden, again = (
        hide_statics(static, draw_hidden(len(static), 0.0, patterns, torch.tensor(chances), torch.Generator().manual_seed(seed)))
        for _ in range(2)
    )
    assert torch.equal(hidden, again) and torch.equal(hidden[:, :k], 1 - hidden[:, k:])
    allowed = {tuple(row) for row, chance in zip(patterns.tolist(), chances, strict=True) if chance} | {(False,) * k}
    assert set(map(tuple, hidden[:, k:].bool().tolist())) <= allowed


@pytest.mark.parametrize("name", METADATA_PATTERNS)
def test_a_certain_pattern_is_always_hidden(name):
    patterns, position = torch.from_numpy(hidden_columns(STATIC_COLUMNS)), list(METADATA_PATTERNS).index(name)
    k, chances = len(STATIC_COLUMNS), torch.zeros(len(METADATA_PATTERNS))
    chances[position] = 1.0
    static = torch.cat([torch.ones(20, k), torch.zeros(20, k)], dim=1)
    hidden = hide_statics(static, draw_hidden(len(static), 0.0, patterns, chances, torch.Generator().manual_seed(0)))[:, k:].bool()
    assert (hidden == patterns[position]).all()
