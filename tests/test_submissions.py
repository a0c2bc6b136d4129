"""Answers of other classifiers: every format that the package writes is read again; what is wrong is refused in one line."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import fastavro
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_results import call

from elasticc_hc import HierarchicalClassifier, LightCurves, convert, evaluate
from elasticc_hc.classification.broker_answers import class_nodes, read_answers
from elasticc_hc.classification.brokers import BROKER_CLASSIFICATION, BROKER_FORMATS, broker_messages, encode_message, fink_code, to_broker
from elasticc_hc.classification.prediction_sets import cut_tree
from elasticc_hc.classification.state_store import NightlyAnswers
from elasticc_hc.evaluation.submissions import elasticc_alerts, read_submission, read_submissions
from elasticc_hc.lightcurves.tables import SAMPLE
from elasticc_hc.taxonomy.taxonomy import Taxonomy

ROOT = Path(__file__).resolve().parent.parent
ABOUT = {"brokerName": "b", "brokerVersion": "1", "classifierName": "c", "classifierParams": ""}
TREES = {name: Taxonomy.from_yaml(name) for name in ("elasticc2", "plasticc", "flat", "desc")}
DAYS = np.array([0.0, 1, 4, 16, 64])


def make_curves(n=5, name="elasticc2", seed=0):
    """Light curves with two points before the first detection, and detections at random times after it."""
    rng, tree = np.random.default_rng(seed), TREES[name]
    rows = []
    for k in range(n):
        after = np.sort(np.append(0, rng.uniform(0.1, 100, rng.integers(1, 12))))
        mjd = 60000 + k + np.concatenate([[-20.0, -10.0], after])
        flag = np.where(np.arange(len(mjd)) < 2, 0, np.where((rng.random(len(mjd)) < 0.7) | (np.arange(len(mjd)) == 2), 4096, 0))
        rows.append(pd.DataFrame({"SNID": str(101 + k), "MJD": mjd, "BAND": "r", "FLUXCAL": 50.0, "FLUXCALERR": 5.0, "PHOTFLAG": flag}))
    labels = [tree.leaves[k % len(tree.leaves)] for k in range(n)]
    return LightCurves.from_frame(pd.concat(rows), pd.DataFrame({"SNID": [str(101 + k) for k in range(n)], "ELASTICC_class": labels}))


def alerts_of(curves):
    """Number, object and time of every alert, as in ELAsTiCC."""
    owner, flat = curves.object_index[curves.detected], np.flatnonzero(curves.detected)
    number = curves.header["SNID"].astype(np.int64).to_numpy()[owner] * 100_000 + flat - curves.offsets[owner]
    return pd.DataFrame({"alertId": number, "diaSourceId": number, "SNID": curves.header["SNID"].astype(str).to_numpy()[owner],
                         "MJD": curves.MJD[flat], "day": curves.days[flat], "published": 0, "owner": owner})  # fmt: skip


def random_p(tree, n, seed=0):
    leaves = np.random.default_rng(seed).dirichlet(np.full(len(tree.leaves), 0.3), n)
    return (leaves @ tree.paths[tree.leaf_nodes]).astype(np.float32)


def expected(alerts, p, n, days=DAYS):
    """The newest answer at or before each day, by a plain loop."""
    made = np.full((n, len(days), p.shape[1]), np.nan)
    for row in range(n):
        for column, day in enumerate(days):
            said = np.flatnonzero((alerts.owner == row) & (alerts.day <= day + 1e-6))
            if len(said):
                made[row, column] = p[said[alerts.day.to_numpy()[said].argmax()]]
    return made


def write_nightly(folder, alerts, p, tree):
    store = NightlyAnswers(folder, tree.nodes)
    store.add(alerts.rename(columns={"MJD": "ALERT_MJD"}), p)
    store.close()
    (folder / ".answers.sqlite").unlink()
    return folder


def written(kind, path, alerts, p, tree):
    """Answers to alerts in one of the formats of the package."""
    if kind == "nightly":
        return write_nightly(path, alerts, p, tree)
    records = broker_messages(alerts, p, tree, ABOUT)
    if kind == "avro":
        path.with_suffix(".avro").write_bytes(b"".join(encode_message(record) for record in records))
    elif kind == "container":
        with open(path.with_suffix(".avro"), "wb") as opened:
            fastavro.writer(opened, BROKER_CLASSIFICATION, records)
    elif kind == "json":
        path.with_suffix(".json").write_bytes(b"\n".join(encode_message(record, "json") for record in records))
    else:
        path.mkdir()
        for number, record in enumerate(records):
            (path / f"{number}.avro").write_bytes(encode_message(record))
        return path
    return path.with_suffix(".json" if kind == "json" else ".avro")


# --- every format that the package writes ---


@pytest.mark.parametrize("kind", ["avro", "container", "json", "folder", "nightly"])
@pytest.mark.parametrize("name", ["elasticc2", "plasticc"])
def test_messages_and_nights(kind, name, tmp_path):
    curves, tree = make_curves(6, name), TREES[name]
    alerts = alerts_of(curves)
    p = random_p(tree, len(alerts))
    one = read_submission(written(kind, tmp_path / "a", alerts, p, tree), curves, tree, DAYS)
    assert np.allclose(one.predictions.probabilities, expected(alerts, p, 6), atol=1e-6, equal_nan=True)
    assert one.predictions.truth.tolist() == tree.node_of(curves.header["ELASTICC_class"]).tolist() and one.predictions.first_alert
    assert one.counts["answers"] == len(alerts) and one.counts["objects answered"] == 6


@given(st.integers(0, 2**32 - 1), st.sampled_from(["elasticc2", "plasticc", "flat"]), st.sampled_from(BROKER_FORMATS))
@settings(max_examples=40, deadline=None)
def test_formats_of_brokers(tmp_path_factory, seed, name, format):
    tree = TREES[name]
    assume(format != "elasticc" or None not in [tree.class_ids[leaf] for leaf in tree.leaf_nodes])
    path, rng = tmp_path_factory.mktemp("brokers"), np.random.default_rng(seed)
    curves, p = make_curves(4, name, seed % 100), random_p(tree, 4, seed)
    rows = to_broker(p, format, tree, curves.header["SNID"])
    if format == "alerce" and seed % 2:
        pd.DataFrame(rows).sample(frac=1, random_state=seed % 2**31).to_csv(path / "a.csv", index=False)
    else:
        (path / "a.json").write_text(json.dumps([rows[k] for k in rng.permutation(len(rows))]))
    one = read_submission(next(path.iterdir()), curves, tree, [8])
    assert np.allclose(one.predictions.probabilities[:, 0], p, atol=1e-3 if format == "lasair" else 1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["parquet", "csv", "csv.gz", "jsonl"]), st.sampled_from(["nodes", "leaves", "ids"]))
@settings(max_examples=40, deadline=None)
def test_a_column_per_class_and_any_order_of_rows(tmp_path_factory, seed, suffix, columns):
    """As ORACLE's frames: columns of nodes, of leaves, or of class numbers; times as MJD, JD or days; rows and columns shuffled."""
    path, tree, curves = tmp_path_factory.mktemp("wide"), TREES["elasticc2"], make_curves(5, seed=seed % 100)
    alerts, rng = alerts_of(curves), np.random.default_rng(seed)
    p = random_p(tree, len(alerts), seed)
    time = [{"MJD": alerts.MJD}, {"i:jd": alerts.MJD + 2400000.5}, {"day": alerts.day}][seed % 3]
    chosen = np.arange(len(tree.nodes)) if columns == "nodes" else tree.leaf_nodes
    names = [str(tree.class_ids[node]) if columns == "ids" else tree.nodes[node] for node in chosen]
    identifier = ["oid", "i:objectId", "diaObjectId"][seed % 3]
    table = pd.DataFrame({identifier: alerts.SNID} | time | dict(zip(names, p[:, chosen].T, strict=True)))
    table = table.iloc[rng.permutation(len(table))][rng.permutation(table.columns)]
    file = path / f"a.{suffix}"
    if suffix == "parquet":
        table.to_parquet(file)
    elif suffix == "jsonl":
        table.to_json(file, orient="records", lines=True, double_precision=15)
    else:
        table.to_csv(file, index=False)
    days = DAYS + (seed % 3 == 1) * 1e-4  # a Julian date has 4e-10 of a day at best, and JSON fifteen digits
    one = read_submission(file, curves, tree, days)
    assert np.allclose(one.predictions.probabilities, expected(alerts, p, 5, days), atol=1e-6, equal_nan=True)


def test_predictions_are_reproduced_exactly(tmp_path):
    curves = LightCurves.from_parquet(SAMPLE)[::7]
    predictions = HierarchicalClassifier.load("plasticc").predict(curves, first_alert=True)
    predictions.to_parquet(tmp_path / "p.parquet")
    one = read_submission(tmp_path / "p.parquet", curves, predictions.taxonomy).predictions
    for name in ("SNID", "days", "probabilities", "truth", "reached"):
        assert np.array_equal(getattr(one, name), getattr(predictions, name)), name
    assert one.first_alert
    until = curves.trigger_mjd + np.where(np.arange(len(curves)) % 2, 100, 20)
    alerts = replace(curves, header=curves.header.assign(ALERT_MJD=until))
    begun = replace(predictions, reached=predictions.days <= np.where(np.arange(len(curves)) % 2, 100, 20)[:, None])
    begun.to_parquet(tmp_path / "begun.parquet")
    one = read_submission(tmp_path / "begun.parquet", alerts, predictions.taxonomy).predictions
    assert np.array_equal(one.reached, begun.reached), "no answer stands after the newest alert"
    assert np.array_equal(one.probabilities[one.reached], begun.probabilities[begun.reached])


def test_a_cut_through_the_tree_is_divided_equally(tmp_path):
    tree, curves = TREES["elasticc2"], make_curves(30)
    p = random_p(tree, 30)
    (tmp_path / "cut.json").write_text(json.dumps(to_broker(p, "elasticc", tree, curves.header["SNID"], threshold=0.6)))
    one = read_submission(tmp_path / "cut.json", curves, tree, [8])
    found = one.predictions.probabilities[:, 0]
    members = cut_tree(p, 0.6, tree)[1]
    assert np.allclose(found[members], p[members], atol=1e-5), "the reported nodes keep their probability"
    inner = members.copy()
    inner[:, tree.leaf_nodes] = False
    assert one.counts["divided among the leaves of an inner node"] == (np.where(inner, p, 0) > 0.01).any(1).sum() > 5
    for row, node in zip(*np.nonzero(inner), strict=True):
        below = found[row, tree.leaf_nodes[tree.paths[tree.leaf_nodes, node]]]
        assert np.allclose(below, p[row, node] / len(below), atol=1e-5)


def test_fink_like_lists_of_broad_classes(tmp_path):
    """Five numbers in the order of Fink's codes are the nodes of level 2."""
    tree, curves = TREES["elasticc2"], make_curves(3)
    level2 = tree.level("level2")
    codes = [fink_code(tree.class_ids[node] // 10 * 10) for node in level2]
    assert codes == sorted(codes) and len(codes) == 5
    p = random_p(tree, 3)
    rows = pd.DataFrame({"i:objectId": curves.header["SNID"], "i:jd": curves.trigger_mjd + 2400000.5, "f:cats_broad_class": 11})
    rows["f:cats_broad_array_prob"] = p[:, level2].tolist()
    rows.to_parquet(tmp_path / "fink.parquet")
    one = read_submission(tmp_path / "fink.parquet", curves, tree, [1])
    assert np.allclose(one.predictions.probabilities[:, -1, level2], p[:, level2], atol=1e-6)
    rows["f:cats_broad_array_prob"] = p[:, :4].tolist()
    rows.to_parquet(tmp_path / "fink.parquet")
    with pytest.raises(ValueError, match="neither 5 nor 19 entries"):
        read_submission(tmp_path / "fink.parquet", curves, tree, [1])


# --- what is left out is counted ---


def test_counts(tmp_path):
    curves, tree = make_curves(6), TREES["elasticc2"]
    alerts = alerts_of(curves)
    alerts = alerts[alerts.owner != 5].reset_index(drop=True)
    p = random_p(tree, len(alerts))
    p[0] = np.nan
    records = broker_messages(alerts, p, tree, ABOUT)
    (tmp_path / "a.avro").write_bytes(b"".join(map(encode_message, [*records, *records[3:6]])))
    one = read_submission(tmp_path / "a.avro", curves, tree)
    assert {name: one.counts[name] for name in ("answers", "declined", "repeated", "objects without an answer")} == {
        "answers": len(alerts) + 2, "declined": 1, "repeated": 3, "objects without an answer": 1}  # fmt: skip
    early = pd.DataFrame({"SNID": ["101", "101"], "day": [-3.0, 5.0], "SNIa": [1.0, 0.0], "KN": [0.0, 1.0]})
    early.to_csv(tmp_path / "b.csv", index=False)
    one = read_submission(tmp_path / "b.csv", curves, tree, [1, 8])
    assert one.counts["before the first detection or without one"] == 1 and one.predictions.reached.tolist() == [[False, True]]
    silent = replace(curves, PHOTFLAG=np.zeros_like(curves.PHOTFLAG))
    with pytest.raises(ValueError, match="no answer at or before day"):
        read_submission(written("nightly", tmp_path / "n", alerts, p, tree), silent, tree)


def test_the_share_of_other_is_spread_over_all_leaves(tmp_path):
    curves, tree = make_curves(4), TREES["elasticc2"]
    alerts = alerts_of(curves)
    p, outlier = random_p(tree, len(alerts)), np.where(np.arange(len(alerts)) % 2, 0.002, 0.3)
    records = broker_messages(alerts, p, tree, ABOUT, outlier)
    (tmp_path / "a.avro").write_bytes(b"".join(map(encode_message, records)))
    (tmp_path / "b.json").write_bytes(b"\n".join(encode_message(record, "json") for record in records))
    other, leaves = np.where(outlier < 0.01, 0.8, 0.0)[:, None], np.isin(np.arange(len(tree.nodes)), tree.leaf_nodes)
    evenly = leaves / leaves.sum() @ tree.paths
    for name in ("a.avro", "b.json"):
        one = read_submission(tmp_path / name, curves, tree, DAYS)
        wanted = expected(alerts, p * (1 - other) + evenly * other, 4)
        assert np.allclose(one.predictions.probabilities, wanted, atol=1e-5, equal_nan=True)


def test_other_surveys_need_a_table_of_alerts(tmp_path):
    curves, tree = make_curves(4), TREES["elasticc2"]
    alerts = alerts_of(curves)
    p, numbers = random_p(tree, len(alerts)), np.random.default_rng(0).permutation(len(alerts)) + 2**40
    records = broker_messages(alerts.assign(alertId=numbers), p, tree, ABOUT)
    (tmp_path / "a.avro").write_bytes(b"".join(map(encode_message, records)))
    with pytest.raises(ValueError, match="not the number of a detection.*--alerts"):
        read_submission(tmp_path / "a.avro", curves, tree, DAYS)
    alerts.assign(alertId=numbers)[["alertId", "SNID", "MJD"]].to_csv(tmp_path / "alerts.csv", index=False)
    one = read_submissions([tmp_path / "a.avro"], curves, tree, DAYS[1:], alerts=tmp_path / "alerts.csv")["a"]
    assert np.allclose(one.predictions.probabilities, expected(alerts, p, 4), atol=1e-6, equal_nan=True)
    with pytest.raises(ValueError, match="is not in the table of alerts"):
        read_submission(tmp_path / "a.avro", curves, tree, DAYS, alerts=pd.read_csv(tmp_path / "alerts.csv", dtype={"SNID": str})[1:])


def test_several_classifiers_in_one_table(tmp_path):
    curves, tree = make_curves(3), TREES["elasticc2"]
    rows = [row for k in (0, 1) for row in to_broker(random_p(tree, 3, k), "alerce", tree, curves.header["SNID"], name=f"c{k}")]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="answers of 6 classifiers .*: keep the rows of one"):
        read_submission(tmp_path / "a.csv", curves, tree, [8])
    pd.DataFrame(rows).query("classifier_name.str.startswith('c1')").to_csv(tmp_path / "a.csv", index=False)
    one = read_submission(tmp_path / "a.csv", curves, tree, [8])
    assert set(one.left_out) == {"classifier c1_root", "classifier c1_level2"}
    assert np.allclose(one.predictions.probabilities[:, 0], random_p(tree, 3, 1), atol=1e-6)


# --- what is refused ---


@pytest.mark.parametrize("change, reason", [
    (lambda t: t.assign(SNIa=t.SNIa + 0.1), "object 10[1-5]: the probabilities sum to 1"),
    (lambda t: t.assign(KN=np.nan), "nan is not a probability"),
    (lambda t: t.assign(KN=-0.5, SNIa=t.SNIa + 0.5 + t.KN), "-0.5 is not a probability"),
    (lambda t: t.assign(redshift=0.3), "class redshift is not in the tree elasticc2"),
    (lambda t: t.rename(columns={"KN": "121"}), "class 121 is not in the tree"),
    (lambda t: t.assign(SNID="9"), "object 9 has no light curve in the data"),
    (lambda t: t.assign(SNID=1.5), "may lose digits|has no light curve"),
    (lambda t: pd.concat([t, t.assign(SNIa=t.KN, KN=t.SNIa)]), "object 10[1-5]: two different answers for day"),
    (lambda t: t.drop(columns="SNID"), "no column of objects"),
    (lambda t: t.drop(columns="MJD"), "no day, MJD or alert"),
    (lambda t: t[:0], "there is no answer in it"),
    (lambda t: t.assign(MJD="soon"), "soon"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_wrong_tables(change, reason, suffix, tmp_path):
    curves, tree = make_curves(5), TREES["elasticc2"]
    alerts = alerts_of(curves)
    p = random_p(tree, len(alerts))
    table = pd.DataFrame({"SNID": alerts.SNID, "MJD": alerts.MJD} | dict(zip(tree.leaves, p[:, tree.leaf_nodes].T, strict=True)))
    file = tmp_path / f"wrong.{suffix}"
    changed = change(table)
    changed.to_csv(file, index=False) if suffix == "csv" else changed.to_parquet(file)
    with pytest.raises(ValueError, match=reason) as caught:
        read_submission(file, curves, tree, DAYS)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from(["a.avro", "a.json", "a.csv", "a.jsonl", "a.parquet", "a.csv.gz", "a.txt"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, data, name, framed):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") and framed else data)
    with pytest.raises(ValueError) as caught:
        read_submission(path, make_curves(1), TREES["elasticc2"], [8])
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_damaged_messages_are_refused_or_complete(tmp_path_factory, seed):
    """A changed or cut file gives an error, or answers that are still probabilities."""
    tree, curves, rng = TREES["elasticc2"], make_curves(3), np.random.default_rng(seed)
    alerts = alerts_of(curves)
    data = bytearray(b"".join(map(encode_message, broker_messages(alerts, random_p(tree, len(alerts)), tree, ABOUT))))
    for _ in range(rng.integers(1, 5)):
        data[rng.integers(0, len(data))] = rng.integers(0, 256)
    path = tmp_path_factory.mktemp("damaged") / "a.avro"
    path.write_bytes(data[: rng.integers(1, len(data) + 1)])
    try:
        found = read_submission(path, curves, tree, DAYS).predictions
    except ValueError as error:
        assert "\n" not in str(error) and "a.avro" in str(error)
    else:
        assert np.allclose(found.probabilities[found.reached][:, tree.leaf_nodes].sum(1), 1, atol=1e-5)


# --- classes ---


@pytest.mark.parametrize("name", sorted(TREES))
def test_names_labels_and_numbers_of_all_nodes(name):
    tree = TREES[name]
    nodes = np.arange(len(tree.nodes))
    assert np.array_equal(class_nodes(tree.nodes, tree), nodes) and np.array_equal(class_nodes(tree.labels, tree), nodes)
    numbered = [node for node in nodes if tree.class_ids[node] is not None]
    assert class_nodes([str(tree.class_ids[node]) for node in numbered], tree).tolist() == numbered


def test_every_number_of_the_desc_taxonomy_has_a_place():
    desc, tree = TREES["desc"], TREES["elasticc2"]
    numbers = [number for number in desc.class_ids if number is not None]
    place = dict(zip(numbers, (tree.nodes[node] for node in class_nodes(list(map(str, numbers)), tree)), strict=True))
    assert (place[2222], place[2220], place[2326], place[2330]) == ("SNIa", "SN", "Periodic", "AGN")
    assert {place[number] for number in (0, 100, 200, 300, 1000, 1100, 2100)} == {"Alert"}
    with pytest.raises(ValueError, match="no node 'Quasar'"):
        class_nodes(["QSO"], tree, {"QSO": "Quasar"})


def test_gentypes_are_no_classes():
    """Fink's code 11 is not the GENTYPE 11."""
    with pytest.raises(ValueError, match="class 11 is not in the tree"):
        class_nodes(["11"], TREES["elasticc2"])


# --- the command ---


def test_no_label_no_score(tmp_path, capsys):
    curves, tree = make_curves(4), TREES["elasticc2"]
    alerts = alerts_of(curves)
    replace(curves, header=curves.header.drop(columns="ELASTICC_class")).to_parquet(tmp_path / "bare.parquet")
    file = written("avro", tmp_path / "a", alerts, random_p(tree, len(alerts)), tree)
    code, said = call(capsys, "evaluate", "--predictions", file, tmp_path / "bare.parquet", "--out", tmp_path / "results")
    assert code == 1 and "no object has a label (column ELASTICC_class): no scores without labels" in said and said.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_one_file_of_answers(tmp_path, capsys):
    curves, tree = make_curves(40), TREES["elasticc2"]
    alerts = alerts_of(curves)
    curves.to_parquet(tmp_path / "test.parquet")
    file = written("avro", tmp_path / "theirs", alerts, random_p(tree, len(alerts)), tree)
    words = ("evaluate", "--predictions", file, tmp_path / "test.parquet", "--out", tmp_path / "results", "--draws", "0", "--day", "8")
    assert call(capsys, *words) == (0, "")
    made = {path.name for path in (tmp_path / "results").iterdir()}
    assert {"report.html", "metrics.csv", "histories.csv", "histories.png", "answers.csv", "answers.json", "predictions.parquet"} <= made
    facts = json.loads((tmp_path / "results/provenance.json").read_text())
    assert facts["answers"][0]["name"] == "theirs.avro" and facts["read"]["objects answered"] == 40 and "weights" not in facts
    assert json.loads((tmp_path / "results/answers.json").read_text())["theirs"]["classes"]["200"] == "Alert"
    assert "read: objects answered" in (tmp_path / "results/report.html").read_text()


def test_a_run_and_answers_are_not_mixed(tmp_path):
    with pytest.raises(ValueError, match="scored alone"):
        evaluate("plasticc", SAMPLE, tmp_path / "r", predictions=[tmp_path / "a.csv"])
    with pytest.raises(ValueError, match="a run has its own tree"):
        evaluate("plasticc", SAMPLE, tmp_path / "r", taxonomy="plasticc")
    assert list(tmp_path.iterdir()) == []


def test_read_answers_names_what_it_found(tmp_path):
    (tmp_path / "a.json").write_text('[{"name": "x", "comment": "y"}]')
    with pytest.raises(ValueError, match="no column of objects and classes among name, comment"):
        read_answers(tmp_path / "a.json", TREES["flat"])


# --- real numbers of alerts ---


def test_numbers_of_elasticc_alerts(tmp_path):
    """Every alert of the DESC's own table of the real ELAsTiCC2 objects has its object and time."""
    place = ROOT.parent / "shared/data/elasticc2_train_01_1percent"
    if not place.is_dir():
        pytest.skip(f"{place} is not there: no real ELAsTiCC2 files")
    convert(place, tmp_path / "converted", jobs=1)
    curves = LightCurves.concatenate([LightCurves.from_parquet(file) for file in sorted((tmp_path / "converted").glob("*.parquet"))])
    truth = pd.read_csv(place / "expected/diasource.tsv.gz", sep="\t")
    found = elasticc_alerts(truth["diasource_id"].to_numpy(), curves)
    assert len(truth) == 1829 and np.array_equal(found["SNID"], truth["diaobject_id"].astype(str))
    assert np.abs(found["MJD"] - truth["midpointtai"]).max() < 1e-6
