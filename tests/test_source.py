"""One object: what it writes and reads back, and what it says to bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from periodic_stars import periodic_stars

from elasticc_hc.lightcurves.lightcurves import BANDS, LightCurves
from elasticc_hc.source.fluxcurve import AFTER_DAYS, BEFORE_DAYS, fold_phases, has_magnitude, periodogram, plot_flux
from elasticc_hc.source.source import LSSTSource

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
WHOLE = LightCurves.from_parquet(SAMPLE)


@given(st.floats(1e-3, 1e4), st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=20), st.floats(-3, 3))
def test_phases_come_back_after_a_period(period, days, shift):
    phase = fold_phases(np.array(days), period, shift)
    assert ((phase >= 0) & (phase <= 1)).all()
    turn = 2 * np.pi * (fold_phases(np.array(days) + period, period, shift) - phase)
    assert np.allclose(np.cos(turn), 1, atol=1e-4)


@given(st.floats(0.1, 30), st.floats(0, 6.28), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_known_period_is_found(period, angle, seed):
    rng = np.random.default_rng(seed)
    mjd = np.sort(60000 + rng.uniform(0, 400, 120))
    band = rng.integers(0, 3, 120).astype(np.int8)
    flux = (100 * np.sin(2 * np.pi * mjd / period + angle) + 5 * rng.standard_normal(120)).astype(np.float32)
    flags, error = np.full(120, 4096, np.int32), np.full(120, 5, np.float32)
    star = LightCurves(WHOLE.header.iloc[:1], np.array([0, 120]), mjd, band, flags, flux, error)
    assert abs(periodogram(star, shortest_days=0.08, longest_days=50).period_days / period - 1) < 0.01


@pytest.mark.parametrize("row", range(0, len(WHOLE), 16))
def test_every_class_is_drawn_in_every_way(row):
    import matplotlib.pyplot as plt

    source = LSSTSource(WHOLE[row])
    for options in ({}, {"mag": True}, {"fold": 1.5}, {"fold": 1.5, "mag": True, "phase": 0.3}, {"bands": "gr"}):
        ax = source.plot_flux_curve(**options)
        ax.figure.canvas.draw()
        plt.close(ax.figure)
    assert len(source.to_timeseries()) == len(source)
    assert source._repr_html_().count("<tr>") >= 7


@pytest.mark.parametrize("row", range(0, len(WHOLE), 16))
def test_the_window_is_the_event_and_the_bars_are_short(row):
    import matplotlib.pyplot as plt

    source = LSSTSource(WHOLE[row])
    days, seen = source.curves.days, source.curves.days[source.curves.detected]
    low, high = plot_flux(source.curves).get_xlim()
    margin = 0.03 * (high - low) + 0.5
    assert -BEFORE_DAYS - margin <= low <= seen[0] and seen[-1] <= high <= seen[-1] + AFTER_DAYS + margin
    low, high = plot_flux(source.curves, whole=True).get_xlim()
    assert low <= days[0] and days[-1] <= high
    ax = plot_flux(source.curves, mag=True)
    faint, bright = ax.get_ylim()
    bars = [np.abs(np.diff(np.array(s)[:, 1])) for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert bright < faint < 32 and not bars or max(map(max, bars)) < 6
    plt.close("all")


@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.floats(0.125, 50, width=32), st.booleans()), min_size=1, max_size=30))
@settings(deadline=None)
def test_an_observation_has_a_magnitude_or_a_limit_or_neither(points):
    flux, error, detected = (np.array(column) for column in zip(*points, strict=True))
    n = len(flux)
    curves = LightCurves(WHOLE.header.iloc[:1], np.array([0, n]), 60000 + np.arange(n, dtype=float), np.zeros(n, np.int8),
                         np.where(detected, 4096, 0).astype(np.int32), flux.astype(np.float32), error.astype(np.float32))  # fmt: skip
    measured, limited = has_magnitude(curves)
    assert not (measured & limited).any() and (curves.FLUXCAL[measured] > 0).all()
    assert (np.abs(curves.FLUXCAL[limited]) < 3 * curves.FLUXCALERR[limited]).all() and not (limited & detected).any()
    assert ((curves.FLUXCAL <= 0) | detected)[~measured & ~limited].all()


def test_one_point_and_none():
    source = LSSTSource(WHOLE[0])
    first = LSSTSource(source.curves.select(np.arange(len(source)) == np.flatnonzero(source.curves.detected)[0]))
    none = LSSTSource(source.curves.select(np.zeros(len(source), bool)))
    for few in (first, none):
        few.plot_flux_curve(mag=True).figure.canvas.draw()
        assert "source" in few._repr_html_()
        with pytest.raises(ValueError, match="too few for a period"):
            few.find_period()


def test_unknown_band_names_the_band():
    with pytest.raises(ValueError, match="no band w"):
        LSSTSource(WHOLE[0]).plot_flux_curve(bands="gw")


def test_host_with_and_without_magnitudes():
    source = LSSTSource(WHOLE[0])
    header = source.curves.header.assign(**{f"HOSTGAL_MAG_{band}": 20.0 + i for i, band in enumerate(BANDS)})
    assert len(LSSTSource(replace(source.curves, header=header)).plot_host().containers) == 6
    assert source.plot_host().texts[0].get_text() == "no host magnitudes"


def test_csv_is_whole_or_not_there(tmp_path):
    source = LSSTSource(WHOLE[0])
    with pytest.raises(OSError):
        source.to_csv(tmp_path / "no" / "such.csv")
    source.to_csv(tmp_path / "one.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]


@pytest.mark.parametrize("model, least", [("RRL", 0.9), ("Cepheid", 0.9), ("d-Sct", 0.9), ("EB", 0.6)])
def test_true_periods_of_simulated_stars(model, least):
    """The true period, or half of it with the double period named; other stars than those of bench/periods.py."""
    curves, periods = periodic_stars(model, 10, seed=11)
    right = 0
    for i, true in enumerate(periods):
        found = LSSTSource(curves[i]).find_period()
        right += abs(found.period_days / true - 1) < 0.01 or abs(found.aliases.get("double period", 0) / true - 1) < 0.01
    assert (curves.detected.sum() >= 600) and right >= least * len(periods)


def test_saturated_points_do_not_make_a_period():
    curves, periods = periodic_stars("RRL", 1, seed=3)
    wrong = curves.BAND == 2
    spoiled = replace(curves, FLUXCAL=np.where(wrong, 1e5, curves.FLUXCAL).astype(np.float32),
                      PHOTFLAG=np.where(wrong, curves.PHOTFLAG | 1024, curves.PHOTFLAG).astype(np.int32))  # fmt: skip
    assert abs(periodogram(spoiled).period_days / periods[0] - 1) < 0.01
