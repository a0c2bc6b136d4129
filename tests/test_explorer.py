"""The explorer without a browser: bad input is said in the window, whatever it is."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alert_messages import elasticc_alert

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.prediction_sets import conformal_sets, fit_thresholds
from elasticc_hc.explorer.catalogue import Catalogue
from elasticc_hc.explorer.explorer import Explorer
from elasticc_hc.lightcurves.lightcurves import LightCurves

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


@pytest.fixture(scope="module")
def classifier():
    return HierarchicalClassifier.from_pretrained("plasticc")


@pytest.fixture(scope="module")
def table():
    return pq.read_table(SAMPLE)


def said(explorer):
    """The message, which must stand there as an alert and not hold a traceback."""
    text = explorer.message.value
    assert 'role="alert"' in text and "Traceback" not in text, text
    return text


def written(path, table):
    pq.write_table(table, path)
    return path


def with_curve(table, row, **columns):
    """The table with one object's observations replaced."""
    curve = table["lightcurve"][row].as_py() | columns
    curves = table["lightcurve"].to_pylist()
    curves[row] = curve
    return table.set_column(table.schema.get_field_index("lightcurve"), "lightcurve", pa.array(curves, table["lightcurve"].type))


def shown(explorer):
    return sum(len(trace.x) for trace in explorer.card.data[:12])


def test_not_parquet_and_not_there(tmp_path):
    (tmp_path / "text.parquet").write_text("no")
    assert "not a Parquet file" in said(Explorer(tmp_path / "text.parquet"))
    assert "no such file" in said(Explorer(tmp_path / "nothing.parquet"))
    assert "not a Parquet file" in said(Explorer(tmp_path)), "a folder of Parquet files, one of them damaged"
    (tmp_path / "empty").mkdir()
    assert "alert" in said(Explorer(tmp_path / "empty"))


def test_without_lightcurve(tmp_path, table):
    assert "no column lightcurve" in said(Explorer(written(tmp_path / "a.parquet", table.drop_columns(["lightcurve"]))))


def test_run_that_is_none(tmp_path):
    assert "no checkpoint.json there" in said(Explorer(SAMPLE, tmp_path))


def test_unknown_band_is_said_and_the_next_object_still_shown(tmp_path, table, classifier):
    n = len(table["lightcurve"][0].as_py()["MJD"])
    path = written(tmp_path / "a.parquet", with_curve(table.slice(0, 3), 0, BAND=["w"] * n))
    explorer = Explorer(path, classifier)
    assert "only the LSST passbands" in said(explorer) and shown(explorer) == 0
    explorer.buttons.next.click()
    assert not explorer.message.value and shown(explorer) == len(explorer.source)


def test_undetected_and_single_point(tmp_path, table, classifier):
    n = len(table["lightcurve"][0].as_py()["MJD"])
    changed = with_curve(table.slice(0, 3), 0, PHOTFLAG=[0] * n)
    changed = with_curve(changed, 1, MJD=[60000.0], BAND=["r"], PHOTFLAG=[6144], FLUXCAL=[30.0], FLUXCALERR=[3.0])
    changed = with_curve(changed, 2, MJD=[], BAND=[], PHOTFLAG=[], FLUXCAL=[], FLUXCALERR=[])
    explorer = Explorer(written(tmp_path / "a.parquet", changed), classifier)
    assert "has no detection" in said(explorer) and shown(explorer) == n and explorer.buttons.cut.disabled
    explorer.buttons.next.click()
    assert not explorer.message.value and shown(explorer) == 1 and len(explorer.story) == 1
    explorer.shown.fold.value = True
    assert "too few for a period" in said(explorer)
    explorer.buttons.next.click()
    assert shown(explorer) == 0


def test_taxonomy_that_does_not_fit(tmp_path, table, classifier):
    place = table.schema.get_field_index("ELASTICC_class")
    strange = table.slice(0, 4).set_column(place, "ELASTICC_class", pa.array(["Nova"] * 4))
    explorer = Explorer(written(tmp_path / "a.parquet", strange), classifier)
    assert "contains none of the models in this file; no leaf for Nova" in said(explorer) and shown(explorer) > 0
    explorer.filters.right.value = True
    assert "no object satisfies" in said(explorer)


def test_without_labels_and_without_classifier(tmp_path, table):
    bare = table.slice(0, 4).drop_columns(["ELASTICC_class"])
    explorer = Explorer(written(tmp_path / "a.parquet", bare))
    assert not explorer.message.value and shown(explorer) == len(explorer.source) and explorer.icicle is None
    explorer.buttons.level.value = "leaf"
    explorer.buttons.random.click()
    assert shown(explorer) == len(explorer.source)


def test_empty_file(tmp_path, table):
    assert "no object satisfies" in said(Explorer(written(tmp_path / "a.parquet", table.slice(0, 0))))


def test_snid_that_is_not_there(classifier):
    explorer = Explorer(SAMPLE, classifier)
    for wrong in ("19212", "SN2027x", "<script>", "'"):
        explorer.buttons.snid.value = wrong
        assert "the nearest are" in said(explorer) and "<script>" not in explorer.message.value


def test_large_file_is_not_classified_unasked(monkeypatch, classifier):
    monkeypatch.setattr("elasticc_hc.explorer.explorer.CLASSIFY_ON_OPENING", 10)
    explorer = Explorer(SAMPLE, classifier)
    explorer.filters.right.value = False
    assert "press “classify all”" in said(explorer)
    explorer.buttons.classify.click()
    assert explorer.verdicts.predicted.max() > 0 and "224 objects classified" in explorer.message.value
    explorer.filters.confidence.value = (0.9, 1.0)
    assert (explorer.verdicts.right[explorer.rows] == 0).all() and (explorer.verdicts.confidence[explorer.rows] >= 0.9).all()


def test_next_reads_each_row_group_once(tmp_path, table, monkeypatch):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=56)
    catalogue, reads = Catalogue(tmp_path / "a.parquet"), []
    read = catalogue.read_group
    monkeypatch.setattr(catalogue, "read_group", lambda number, columns=None: reads.append(number) or read(number, columns))
    names = [catalogue.fetch(row).SNID for row in range(len(catalogue))]
    assert names == table["SNID"].to_pylist() and reads == [0, 1, 2, 3]


def test_story_is_the_prediction_at_every_cut(classifier):
    explorer = Explorer(SAMPLE, classifier)
    for _ in range(5):
        explorer.buttons.random.click()
        if explorer.story is None:
            continue
        for day in (0.0, 1.0, 8.0, 64.0):
            explorer.buttons.cut.value = min(day, explorer.buttons.cut.max)
            curves = explorer.source.curves
            seen = curves.detected & (curves.days <= explorer.buttons.cut.value)  # the window shows answers at detections
            latest = curves.MJD[seen].max()
            predicted = classifier.predict(curves.select(curves.MJD <= latest), [1e6]).probabilities[0, 0]
            leaves = classifier.taxonomy.leaf_nodes
            np.testing.assert_allclose(np.array(explorer.icicle.data[0].values)[leaves], predicted[leaves], atol=1e-5)


# --- sources ---


def test_any_source(tmp_path, table):
    curves = LightCurves.from_parquet(SAMPLE)
    written(tmp_path / "a.parquet", table.slice(0, 30)), written(tmp_path / "b.parquet", table.slice(30, 30))
    (tmp_path / "conversion.json").write_text("{}")
    sources = [tmp_path, [tmp_path / "a.parquet", str(tmp_path / "b.parquet")], curves[np.arange(60)], table.slice(0, 60),
               table.slice(0, 60).to_pandas(), curves[np.arange(60)].to_frame()]  # fmt: skip
    for source in sources:
        explorer = Explorer(source)
        assert not explorer.message.value and len(explorer.catalogue) == 60, explorer.message.value
        explorer.show(table["SNID"][45].as_py())
        assert np.array_equal(explorer.source.curves.FLUXCAL, curves[45].FLUXCAL) and shown(explorer) == len(explorer.source)
    assert "run the cell" in repr(explorer)


def test_alerts(classifier):
    explorer = Explorer([elasticc_alert(12345678, 20.0, earlier=4, forced=2)], classifier)
    assert not explorer.message.value and shown(explorer) == len(explorer.source) and "known until day" in explorer.status.value
    table = explorer.source.to_pandas().assign(SNID="170028523512922145")
    assert "https://lsst.fink-portal.org/170028523512922145" in Explorer(table, classifier).host.value
    sources = [{"ra": 1.0, "decl": -30.0, "nDiaSources": 3}, 7, [], {"nothing": 1}]
    for source in sources:
        assert said(Explorer(source, classifier))


# --- what the window says ---


def test_field_of_the_snid(classifier):
    explorer = Explorer(SAMPLE, classifier).show("19213")
    explorer.buttons.snid.value = "nobody"
    assert "no object nobody" in said(explorer) and explorer.buttons.snid.value == "19213" == explorer.source.SNID
    explorer.buttons.snid.value = "921"
    assert len(explorer.rows) > 1 and "SNIDs contain 921" in explorer.message.value and "921" in explorer.source.SNID
    explorer.buttons.next.click()
    assert explorer.buttons.snid.value == explorer.source.SNID and "921" in explorer.source.SNID


def test_empty_selection_has_no_axes(classifier):
    explorer = Explorer(SAMPLE, classifier)
    explorer.filters.confidence.value = (0.0001, 0.0002)
    assert "no object satisfies" in said(explorer) and explorer.left.layout.display == "none" and not explorer.host.value
    assert not explorer.card.layout.yaxis3.visible and len(explorer.card.layout.yaxis3.tickvals) == 0
    explorer.reset.click()
    assert len(explorer.rows) == 224 and explorer.left.layout.display == "" and shown(explorer)


@pytest.mark.parametrize("level", ["root", "level2", "leaf"])
def test_class_and_true_class_are_of_one_level(classifier, level):
    explorer = Explorer(SAMPLE, classifier).show("19213", level=level)
    tree = classifier.taxonomy
    names = {tree.nodes[node] for node in tree.level(level)}
    true = explorer.status.value.split("true class ")[1].split(" ")[0].rstrip(",")
    assert true in names and explorer.status.value.split("classified as <b>")[1].split("<")[0] in names


def test_keys_set_the_level_and_show_the_whole_event(classifier):
    explorer = Explorer(SAMPLE, classifier)
    for key in ("root", "level2", "leaf"):
        explorer.listener._handle_custom_msg({"do": key}, [])
        assert explorer.buttons.level.value == key
    ranges = explorer.card.layout.xaxis.range
    explorer.card.update_xaxes(range=[0, 1])
    explorer.listener._handle_custom_msg({"do": "home"}, [])
    assert explorer.card.layout.xaxis.range == ranges
    explorer.listener._handle_custom_msg({"do": "no such"}, [])


# --- classifiers ---


def test_classifier_chosen_on_screen(tmp_path, classifier):
    explorer = Explorer(SAMPLE).show("19213")
    assert explorer.icicle is None and explorer.choice.tree.value == "plasticc"
    explorer.choice.tree.value = "elasticc2"
    assert explorer.taxonomy.name == "elasticc2" and explorer.source.SNID == "19213"
    explorer.choice.classifier.value = "plasticc"
    assert explorer.icicle is not None and explorer.source.SNID == "19213" and explorer.choice.tree.disabled
    explorer.choice.classifier.value = str(tmp_path)
    assert "no checkpoint.json there" in said(explorer) and explorer.classifier is not None and shown(explorer)
    explorer.buttons.next.click()
    assert explorer.source.SNID != "19213" and explorer.story is not None


def test_comparison_of_classifiers(classifier):
    explorer = Explorer(SAMPLE, classifier, compare=["synthetic"]).show("19213", cut=20)
    (_, figure), = explorer.compared
    assert figure.layout.shapes[2].x0 == 20 and figure.layout.title.text == "synthetic" and len(figure.data) == 19
    assert np.allclose(np.sum([trace.y for trace in figure.data if trace.visible], axis=0), 1, atol=0.019)
    explorer.buttons.level.value = "level2"
    assert len(explorer.compared[0][1].data) == 5
    explorer.choice.alone.click()
    assert not explorer.compared and explorer.others.layout.display == "none"


def test_conformal_set_at_the_cut(classifier):
    curves = LightCurves.from_parquet(SAMPLE)
    predictions = classifier.predict(curves)
    thresholds = fit_thresholds(predictions)
    explorer = Explorer(SAMPLE, classifier, thresholds=thresholds).show("19213", cut=8)
    one = int(np.flatnonzero(predictions.SNID == "19213")[0])
    wanted = conformal_sets(predictions[np.array([one])], thresholds)[0, list(predictions.days).index(8)]
    names = [classifier.taxonomy.nodes[i] for i in np.flatnonzero(wanted)]
    assert "90% set {" + ", ".join(names) + "}" in explorer.status.value
