"""Calibration, priors, cuts, brokers' forms and conformal sets on any tree; and that a training run ends calibrated."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.classification.brokers import BROKER_FORMATS, RESIDUAL_CLASS_ID, to_broker
from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.prediction_sets import conformal_sets, coverage, cut_tree, fit_thresholds, merge_complete_siblings
from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.loss.calibration import (
    DAY_KNOTS,
    DETECTION_KNOTS,
    Calibration,
    apply_calibration,
    fit_calibration,
    leaf_prior,
    leaf_rates,
    phase_weights,
    prior_names,
    prior_table,
    shift_prior,
)
from elasticc_hc.loss.loss import node_probabilities
from elasticc_hc.taxonomy.taxonomy import LEVELS, Taxonomy

WIDTH = 1 + len(DAY_KNOTS) + len(DETECTION_KNOTS)
SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"


@st.composite
def answers(draw, most=60):
    """A random tree (depth 1–6) with class numbers for some of its nodes, and probabilities of a few objects."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, deepest, parents, depths = draw(st.integers(2, most)), draw(st.integers(1, 6)), [-1], [0]
    for _ in range(n - 1):
        parents.append(int(rng.choice(np.flatnonzero(np.array(depths) < deepest))))
        depths.append(depths[parents[-1]] + 1)
    nodes = [{"name": str(i), "parent": None if p < 0 else str(p)} for i, p in enumerate(parents)]
    tree = Taxonomy.from_dict({"name": "random", "nodes": nodes})
    logits = torch.from_numpy(rng.normal(0, draw(st.sampled_from([0.5, 3, 20])), (4, n)))
    return tree, node_probabilities(logits, tree).numpy(), rng


def adds_up(p, tree):
    """Leaves sum to one, siblings to their parent."""
    assert p[..., tree.leaf_nodes].sum(-1) == pytest.approx(1, abs=1e-6)
    for parent in set(tree.parents[1:]):
        assert p[..., tree.parents == parent].sum(-1) == pytest.approx(p[..., parent], abs=1e-6)


# --- calibration ---


@settings(deadline=None, max_examples=25)
@given(answers(), st.floats(0, 5000), st.integers(1, 500))
def test_calibrated_probabilities_add_up_on_any_tree(case, day, detections):
    tree, _, rng = case
    calibration = Calibration(rng.normal(0, 0.3, (int(tree.groups.max()) + 1, WIDTH)), rng.normal(0, 1, (len(tree.nodes), WIDTH)), tree)
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())), tree)
    logits = torch.from_numpy(rng.normal(0, 5, (4, len(tree.nodes))))
    phase = torch.full((4,), day), torch.full((4,), detections)
    adds_up(node_probabilities(apply_calibration(logits, again, *phase), tree).numpy(), tree)
    assert torch.equal(apply_calibration(logits, again, *phase)[:, 1:], apply_calibration(logits, calibration, *phase)[:, 1:])
    weights = phase_weights(*phase)[0].numpy()
    expected = logits[0, -1].item() * np.exp(-weights @ calibration.rows[tree.groups[-1]]) + weights @ calibration.offsets[-1]
    assert apply_calibration(logits, again, *phase)[0, -1].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_class_weights_that_fade_are_taken_back():
    """Answers tilted at the first detections only: the offsets bring the true frequencies back at both ends."""
    tree, rng, n = Taxonomy.from_edges([("A", "B"), ("A", "C")]), np.random.default_rng(0), 4000
    leaf = torch.from_numpy(1 + (rng.random(n) < 0.2).astype(int))
    days, detections = torch.tensor([[0.0, 1023.0]]).expand(n, 2), torch.tensor([[1, 64]]).expand(n, 2)
    logits = torch.zeros(n, 2, 3)
    logits[..., 2] = np.log(0.2 / 0.8)
    logits[:, 0, 2] += 1.5
    found = fit_calibration(logits, leaf, days, detections, tree)
    before = node_probabilities(logits, tree)[0, :, 2]
    after = node_probabilities(apply_calibration(logits, found, days, detections), tree)[0, :, 2]
    assert before[0] > 0.5 and before[1] == pytest.approx(0.2) and after == pytest.approx([0.2, 0.2], abs=0.02)


@pytest.mark.parametrize("part", ["log_temperature", "offset"])
def test_a_calibration_of_another_tree_is_refused_by_name(part):
    tree = Taxonomy.from_yaml("plasticc")
    state = Calibration(np.zeros((8, WIDTH)), np.zeros((21, WIDTH)), tree).to_dict()
    del state[part]["SN"]
    with pytest.raises(ValueError, match="SN"):
        Calibration.from_dict(state, tree)


def test_the_classifier_in_the_package_is_calibrated():
    classifier = HierarchicalClassifier.from_pretrained("plasticc")
    assert classifier.calibration is not None and classifier.class_prior.sum() == pytest.approx(1)
    curves = LightCurves.from_parquet(SAMPLE)[:40]
    bare = replace(classifier, calibration=None).predict(curves)
    said = classifier.predict(curves)
    adds_up(said.probabilities, said.taxonomy)
    assert np.abs(said.probabilities - bare.probabilities).max() > 0.05
    detections = classifier.predict_detections(curves).groupby("SNID", sort=False).last()
    seen = curves.select(curves.MJD <= curves.MJD[curves.last_detection][curves.object_index])
    at_last_detection = classifier.predict(seen).probabilities[:, -1]
    assert np.allclose(detections.loc[said.SNID, list(said.taxonomy.nodes)], at_last_detection, atol=1e-5)


def test_a_checkpoint_with_another_tree_is_refused_by_name(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(HierarchicalClassifier.pretrained_path("plasticc"), run)
    description = json.loads((run / "checkpoint.json").read_text())
    other = description | {"taxonomy": Taxonomy.from_yaml("elasticc2").to_dict()}
    (run / "checkpoint.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="the tree elasticc2 with root Alert has 26 nodes, the network 21"):
        HierarchicalClassifier.load(run)


# --- other rates ---


@settings(deadline=None, max_examples=40)
@given(answers())
def test_another_prior_is_bayes_rule(case):
    """Densities times one prior, then the prior exchanged, against densities times the other prior."""
    tree, _, rng = case
    k = len(tree.leaves)
    density, old, new = rng.gamma(1, 1, (4, k)) + 1e-3, rng.dirichlet(np.ones(k)) + 1e-3, rng.dirichlet(np.ones(k))
    old /= old.sum()
    way = tree.paths[tree.leaf_nodes]
    posterior = [(density * prior / (density * prior).sum(1, keepdims=True)) @ way for prior in (old, new)]
    moved = shift_prior(posterior[0], old, leaf_rates(dict(zip(tree.leaves, new, strict=True)), old, tree), tree)
    assert moved == pytest.approx(posterior[1], abs=1e-12)


NAMED = [(tree, name) for tree in ("elasticc2", "flat", "plasticc", "desc") for name in ("training", "uniform")]
NAMED += [(tree, name) for tree in ("elasticc2", "flat") for name in prior_names()[2:]]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(NAMED), st.integers(0, 2**32), st.sampled_from([0.5, 3, 20]))
def test_named_priors(case, seed, scale):
    """Probabilities add up under every named prior; the training's changes nothing, and back to it all is as before."""
    tree, name, rng = Taxonomy.from_yaml(case[0]), case[1], np.random.default_rng(seed)
    mix = rng.dirichlet(np.ones(len(tree.leaves))) + 1e-3
    mix /= mix.sum()
    p = node_probabilities(torch.from_numpy(rng.normal(0, scale, (4, len(tree.nodes)))), tree).numpy()
    prior = leaf_prior(name, mix, tree)
    assert prior.sum() == pytest.approx(1) and (prior > 0).all()
    moved = shift_prior(p, mix, prior, tree)
    adds_up(moved, tree)
    assert shift_prior(moved, prior, leaf_prior("training", mix, tree), tree) == pytest.approx(p, abs=1e-9)
    assert name != "training" or moved == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("name", prior_names()[2:])
def test_prior_tables(name):
    """Every table covers the tree elasticc2 and nothing else; a tree with another leaf is refused in one line."""
    table, tree = prior_table(name), Taxonomy.from_yaml("plasticc")
    assert set(table) == set(Taxonomy.from_yaml("elasticc2").leaves) and all(rate > 0 for rate in table.values())
    with pytest.raises(ValueError, match="no rate for Mira of the tree plasticc") as failure:
        leaf_prior(name, np.full(14, 1 / 14), tree)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("name", prior_names() + [None])
def test_a_classifier_with_a_named_prior(name):
    """On the packaged classifier of the tree elasticc2: leaves sum to one, siblings to their parent; the training's is the default."""
    classifier, curves = HierarchicalClassifier.from_pretrained("synthetic"), LightCurves.from_parquet(SAMPLE)[:20]
    curves = replace(curves, header=curves.header.drop(columns="ELASTICC_class"))
    found, plain = (classifier.predict(curves, (1, 64), prior).probabilities for prior in (name, None))
    adds_up(found.astype(float), classifier.taxonomy)
    assert np.array_equal(found, plain) == (name in (None, "training"))


# --- cuts and brokers ---


@settings(deadline=None, max_examples=60)
@given(answers(), st.floats(0, 1))
def test_a_cut_is_a_cut(case, threshold):
    tree, p, _ = case
    node, members = cut_tree(p, threshold, tree)
    assert (tree.paths[tree.leaf_nodes] @ members.T == 1).all(), "each leaf is below exactly one node of the cut"
    for row, stop in zip(p, node, strict=True):
        children = np.flatnonzero(tree.parents == stop)
        assert stop == 0 or row[stop] >= threshold
        assert not len(children) or row[children].max() < threshold, "no child would pass"
    assert members[np.arange(4), node].all()


@settings(deadline=None, max_examples=40)
@given(answers(), st.one_of(st.none(), st.floats(0, 1)))
def test_every_form_of_every_tree(case, threshold):
    tree, p, rng = case
    numbered = tree.relabel({name: {"class_id": 10 * i + 50001} for i, name in enumerate(tree.nodes) if rng.random() < 0.7})
    for format in BROKER_FORMATS:
        rows = json.loads(json.dumps(to_broker(p, format, numbered, threshold=threshold)))
        assert len(rows) == (4 * sum(len(tree.level(level)) for level in LEVELS) if format == "alerce" else 4)
    for row in to_broker(p, "elasticc", numbered, threshold=threshold):
        shares = {one["classId"]: one["probability"] for one in row["classifications"]}
        assert len(shares) == len(row["classifications"]) and RESIDUAL_CLASS_ID in shares
        assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
        told = [numbered.class_ids.index(number) for number in shares if number != RESIDUAL_CLASS_ID]
        assert not (tree.paths[np.ix_(told, told)] & ~np.eye(len(told), dtype=bool)).any(), "never a parent beside its child"


def test_what_is_no_probability_is_refused_with_row_and_node():
    tree = Taxonomy.from_yaml("plasticc")
    good = node_probabilities(torch.zeros(3, len(tree.nodes)), tree).numpy()
    ia, sn = tree.index("SNIa"), tree.index("SN")
    for node, wrong, message in ((ia, np.nan, "row 1: node SNIa is not a prob"), (sn, 0.9, "row 1: node .* is not the sum"),
                                 (ia, -0.5, "row 1: node SNIa is not a prob"), (0, 0.5, "row 1: node Alert")):  # fmt: skip
        bad = good.copy()
        bad[1, node] = wrong
        for ask in (lambda p: cut_tree(p, 0.5, tree), lambda p: to_broker(p, "fink", tree)):
            with pytest.raises(ValueError, match=message):
                ask(bad)
    for threshold in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            cut_tree(good, threshold, tree)


# --- conformal sets ---


@settings(deadline=None, max_examples=40)
@given(answers())
def test_climbing_keeps_the_classes(case):
    tree, _, rng = case
    members = np.zeros((4, len(tree.nodes)), bool)
    members[:, tree.leaf_nodes] = rng.random((4, len(tree.leaves))) < 0.8
    sets = merge_complete_siblings(members, tree)
    covered = sets @ tree.paths.T.astype(int)
    assert np.array_equal(covered[:, tree.leaf_nodes], members[:, tree.leaf_nodes].astype(int)), "the same leaves, each once"
    for parent in set(tree.parents[1:]):
        assert not sets[:, tree.parents == parent].all(1).any(), "nowhere all children in place of their parent"


@pytest.mark.parametrize("promise", [0.9, 0.95])
def test_sets_hold_the_truth_as_often_as_promised(promise):
    tree, rng, n = Taxonomy.from_yaml("plasticc"), np.random.default_rng(1), 20_000
    truth = rng.choice(tree.leaf_nodes, n)
    logits = rng.normal(0, 2, (n, 1, len(tree.nodes))) + 3 * tree.paths[truth][:, None]
    p = node_probabilities(torch.from_numpy(logits), tree).numpy().astype(np.float32)
    every = Predictions(np.arange(n).astype(str), np.array([1.0]), p, truth, tree)
    halves = [replace(every, SNID=every.SNID[s], probabilities=p[s], truth=truth[s]) for s in (slice(n // 2), slice(n // 2, n))]
    thresholds = fit_thresholds(halves[0], promise)
    for level in LEVELS:
        sets = conformal_sets(halves[1], thresholds, level)
        assert coverage(halves[1], sets)[0] == pytest.approx(promise, abs=0.01)


def rare_and_frequent(seed, n=12_000):
    """Predictions of an overconfident classifier for classes of very different frequency, in two halves."""
    tree, rng = Taxonomy.from_yaml("elasticc2"), np.random.default_rng(seed)
    rates = np.geomspace(1, 0.02, len(tree.leaves))
    leaf = rng.choice(len(rates), n, p=rates / rates.sum())
    logits = rng.normal(0, 1.5, (n, len(rates))) + 2.0 * np.eye(len(rates))[leaf] * rng.gamma(2, 1, n)[:, None] + np.log(rates)
    p = np.exp(1.5 * logits) / np.exp(1.5 * logits).sum(axis=1, keepdims=True)
    nodes = (p @ tree.paths[tree.leaf_nodes]).astype(np.float32)[:, None]
    every = Predictions(np.arange(n).astype(str), np.array([1.0]), nodes, tree.leaf_nodes[leaf], tree)
    return every[: n // 2], every[n // 2 :]


@pytest.mark.parametrize("seed", range(3))
def test_class_conditional_sets_cover_every_class_under_any_class_mix(seed):
    first, second = rare_and_frequent(seed)
    tree, rng = first.taxonomy, np.random.default_rng(seed)
    for level in LEVELS:
        at = {part: part.taxonomy.level(level)[tree.at_level(part.truth, level)] for part in (first, second)}
        marginal, by_class = (conformal_sets(second, fit_thresholds(first, 0.9, by_class=which), level) for which in (False, True))
        worst = {}
        for name, sets in (("marginal", marginal), ("by class", by_class)):
            off = []
            for node in tree.level(level):
                here, enough = at[second] == node, (at[first] == node).sum()
                if enough >= 100:
                    off.append(abs(coverage(second[here], sets[here])[0] - 0.9) - 3 * np.sqrt(0.09 * (1 / enough + 1 / here.sum())))
            worst[name] = max(off)
        assert worst["by class"] < 0.0
        if level == "leaf":
            assert worst["marginal"] > 0.02
            shifted = rng.choice(len(second), 6000, p=(w := 1 / np.bincount(second.truth)[second.truth]) / w.sum())
            same, other = (abs(coverage(second[shifted], sets[shifted])[0] - 0.9) for sets in (by_class, marginal))
            assert same < 0.025 < other


def test_a_class_with_few_objects_takes_the_threshold_of_the_nearest_ancestor_with_enough():
    first, _ = rare_and_frequent(5)
    tree = first.taxonomy
    for least in (1, 50, 200, 1000, 10**6):
        values = fit_thresholds(first, 0.9, by_class=True, least_objects=least).values["leaf"][0]
        for k, leaf in enumerate(tree.leaf_nodes):
            above = [v for v in np.flatnonzero(tree.paths[leaf])[::-1] if tree.paths[first.truth, v].sum() >= least or v == 0]
            pooled = first[tree.paths[first.truth, above[0]]]
            assert values[k] == fit_thresholds(pooled, 0.9).values["leaf"][0]


def test_a_set_may_be_none():
    first, second = rare_and_frequent(6, 2000)
    thresholds = fit_thresholds(first)
    marked = replace(second, outlier=np.random.default_rng(0).random((len(second), 1), np.float32))
    sets = conformal_sets(marked, thresholds, none_level=0.1)
    assert np.array_equal(sets[..., :-1], conformal_sets(second, thresholds)) and np.array_equal(sets[..., -1], marked.outlier < 0.1)
    assert coverage(marked, sets)[0] == coverage(second, conformal_sets(second, thresholds))[0]
    with pytest.raises(ValueError, match="no p-values"):
        conformal_sets(second, thresholds, none_level=0.1)
    with pytest.raises(ValueError, match="level 2: between 0 and 1"):
        conformal_sets(marked, thresholds, none_level=2)
