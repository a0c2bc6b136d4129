"""What enters: the order of rows and the types of columns do not matter, and what is damaged is refused by name or counts as missing."""

import os
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lightcurves import SAMPLE, curves, nested

from elasticc_hc import HierarchicalClassifier, LightCurves, LSSTSource, Predictions, Taxonomy
from elasticc_hc.classification import conformal_sets, fit_thresholds
from elasticc_hc.evaluation import animate_predictions, compute_metrics, days_until_confident, write_evaluation
from elasticc_hc.lightcurves import OBSERVATION_COLUMNS, RANGES, known_values, ordered_days, static_features

EXAMPLES = int(os.environ.get("ELASTICC_HC_EXAMPLES", "60"))  # `make fuzz` runs 2,000
pytestmark = pytest.mark.filterwarnings("ignore")
several = settings(deadline=None, max_examples=EXAMPLES)


def same(one, two):
    """Do two sets of light curves hold the same?"""
    assert one.header["SNID"].tolist() == two.header["SNID"].tolist() and np.array_equal(one.offsets, two.offsets)
    for name in OBSERVATION_COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.fixture(scope="module")
def classifier():
    return HierarchicalClassifier.load("plasticc")


@pytest.fixture(scope="module")
def few():
    return LightCurves.from_parquet(SAMPLE)[::28]


# --- order and repetition of rows ---


@several
@given(curves(), st.integers(0, 2**32), st.integers(0, 3))
def test_order_and_repetition_of_rows_do_not_matter(curves, seed, repeats):
    frame = curves.to_frame()
    again = pd.concat([frame, *[frame] * repeats]).sample(frac=1, random_state=seed % 2**32)
    same(LightCurves.from_frame(again, curves.header), curves)


@several
@given(st.integers(0, 2**32))
def test_order_of_rows_does_not_change_probabilities(classifier, few, seed):
    frame = few.to_frame()
    frame["MJD"] = np.floor(frame["MJD"])  # binned by night: many ties
    shuffled = frame.sample(frac=1, random_state=seed % 2**32)
    one, two = (classifier.predict(LightCurves.from_frame(part, few.header), [8, 64]).probabilities for part in (frame, shuffled))
    np.testing.assert_array_equal(one, two)


# --- types ---

TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@several
@given(curves(), st.sampled_from([*TEXTS, pa.int64(), pa.uint32()]), st.sampled_from(TEXTS), st.booleans(), st.booleans(),
       st.integers(0, 2))  # fmt: skip
def test_any_arrow_type_of_the_same_values(curves, snid, text, rows, large, chunk):
    """SNIDs, bands and nested columns in any flavour, whole or in chunks."""
    numbers = [str(7 * i + 1) for i in range(len(curves))]
    curves = LightCurves(curves.header.assign(SNID=np.array(numbers, dtype=object)), curves.offsets,
                         *(getattr(curves, name) for name in OBSERVATION_COLUMNS))  # fmt: skip
    table = nested(curves)
    ids = pa.array(numbers, pa.string())
    if pa.types.is_integer(snid):
        ids = pa.array([int(number) for number in numbers], snid)
    elif snid != pa.string():
        ids = pa.array(numbers, snid) if not pa.types.is_dictionary(snid) else ids.dictionary_encode()
    band = text if not pa.types.is_dictionary(text) else pa.string()
    wrap = pa.large_list if large else pa.list_
    kinds = {"MJD": pa.float64(), "BAND": band, "PHOTFLAG": pa.int64(), "FLUXCAL": pa.float32(), "FLUXCALERR": pa.float64()}
    values = table["lightcurve"].to_pylist()
    if rows:
        nest = wrap(pa.struct(list(kinds.items())))
        values = [[dict(zip(kinds, row, strict=True)) for row in zip(*(value[name] for name in kinds), strict=True)] for value in values]
    else:
        nest = pa.struct([(name, wrap(kind)) for name, kind in kinds.items()])
    made = pa.table({"SNID": ids, "lightcurve": pa.array(values, nest)})
    if chunk and len(made) > 1:
        made = pa.concat_tables([made.slice(0, chunk), made.slice(chunk)])
    same(LightCurves.from_arrow(made), curves)


@several
@given(curves(), st.sampled_from(["object", "string", "category", "string[pyarrow]"]), st.booleans(), st.booleans())
def test_any_pandas_type_of_the_same_values(curves, text, nullable, boolean):
    frame = curves.to_frame().astype({"BAND": text, "SNID": "object" if text == "category" else text})
    wanted = curves
    if nullable:
        frame = frame.convert_dtypes()
    if boolean:
        frame["PHOTFLAG"] = curves.detected
        wanted = LightCurves.from_frame(curves.to_frame().assign(PHOTFLAG=4096 * curves.detected), curves.header)
    same(LightCurves.from_frame(frame, curves.header), wanted)


# --- damage ---

DAMAGE = {
    "MJD": [np.nan, np.inf, None, 2_460_000.5, 1.7e18, -1.0, 0.0],
    "BAND": ["w", "", None, "gg"],
    "PHOTFLAG": [np.nan, 0.5, None, 2**40],
    "FLUXCAL": [np.nan, -np.inf, None, 1e39],
    "FLUXCALERR": [np.nan, 0.0, -3.0, None, np.inf],
}


@several
@given(curves(), st.sampled_from([(name, value) for name, values in DAMAGE.items() for value in values]), st.integers(0, 2**32),
       st.booleans())  # fmt: skip
def test_a_damaged_value_is_refused_with_object_and_column(curves, damage, seed, as_arrow):
    if not curves.n_obs:
        return
    (name, value), frame = damage, curves.to_frame().astype({damage[0]: object})
    row = seed % len(frame)
    snid = frame["SNID"].iloc[row]
    frame.iloc[row, frame.columns.get_loc(name)] = value
    with pytest.raises(ValueError) as caught:
        if as_arrow and value is not None:
            parts = {key: np.split(frame[key].to_numpy(), curves.offsets[1:-1]) for key in OBSERVATION_COLUMNS}
            lists = {key: [list(part) for part in values] for key, values in parts.items()}
            kinds = {"BAND": pa.string(), "PHOTFLAG": pa.float64()}
            columns = [pa.array(lists[key], pa.list_(kinds.get(key, pa.float64()))) for key in OBSERVATION_COLUMNS]
            made = pa.StructArray.from_arrays(columns, names=list(OBSERVATION_COLUMNS))
            LightCurves.from_arrow(pa.table({"SNID": curves.header["SNID"].tolist(), "lightcurve": made}))
        else:
            LightCurves.from_frame(frame, curves.header)
    said = str(caught.value)
    assert f"{snid}:" in said and name in said and "\n" not in said, said


@several
@given(curves(), st.sampled_from(OBSERVATION_COLUMNS), st.sampled_from(["short", "long", "null"]), st.integers(0, 2**32))
def test_lists_of_unequal_length_are_refused(curves, name, how, seed):
    if not curves.counts.any():
        return
    table = nested(curves)
    row = int(np.random.default_rng(seed).choice(np.flatnonzero(curves.counts)))
    values = table["lightcurve"].to_pylist()
    values[row][name] = {"short": values[row][name][1:], "long": [*values[row][name], values[row][name][0]], "null": None}[how]
    damaged = table.set_column(1, "lightcurve", pa.array(values, table["lightcurve"].type))
    with pytest.raises(ValueError, match="column lightcurve has"):
        LightCurves.from_arrow(damaged)


def test_a_bad_file_is_named(tmp_path):
    table = pq.read_table(SAMPLE).slice(0, 3).combine_chunks()
    pq.write_table(table.set_column(0, "SNID", pa.array([1.0, 2.0, 3.0])), tmp_path / "float.parquet")
    pq.write_table(table.set_column(0, "SNID", pa.array(["1", None, "3"])), tmp_path / "null.parquet")
    pq.write_table(table.set_column(0, "SNID", pa.array(["1", "2", "1"])), tmp_path / "twice.parquet")
    reasons = {"float": "SNID is a column of type double", "null": "SNID is missing in row 1", "twice": "SNID 1 occurs 2 times"}
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=f"{name}.parquet: {reason}"):
            LightCurves.from_parquet(tmp_path / f"{name}.parquet")


def test_whole_numbers_as_snid_are_found_as_text(tmp_path):
    table = pq.read_table(SAMPLE).slice(0, 3).combine_chunks()
    snids = table["SNID"].to_pylist()
    pq.write_table(table.set_column(0, "SNID", pa.array([int(snid) for snid in snids])), tmp_path / "numbers.parquet")
    assert LSSTSource.from_parquet(tmp_path / "numbers.parquet", snids[1]).SNID == snids[1]
    assert LSSTSource.from_parquet(tmp_path / "numbers.parquet", int(snids[1])).SNID == snids[1]
    found = LightCurves.from_parquet(tmp_path / "numbers.parquet", filters=[("SNID", "in", snids[:2])])
    assert found.header["SNID"].tolist() == snids[:2]


# --- the header ---

MISSING = {
    "HOSTGAL_SPECZ": [-1, -9, -99, -999.9, 999], "HOSTGAL_PHOTOZ": [-1.0, -9999], "HOSTGAL_PHOTOZ_ERR": [-9], "MWEBV": [-1, -9],
    "HOSTGAL_MAG_r": [99, 999, -9, 0, 99.7], "HOSTGAL_SNSEP": [-9, 999, -1], "HOSTGAL_ELLIPTICITY": [-9999, -9], "DEC": [-999, 99],
}  # fmt: skip


@several
@given(st.sampled_from([(name, code) for name, codes in MISSING.items() for code in codes]))
def test_missing_codes_of_any_archive_count_as_missing(few, damage):
    name, code = damage
    coded, empty = (static_features(few.header.assign(**{name: value})) for value in (code, np.nan))
    np.testing.assert_array_equal(coded, empty)


def test_ranges_keep_what_can_be():
    for name, value in {"HOSTGAL_PHOTOZ": 0.0, "HOSTGAL_MAG_u": 31.0, "MWEBV": 0.0, "HOSTGAL_ZPHOT_Q000": -0.01, "VPEC": -300.0}.items():
        assert known_values(pd.DataFrame({name: [value]}), name)[0] == value
    assert len(RANGES) > 5


def test_text_in_a_static_column_is_refused(few):
    with pytest.raises(ValueError, match="column MWEBV of the header: 'n/a' in row 0"):
        LightCurves.from_frame(few.to_frame(), few.header.assign(MWEBV="n/a"))
    as_text = LightCurves.from_frame(few.to_frame(), few.header.assign(MWEBV=few.header["MWEBV"].astype(str)))
    np.testing.assert_allclose(static_features(as_text.header), static_features(few.header))


# --- days ---


@several
@given(st.lists(st.sampled_from([0, 0.5, 1, 2, 8, 64, 1024]), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_days_are_a_set_in_order(classifier, few, days, random):
    predictions = classifier.predict(few, days)
    assert predictions.days.tolist() == sorted(set(days))
    for day in days:
        np.testing.assert_array_equal(predictions.frame(day), classifier.predict(few, [day]).frame(day))
    columns = list(range(len(predictions.days)))
    random.shuffle(columns)
    mixed = Predictions(predictions.SNID, predictions.days[columns], predictions.probabilities[:, columns], predictions.truth,
                        predictions.taxonomy)  # fmt: skip
    np.testing.assert_array_equal(mixed.probabilities, predictions.probabilities)
    np.testing.assert_array_equal(conformal_sets(mixed, fit_thresholds(mixed)), conformal_sets(predictions, fit_thresholds(predictions)))
    np.testing.assert_array_equal(days_until_confident(mixed, "leaf"), days_until_confident(predictions, "leaf"))
    pd.testing.assert_frame_equal(compute_metrics(mixed, 0), compute_metrics(predictions, 0))


@pytest.mark.parametrize("days", [[], [-1], [np.nan], [np.inf], "8", ["8"], [True], [[1, 2]], 5, None])
def test_what_is_no_day_is_refused(classifier, few, days):
    with pytest.raises(ValueError, match="days since trigger"):
        classifier.predict(few, days)
    with pytest.raises(ValueError, match="days since trigger"):
        ordered_days(days)


@several
@given(st.integers(0, 8), st.lists(st.sampled_from([1, 2, 8, 64]), min_size=1, max_size=4), st.integers(0, 2**32))
def test_predictions_come_back_from_a_file_in_any_order_of_rows(tmp_path_factory, classifier, few, n, days, seed):
    path = tmp_path_factory.mktemp("predictions") / "p.parquet"
    predictions = classifier.predict(few[:n], days)
    predictions.to_parquet(path)
    table = pq.read_table(path)
    order = np.random.default_rng(seed).permutation(len(table))
    pq.write_table(table.take(order), path)
    back = Predictions.from_parquet(path)
    assert back.days.tolist() == predictions.days.tolist() and sorted(back.SNID) == sorted(predictions.SNID)
    place = pd.Index(back.SNID).get_indexer(predictions.SNID)
    np.testing.assert_array_equal(back.probabilities[place], predictions.probabilities)
    np.testing.assert_array_equal(back.truth[place], predictions.truth)
    if n > 1 and len(predictions.days) > 1:
        pq.write_table(table.slice(1), path)
        with pytest.raises(ValueError, match="not one for each"):
            Predictions.from_parquet(path)


@pytest.mark.parametrize("rows", [[0], [0, 1], [0, 100]], ids=["one object", "one class", "two classes"])
def test_few_objects_are_evaluated_and_drawn(classifier, tmp_path, rows):
    curves = LightCurves.from_parquet(SAMPLE)[np.array(rows)]
    predictions = classifier.predict(curves, [1, 8])
    predictions.to_parquet(tmp_path / "p.parquet")
    back = Predictions.from_parquet(tmp_path / "p.parquet")
    write_evaluation(back, tmp_path / "results", curves, classifier, cards=1, draws=3)
    animate_predictions(back, tmp_path / "a.gif")
    assert (tmp_path / "results/report.html").is_file() and (tmp_path / "a.gif").stat().st_size > 1000


def test_no_object_has_no_metrics_and_one_line_says_so(classifier, few, tmp_path):
    predictions = classifier.predict(few[:0], [1, 8])
    calls = compute_metrics, lambda p: write_evaluation(p, tmp_path / "results"), lambda p: animate_predictions(p, tmp_path / "a.gif")
    for call in calls:
        with pytest.raises(ValueError, match="none of the 0 objects has a true class"):
            call(predictions)
    assert not list(tmp_path.iterdir())


# --- the network, and what the caller does to PyTorch ---


def test_training_mode_and_default_dtype_do_no_harm(few):
    import torch

    classifier = HierarchicalClassifier.load("plasticc")
    nodes = list(classifier.taxonomy.nodes)
    expected = classifier.predict(few, [8]).probabilities, classifier.predict_detections(few)[nodes].to_numpy()
    try:
        torch.set_default_dtype(torch.float64)
        for other in (classifier, HierarchicalClassifier.load("plasticc")):
            other.network.train()
            np.testing.assert_array_equal(other.predict_detections(few)[nodes].to_numpy(), expected[1])
            other.network.train()
            np.testing.assert_array_equal(other.predict(few, [8]).probabilities, expected[0])
            other.network.train()
            streamed = other.update(other.new_state(), few)[nodes].to_numpy()
            np.testing.assert_allclose(streamed, expected[1], atol=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)


# --- trees and labels ---


@pytest.mark.parametrize("name", ["day", "SNID", "truth", "MJD", "class", "probability"])
def test_a_class_named_like_a_column_is_refused(name):
    with pytest.raises(ValueError, match=f"node {name}: predictions have a column of this name"):
        Taxonomy.from_edges([("all", name), ("all", "other")])


@pytest.mark.parametrize("entry, reason", [
    ("name: yes", "put the name in quotes"), ("name: 1.5", "not a name"), ("models: RZ", "give a list"),
    ("class_id: many", "not a whole number"), ("models: [true]", "put the name in quotes"),
])  # fmt: skip
def test_entries_of_a_tree_have_types(tmp_path, entry, reason):
    name = "" if entry.startswith("name") else "name: A, "
    text = "name: t\nnodes:\n- {name: all, parent: null}\n- {name: B, parent: all}\n"
    (tmp_path / "t.yaml").write_text(f"{text}- {{{name}parent: all, {entry}}}\n")
    with pytest.raises(ValueError, match=reason):
        Taxonomy.from_yaml(tmp_path / "t.yaml")


def test_numbers_in_yaml_are_names(tmp_path):
    nodes = "{name: 0, parent: null}", "{name: 90, parent: 0, models: [7]}", "{name: 42, parent: 0}"
    (tmp_path / "t.yaml").write_text("name: t\nnodes:\n" + "".join(f"- {node}\n" for node in nodes))
    tree = Taxonomy.from_yaml(tmp_path / "t.yaml")
    assert tree.nodes == ("0", "90", "42") and tree.node_of(["7", "42"]).tolist() == [1, 2]


def test_labels_in_any_form():
    tree = Taxonomy.from_yaml("elasticc2")
    wanted = [tree.index(name) for name in ("SNIa", "SNIa", "SNIa", "SNIa", "KN", "KN")]
    assert tree.node_of(["SNIa-SALT3", "SNIa-SALT2", "SNIa", "10", "2232", 51]).tolist() == wanted
    with pytest.raises(ValueError, match=r"Vulcan \(2\)"):
        tree.node_of(["Vulcan", "SNIa", "Vulcan"])
    with pytest.raises(ValueError, match="class of object 1"):
        tree.node_of(["SNIa", None])


# --- what is suspicious ---


def warned(call):
    """What a call warns of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in said]


@pytest.mark.parametrize("change, reason", [
    ({"PHOTFLAG": 0}, "no object has a trigger"), ({"PHOTFLAG": True}, "boolean"), ({"FLUXCALERR": 360.0}, "nanojansky"),
    ({"FLUXCALERR": 0.2}, "microjansky"),
])  # fmt: skip
def test_one_warning_for_what_is_suspicious(few, change, reason):
    said = warned(lambda: LightCurves.from_frame(few.to_frame().assign(**change), few.header))
    assert len([line for line in said if reason in line]) == 1 and all("\n" not in line for line in said)


def test_no_warning_for_ordinary_data():
    assert warned(lambda: LightCurves.from_parquet(SAMPLE)) == []


def test_lookalikes_of_static_columns_are_named(few):
    header = few.header[["SNID"]].assign(z=0.1, mwebv=0.02, decl=-30.0, hostgal_mag_u=22.0)
    said = " ".join(warned(lambda: LightCurves.from_frame(few.to_frame(), header)))
    for found, meant in {"z": "REDSHIFT_FINAL", "mwebv": "MWEBV", "decl": "DEC", "hostgal_mag_u": "HOSTGAL_MAG_u"}.items():
        assert f"{found} ({meant}?)" in said


def test_unknown_labels_are_counted(classifier, few):
    said = warned(lambda: classifier.predict(LightCurves.from_frame(few.to_frame(), few.header.assign(ELASTICC_class="Vulcan")), [8]))
    assert any(f"Vulcan ({len(few)})" in line for line in said)
