"""Fine-tuning with few labels: what changes and what does not, refusals, storage, members, hybrids, alerts, any tree."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc import HierarchicalClassifier, LightCurves, Taxonomy
from elasticc_hc.classification.fine_tuning import FOLDS, MIN_OBJECTS, STEPS, fold_numbers, log_ratio, shifted_calibration, updated_prior
from elasticc_hc.classification.runs import fine_tune
from elasticc_hc.loss.calibration import Calibration
from elasticc_hc.training.dataset import known_leaves
from elasticc_hc.training.model import build_network

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """Fewer choices of the number of steps, which is enough to test them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, "head", (0, 5, 15))
        patch.setitem(STEPS, "all", (0, 3))
        yield


@pytest.fixture(scope="module")
def synthetic():
    return HierarchicalClassifier.load("synthetic")


@pytest.fixture(scope="module")
def labelled(synthetic):
    """Objects of PLAsTiCC, which `synthetic` has never seen."""
    curves = LightCurves.from_parquet(SAMPLE)
    return curves[known_leaves(curves, synthetic.taxonomy) >= 0]


@pytest.fixture(scope="module")
def some(labelled):
    """Sixty objects, read until day 30."""
    chosen = labelled[np.arange(len(labelled)) % 3 == 0][:60]
    return chosen.select(chosen.days <= 30)


@pytest.fixture(scope="module")
def tuned(synthetic, some):
    return synthetic.fine_tune(some, seed=3)


def weights(classifier):
    return {name: part.clone() for name, part in classifier.network.state_dict().items()}


def test_only_the_head_changes_and_the_old_classifier_does_not(synthetic, tuned):
    before = weights(HierarchicalClassifier.load("synthetic"))
    changed = {name.split(".")[0] for name, part in weights(tuned).items() if not torch.equal(part, before[name])}
    assert changed == {"head"} and tuned is not synthetic
    assert all(torch.equal(part, before[name]) for name, part in weights(synthetic).items())
    assert all(part.requires_grad for part in [*synthetic.network.parameters(), *tuned.network.parameters()])


def test_same_seed_same_result(synthetic, some, tuned):
    torch.manual_seed(11)
    again = synthetic.fine_tune(some, seed=3)
    assert all(torch.equal(part, weights(tuned)[name]) for name, part in weights(again).items())
    assert np.array_equal(again.predict(some).probabilities, tuned.predict(some).probabilities)


def test_objects_without_a_class_are_reported_and_change_nothing(synthetic, some):
    models = some.header["ELASTICC_class"].where(np.arange(len(some)) >= 5)
    with pytest.warns(UserWarning, match="5 of 60 objects have no class of the tree or no detection: not used"):
        made = synthetic.fine_tune(replace(some, header=some.header.assign(ELASTICC_class=models)), "calibration")
    assert np.array_equal(made.calibration.offsets, synthetic.fine_tune(some[5:], "calibration").calibration.offsets)


def test_the_labels_of_other_objects_are_not_read(synthetic, some, labelled, tuned):
    """Prediction with a tuned classifier does not depend on labels."""
    others = labelled[100:120]
    bare = replace(others, header=others.header.drop(columns="ELASTICC_class"))
    assert np.array_equal(tuned.predict(others).probabilities, tuned.predict(bare).probabilities)


@pytest.mark.parametrize("n", [0, 1, MIN_OBJECTS - 1])
def test_too_few_objects(synthetic, some, n):
    with pytest.raises(ValueError, match=f"^{n} of {n} objects have a class of the tree and a detection: 20 at least$"):
        synthetic.fine_tune(some[:n])


def test_one_class_unknown_layers_and_no_labels(synthetic, some):
    alike = replace(some, header=some.header.assign(ELASTICC_class="TDE"))
    with pytest.raises(ValueError, match="^all 60 labelled objects are of class TDE: two classes at least$"):
        synthetic.fine_tune(alike)
    with pytest.raises(ValueError, match="layers 'last': choose one of calibration, head, all"):
        synthetic.fine_tune(some, layers="last")
    with pytest.raises(ValueError, match="^0 of 60 objects have a class"):
        synthetic.fine_tune(replace(some, header=some.header.drop(columns="ELASTICC_class")))
    with pytest.raises(TypeError, match="light curves are needed, not DataFrame"):
        synthetic.fine_tune(some.header)


def test_p_values_of_the_tree_belong_to_the_weights(tuned, synthetic, some, tmp_path):
    """New weights have other features, so the reference goes; a stored copy keeps it."""
    assert tuned.outliers is None and tuned.predict(some).outlier is None
    synthetic.save(tmp_path / "same")
    assert np.array_equal(HierarchicalClassifier.load(tmp_path / "same").predict(some).outlier, synthetic.predict(some).outlier)


def test_storage(tuned, some, tmp_path):
    tuned.save(tmp_path / "a" / "tuned")
    again = HierarchicalClassifier.load(tmp_path / "a" / "tuned")
    assert np.array_equal(again.predict(some).probabilities, tuned.predict(some).probabilities)
    assert np.array_equal(again.class_prior, tuned.class_prior) and again.description["fine_tuning"] == tuned.description["fine_tuning"]
    record = again.description["fine_tuning"][0]
    assert sum(record["objects"].values()) == 60 and record["seed"] == 3 and record["from"]["data"] == tuned.description["data"]
    with pytest.raises(FileExistsError, match="is not empty"):
        tuned.save(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["tuned"], "nothing half-written"
    twice = again.fine_tune(some, "calibration").description["fine_tuning"]
    assert [one["layers"] for one in twice] == ["head", "calibration"] and twice[1]["from"]["weights"] != record["from"]["weights"]
    assert "60 objects, data" in again._repr_html_() and "that of the new objects" in again._repr_html_()


def test_the_verb_stores_a_classifier_or_nothing(some, tmp_path):
    some.to_parquet(tmp_path / "few.parquet")
    made = fine_tune("synthetic", tmp_path / "few.parquet", tmp_path / "out", layers="calibration")
    assert np.array_equal(HierarchicalClassifier.load(tmp_path / "out").class_prior, made.class_prior)
    some[:5].to_parquet(tmp_path / "five.parquet")
    with pytest.raises(ValueError, match="5 of 5 objects"):
        fine_tune("synthetic", tmp_path / "five.parquet", tmp_path / "none")
    with pytest.raises(FileExistsError):
        fine_tune("synthetic", tmp_path / "few.parquet", tmp_path / "out")
    assert not (tmp_path / "none").exists()


def test_a_hybrid_keeps_its_trees_and_refits_the_mixture(labelled, tmp_path):
    hybrid = HierarchicalClassifier.load("plasticc")
    few = labelled[:40].select(labelled[:40].days <= 30)
    made = hybrid.fine_tune(few, "calibration")
    assert made.trees is hybrid.trees and not np.array_equal(made.calibration.mixture, hybrid.calibration.mixture)
    made.save(tmp_path / "tuned")
    again = HierarchicalClassifier.load(tmp_path / "tuned")
    assert np.array_equal(again.predict(few).probabilities, made.predict(few).probabilities)
    assert again.trees.booster.model_to_string() == hybrid.trees.booster.model_to_string()


def test_members_are_tuned_together(synthetic, some):
    torch.manual_seed(0)
    network = build_network(replace(synthetic.network.architecture, members=2, hidden=16)).eval()
    pair = replace(synthetic, network=network, calibration=None, class_prior=None, trees=None, description={})
    made = pair.fine_tune(some)
    before = network.state_dict()
    changed = {name.split(".")[2] for name, part in weights(made).items() if not torch.equal(part, before[name])}
    assert made.description["fine_tuning"][0]["steps"] > 0 and changed == {"head"}
    assert {name.split(".")[1] for name, part in weights(made).items() if not torch.equal(part, before[name])} == {"0", "1"}
    assert made.calibration is not None and np.isclose(made.class_prior.sum(), 1)


def test_observations_after_the_newest_alert_are_not_read(synthetic, some):
    alerts = replace(some, header=some.header.assign(ALERT_MJD=some.trigger_mjd + 5))
    cut = alerts.select(alerts.MJD <= np.repeat(alerts.known_until, alerts.counts))
    assert cut.n_obs < alerts.n_obs
    made, expected = (synthetic.fine_tune(curves, "calibration") for curves in (alerts, cut))
    assert np.allclose(made.calibration.offsets, expected.calibration.offsets, atol=1e-6)


def test_all_layers(synthetic, some):
    few = some[:MIN_OBJECTS]
    made = synthetic.fine_tune(few, "all")
    changed = {name.split(".")[0] for name, part in weights(made).items() if not torch.equal(part, weights(synthetic)[name])}
    assert made.description["fine_tuning"][0]["steps"] == 3 and changed == {"static", "project", "encoder", "head"}


@given(st.lists(st.integers(0, 18), min_size=20, max_size=200), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_folds_and_prior(rows, seed):
    tree = Taxonomy.from_yaml("elasticc2")
    leaf = tree.leaf_nodes[rows]
    part = fold_numbers(leaf, seed)
    assert set(part) == set(range(FOLDS)) and np.bincount(part).max() - np.bincount(part).min() <= 1
    for node in np.unique(leaf):
        spread = np.bincount(part[leaf == node], minlength=FOLDS)
        assert spread.max() - spread.min() <= 1
    old = np.full(19, 1 / 19)
    new = updated_prior(leaf, old, tree)
    assert np.isclose(new.sum(), 1) and (new > 0).all()
    counts = np.bincount(rows, minlength=19)
    assert np.allclose(np.sign(np.round(new - old, 12)), np.sign(np.round(counts / len(rows) - old, 12)))


def test_shares_of_zero_shift_nothing():
    assert log_ratio(np.array([0.0, 0.5, 0.5]), np.array([0.5, 0.0, 0.25])).tolist() == [0, 0, np.log(2)]


def test_shift_of_a_flat_tree_is_exact(synthetic):
    """Below a parent whose children are leaves, the offsets multiply the shares by the ratio of the class mixes."""
    tree = synthetic.taxonomy
    old, new = np.full(19, 1 / 19), np.linspace(1, 3, 19) / np.linspace(1, 3, 19).sum()
    shifted = shifted_calibration(None, old, new, tree)
    fast = np.flatnonzero(np.array(tree.parents) == tree.index("Fast"))
    rows = np.searchsorted(tree.leaf_nodes, fast)
    found = np.exp(shifted.offsets[fast, 0])
    assert np.allclose(found / found.sum(), new[rows] / new[rows].sum()) and isinstance(shifted, Calibration)
    assert json.dumps(shifted.to_dict())
