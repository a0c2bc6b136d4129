"""Vectors of objects and the search of similar ones: causal, exact, without the object itself, stored without pickle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestNeighbors

from elasticc_hc import HierarchicalClassifier, LightCurves
from elasticc_hc.classification.embedding import SimilarObjects, most_similar, unit_length
from elasticc_hc.classification.fine_tuning import known_part, weights_fingerprint
from elasticc_hc.training.model import build_network

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


@pytest.fixture(scope="module")
def classifier():
    return HierarchicalClassifier.load("synthetic")


@pytest.fixture(scope="module")
def curves():
    return LightCurves.from_parquet(SAMPLE)


@pytest.fixture(scope="module")
def index(classifier, curves):
    return SimilarObjects.from_curves(classifier, curves, 64)


@pytest.mark.parametrize("day", [0, 3, 64])
def test_later_observations_and_labels_change_nothing(classifier, curves, day):
    few = curves[:40]
    later = few.days > day
    changed = replace(few, FLUXCAL=np.where(later, 1e4, few.FLUXCAL).astype(np.float32), header=few.header.drop(columns="ELASTICC_class"))
    assert later.any()
    expected = classifier.embed(few, day)
    assert np.array_equal(classifier.embed(changed, day), expected)
    assert np.abs(classifier.embed(few.select(~later)) - expected).max() < 1e-5


def test_the_newest_alert_ends_the_light_curve(classifier, curves):
    few = curves[:20]
    alerts = replace(few, header=few.header.assign(ALERT_MJD=few.trigger_mjd + 8))
    assert (known_part(alerts).days <= 8 + 1e-5).all() and known_part(few).n_obs == few.n_obs
    assert np.abs(classifier.embed(alerts) - classifier.embed(few, 8)).max() < 1e-5


def test_features_are_those_of_the_head_and_of_each_member(classifier, curves):
    few = curves[:6]
    torch.manual_seed(0)
    pair = build_network(replace(classifier.network.architecture, members=2, hidden=8)).eval()
    double = replace(classifier, network=pair)
    singles = [replace(classifier, network=member).embed(few, 30) for member in pair.members]
    assert np.allclose(double.embed(few, 30), np.concatenate(singles, axis=1), atol=1e-6)
    assert double.embed(few, 30).dtype == np.float32


def test_objects_without_a_detection_and_wrong_input(classifier, curves):
    few = curves[:5]
    silent = replace(few, PHOTFLAG=np.where(few.object_index == 2, 0, few.PHOTFLAG))
    assert len(classifier.embed(silent)) == 4
    index = SimilarObjects.from_curves(classifier, silent)
    assert index.SNID.tolist() == np.delete(few.header["SNID"].astype(str).to_numpy(), 2).tolist()
    assert len(classifier.embed(few[:0])) == 0 and len(SimilarObjects.from_curves(classifier, few[:0])) == 0
    with pytest.raises(TypeError, match="light curves are needed, not DataFrame"):
        classifier.embed(few.header)


def test_neighbours_share_the_class(index, curves):
    label = curves.header["ELASTICC_class"].to_numpy()
    rows, near = most_similar(index.vectors, index.vectors, 2)
    assert (rows[:, 0] == np.arange(len(index))).all() and np.allclose(near[:, 0], 1, atol=1e-5)
    assert (label[rows[:, 1]] == label).mean() > 0.5, "chance is 1/14"


NUMBERS = st.floats(-3, 3, width=16, allow_subnormal=False)  # libraries may set the processor to flush these to zero


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(5)), elements=NUMBERS), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_the_search_is_exact(vectors, count):
    vectors = unit_length(vectors + np.float32(0.01))
    rows, near = most_similar(vectors, vectors[:7], count)
    every = np.sort(vectors[:7] @ vectors.T, axis=1)[:, ::-1][:, :count]
    assert rows.shape == near.shape == every.shape and np.allclose(near, every, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in rows) and (np.diff(near, axis=1) <= 0).all()


def test_agrees_with_scikit_learn(index):
    exact = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(index.vectors)
    distance, rows = exact.kneighbors(index.vectors)
    mine, near = most_similar(index.vectors, index.vectors, 6)
    assert np.allclose(1 - distance, near, atol=1e-5) and (np.sort(rows) == np.sort(mine)).mean() > 0.999


def test_a_query_leaves_the_object_out_and_keeps_the_order(classifier, curves, index):
    table = index.query(classifier, curves[[3, 0, 7]], count=4)
    assert table["SNID"].tolist() == np.repeat(curves.header["SNID"].astype(str).to_numpy()[[3, 0, 7]], 4).tolist()
    assert (table["SNID"] != table["similar"]).all() and (table.groupby("SNID")["similarity"].diff().dropna() <= 0).all()
    stranger = curves[[3]]
    stranger = replace(stranger, header=stranger.header.assign(SNID="new"))
    assert index.query(classifier, stranger, count=1)["similar"][0] == str(curves.header["SNID"].iloc[3])
    assert len(index.query(classifier, curves[[0]], count=1000)) == len(index) - 1


def test_other_weights_are_refused(classifier, curves, index):
    other = HierarchicalClassifier.load("plasticc")
    assert weights_fingerprint(other.network) != weights_fingerprint(classifier.network) == index.weights
    with pytest.raises(ValueError, match="an index of 224 objects made with other weights than those of this classifier"):
        index.query(other, curves[[0]])


def test_storage(index, tmp_path):
    path = tmp_path / "index.safetensors"
    index.save(path)
    again = SimilarObjects.load(path)
    assert np.array_equal(again.vectors, index.vectors) and again.SNID.tolist() == index.SNID.tolist()
    assert again.classes.tolist() == index.classes.tolist() and (again.day, again.weights) == (index.day, index.weights)
    assert [one.name for one in tmp_path.iterdir()] == ["index.safetensors"]
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {"__metadata__", "vectors"}, "a plain safetensors file"


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80\x04K\x01.", b"\x02\0\0\0\0\0\0\0{}"])
def test_broken_files(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: not an index of similar objects, or a damaged one"):
        SimilarObjects.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        SimilarObjects.load(tmp_path / "none")


def test_unknown_classes_are_empty(classifier, curves):
    bare = replace(curves[:8], header=curves[:8].header.drop(columns="ELASTICC_class"))
    assert SimilarObjects.from_curves(classifier, bare).classes.tolist() == [""] * 8
