"""The rules on any curves: equal to a plain loop over objects, causal at every answer, and the container keeps its rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.lightcurves.lightcurves import (
    BANDS,
    DETECTED,
    OBSERVATION_COLUMNS,
    RULES,
    SATURATED,
    TRIGGER,
    LightCurves,
    answering,
    process,
)

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data" / "elasticc2_train_01_1percent"
SAMPLE = ROOT / "nbs" / "data" / "plasticc_sample.parquet"
POLICIES = {
    "alerts": ("saturated", "before_trigger", "after_last_detection"),
    "forced": ("saturated", "before_trigger"),
    "all": ("saturated",),
}
pytestmark = pytest.mark.filterwarnings("ignore:none of the")
FLAGS = (0, 0, 0, SATURATED, DETECTED, DETECTED, DETECTED | TRIGGER, DETECTED | SATURATED, 1)


def ragged(counts, rng, flags=FLAGS, ties=True):
    """Curves of these lengths; with ties many points share their MJD, as two exposures of one night may."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(offsets[-1])
    times = rng.integers(0, 8, n).astype(float) if ties else rng.permutation(10 * n)[:n] / 7
    owner = np.repeat(np.arange(len(counts)), counts)
    header = pd.DataFrame({"SNID": [f"object {i}" for i in range(len(counts))]})
    band, flux = rng.integers(0, len(BANDS), n).astype(np.int8), rng.normal(0, 100, n).astype(np.float32)
    order = np.lexsort((flux, band, times, owner))  # ties by band and flux, as the entrances put them
    return LightCurves(
        header,
        offsets,
        60000 + times[order],
        band[order],
        rng.choice(flags, n).astype(np.int32) if n else np.zeros(0, np.int32),
        flux[order],
        rng.uniform(1, 9, n).astype(np.float32),
    )


@st.composite
def curves(draw, flags=None, ties=None):
    """Up to eight curves, some of them empty, without detection or saturated throughout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = draw(st.lists(st.integers(0, 25), min_size=0, max_size=8))
    flags = flags or draw(st.sampled_from([FLAGS, (0,), (DETECTED,), (SATURATED,), (0, SATURATED), (0,) * 9 + (DETECTED,)]))
    return ragged(counts, rng, flags, draw(st.booleans()) if ties is None else ties)


def rows_of(curves, i):
    """Flat indices of one object's observations."""
    return range(curves.offsets[i], curves.offsets[i + 1])


def is_detection(curves, row):
    return bool(curves.PHOTFLAG[row] & 4096)


def by_the_rules(curves, rules):
    """The flat indices that stay, one object and one observation at a time."""
    kept = []
    for i in range(len(curves)):
        rows = list(rows_of(curves, i))
        if "saturated" in rules:
            rows = [row for row in rows if not curves.PHOTFLAG[row] & 1024]
        seen = [k for k, row in enumerate(rows) if is_detection(curves, row)]
        if seen and "after_last_detection" in rules:
            rows = rows[: seen[-1] + 1]
        if seen and "before_trigger" in rules:
            rows = rows[max(seen[0] - 1, 0) :]
        kept.append(rows)
    return kept


def assert_same(first, second):
    """The same objects with the same observations."""
    for name in ("offsets", *OBSERVATION_COLUMNS):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
        assert getattr(first, name).dtype == getattr(second, name).dtype, name
    assert first.header["SNID"].tolist() == second.header["SNID"].tolist()


# --- the rules ---


@settings(deadline=None, max_examples=200)
@given(curves(), st.sampled_from(tuple(POLICIES)), st.sets(st.sampled_from(tuple(RULES))))
def test_rules_are_the_plain_loop(curves, keep, skip):
    kept = by_the_rules(curves, set(POLICIES[keep]) - skip)
    processed = process(curves, keep, tuple(skip))
    assert processed.counts.tolist() == [len(rows) for rows in kept]
    rows = np.array([row for rows in kept for row in rows], dtype=int)
    for name in OBSERVATION_COLUMNS:
        np.testing.assert_array_equal(getattr(processed, name), getattr(curves, name)[rows])
    assert processed.header is curves.header


@settings(deadline=None, max_examples=100)
@given(curves())
def test_trigger_and_last_detection_are_the_plain_loop(curves):
    for i in range(len(curves)):
        seen = [row for row in rows_of(curves, i) if is_detection(curves, row)]
        assert curves.first_detection[i] == (seen[0] if seen else -1)
        assert curves.last_detection[i] == (seen[-1] if seen else -1)
        np.testing.assert_array_equal(curves.trigger_mjd[i], curves.MJD[seen[0]] if seen else np.nan)
        days = [curves.MJD[row] - (curves.MJD[seen[0]] if seen else np.nan) for row in rows_of(curves, i)]
        np.testing.assert_array_equal(curves.days[curves.offsets[i] : curves.offsets[i + 1]], days)


@settings(deadline=None, max_examples=100)
@given(curves(), st.sampled_from(tuple(POLICIES)))
def test_processing_twice_changes_nothing_and_objects_do_not_touch(curves, keep):
    once = process(curves, keep)
    assert_same(process(once, keep), once)
    alone = [process(curves[i], keep) for i in range(len(curves))]
    assert [one.n_obs for one in alone] == once.counts.tolist()
    for i, one in enumerate(alone):
        assert_same(one, once[i])


# --- where an answer may be read ---


@settings(deadline=None, max_examples=100)
@given(curves(), st.sampled_from(tuple(POLICIES)))
def test_where_an_answer_may_be_read_is_the_plain_loop(curves, keep):
    processed = process(curves, keep)
    answers = answering(processed, keep)
    for i in range(len(processed)):
        rows = rows_of(processed, i)
        seen = [row for row in rows if is_detection(processed, row)]
        wanted = seen if keep == "alerts" else [row for row in rows if seen and row >= seen[0]]
        assert [row for row in rows if answers[row]] == wanted


def test_policies_that_there_are_not():
    empty = ragged([3], np.random.default_rng(0))
    for refuses in (process, answering):
        with pytest.raises(ValueError, match="choose one of alerts, forced, all"):
            refuses(empty, "some")


# --- causality ---


def cut_at_every_answer(curves, keep):
    """Cut-then-process beside process-then-cut, for every answer that the rules keep; by position, so that ties count."""
    rows = LightCurves(curves.header, curves.offsets, curves.MJD, curves.BAND, curves.PHOTFLAG,
                       np.arange(curves.n_obs), curves.FLUXCALERR)  # fmt: skip
    processed = process(rows, keep)  # FLUXCAL carries the row number, so that points are told apart
    answers = np.flatnonzero(answering(processed, keep))
    owner = processed.object_index[answers]
    last = processed.FLUXCAL[answers]
    many, done = rows[owner], processed[owner]
    then_processed = process(many.select(many.FLUXCAL <= np.repeat(last, many.counts)), keep)
    then_cut = done.select(done.FLUXCAL <= np.repeat(last, done.counts))
    return then_processed, then_cut


def check_causality(curves, keep):
    """Points and phases agree at every observation after which an answer may be read; the number of these."""
    then_processed, then_cut = cut_at_every_answer(curves, keep)
    assert_same(then_processed, then_cut)
    np.testing.assert_array_equal(then_processed.days, then_cut.days)
    ends = then_processed.offsets[1:] - 1
    assert answering(then_processed, keep)[ends].all(), "every cut ends with an answer"
    return len(then_cut)


@settings(deadline=None, max_examples=200)
@given(curves(), st.sampled_from(tuple(POLICIES)))
def test_cutting_and_processing_commute(curves, keep):
    processed = process(curves, keep)
    assert check_causality(curves, keep) == answering(processed, keep).sum() >= processed.detected.sum()


@settings(deadline=None, max_examples=100)
@given(curves(flags=FLAGS), st.sampled_from(tuple(POLICIES)), st.integers(0, 2**32))
def test_what_comes_after_a_detection_changes_nothing_before(curves, keep, seed):
    """Everything after one detection is exchanged: the processed points up to it stay as they are."""
    unsaturated = np.flatnonzero(curves.detected & (curves.PHOTFLAG & SATURATED == 0))
    if not len(unsaturated):
        return
    rng = np.random.default_rng(seed)
    at = rng.choice(unsaturated)
    owner = curves.object_index[at]
    later = (np.arange(curves.n_obs) > at) & (curves.object_index == owner)
    flags = np.where(later, rng.choice(FLAGS, curves.n_obs), curves.PHOTFLAG).astype(np.int32)
    changed = LightCurves(curves.header, curves.offsets, curves.MJD, curves.BAND, flags,
                          np.where(later, 7e5, curves.FLUXCAL).astype(np.float32), curves.FLUXCALERR)  # fmt: skip
    before, after = (process(c, keep)[owner] for c in (curves, changed))
    upto = sum(row <= at for row in by_the_rules(curves, POLICIES[keep])[owner])
    for name in OBSERVATION_COLUMNS:
        np.testing.assert_array_equal(getattr(before, name)[:upto], getattr(after, name)[:upto])


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL.is_dir():
        pytest.skip("the real ELAsTiCC 2 files (../shared/data) are not here")
    out = tmp_path_factory.mktemp("real") / "converted"
    convert(REAL, out)
    return LightCurves.from_parquet([out / f"{model}.parquet" for model in ("KN_K17", "SNIb-Templates")])


@pytest.mark.parametrize("keep", POLICIES)
def test_every_detection_of_every_real_object(real, keep):
    assert len(real) == 319 and process(real, keep).detected.sum() == 1829
    assert check_causality(real[:: 1 if keep == "alerts" else 16], keep) > 1500


@pytest.mark.parametrize("keep", POLICIES)
def test_every_detection_of_every_sample_object(keep):
    sample = LightCurves.from_parquet(SAMPLE)
    assert process(sample, keep).detected.sum() == sample.detected.sum() > 8000
    assert check_causality(sample[:: 1 if keep == "alerts" else 4], keep) > 3000


@pytest.mark.parametrize("keep", POLICIES)
def test_rules_on_real_objects_are_the_plain_loop(real, keep):
    kept = by_the_rules(real, POLICIES[keep])
    processed = process(real, keep)
    assert processed.counts.tolist() == [len(rows) for rows in kept]
    np.testing.assert_array_equal(processed.FLUXCAL, real.FLUXCAL[np.concatenate(kept).astype(int)])


# --- the container ---


@settings(deadline=None, max_examples=100)
@given(curves(), st.integers(0, 2**32))
def test_frames_come_back(curves, seed):
    frame = curves.to_frame()
    assert len(frame) == curves.n_obs
    assert_same(LightCurves.from_frame(frame, curves.header), curves)
    by_object = frame.iloc[np.argsort(np.random.default_rng(seed).permutation(len(curves))[curves.object_index], kind="stable")]
    assert_same(LightCurves.from_frame(by_object, curves.header), curves)


@settings(deadline=None, max_examples=100)
@given(curves(), st.integers(0, 2**32))
def test_shuffled_frames_come_back(curves, seed):
    frame = curves.to_frame().sample(frac=1, random_state=seed % 2**32)
    assert_same(LightCurves.from_frame(frame, curves.header), curves)


def nested(curves):
    """The curves as a table of the project's layout."""
    fields = {"MJD": curves.MJD, "BAND": np.array(list(BANDS))[curves.BAND], "PHOTFLAG": curves.PHOTFLAG,
              "FLUXCAL": curves.FLUXCAL, "FLUXCALERR": curves.FLUXCALERR}  # fmt: skip
    offsets = pa.array(curves.offsets.astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in fields.values()]
    return pa.table({"SNID": pa.array(curves.header["SNID"], pa.string()),
                     "lightcurve": pa.StructArray.from_arrays(lists, names=list(fields))})  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(curves(), st.integers(1, 4))
def test_parquet_comes_back_in_any_chunks(tmp_path_factory, curves, rows):
    path = tmp_path_factory.mktemp("curves") / "curves.parquet"
    pq.write_table(nested(curves), path, row_group_size=rows)
    assert_same(LightCurves.from_parquet(path), curves)
    if len(curves):
        with pytest.raises(ValueError, match="occurs 2 times"):
            LightCurves.from_parquet([path, path])


@settings(deadline=None, max_examples=50)
@given(curves(), st.integers(0, 2**32))
def test_slices_of_a_table_hold_their_own_rows(curves, seed):
    """Arrow slices share the buffers of the whole; only their own observations may be read."""
    low, high = sorted(np.random.default_rng(seed).integers(0, len(curves) + 1, 2))
    assert_same(LightCurves.from_arrow(nested(curves).slice(low, high - low)), curves[low:high])


@settings(deadline=None, max_examples=100)
@given(curves(), st.integers(0, 2**32))
def test_choosing_objects_and_observations(curves, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(curves), 5) if len(curves) else np.zeros(0, int)
    picked = curves[chosen]
    wanted = [row for i in chosen for row in rows_of(curves, i)]
    np.testing.assert_array_equal(picked.FLUXCAL, curves.FLUXCAL[np.array(wanted, dtype=int)])
    assert picked.header["SNID"].tolist() == [f"object {i}" for i in chosen]
    members = rng.uniform(size=len(curves)) < 0.5
    assert_same(curves[members], curves[np.flatnonzero(members)])
    assert_same(curves[1:4], curves[np.arange(len(curves))[1:4]])
    mask = rng.uniform(size=curves.n_obs) < 0.5
    selected = curves.select(mask)
    assert selected.counts.tolist() == [int(mask[list(rows_of(curves, i))].sum()) for i in range(len(curves))]
    np.testing.assert_array_equal(selected.MJD, curves.MJD[mask])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"FLUXCAL": np.nan}, "object object 0: FLUXCAL is missing"),
        ({"FLUXCAL": np.inf}, "object object 0: FLUXCAL is not finite in 3 observation"),
        ({"MJD": np.inf}, "object object 0: MJD is not finite"),
        ({"BAND": "w"}, "BAND has ['w']"),
        ({"SNID": "another"}, "object another has observations but no header row"),
    ],
)
def test_bad_observations_are_named(change, message):
    curves = ragged([3], np.random.default_rng(0))
    with pytest.raises(ValueError) as caught:
        LightCurves.from_frame(curves.to_frame().assign(**change), curves.header)
    assert message in str(caught.value) and "\n" not in str(caught.value)
