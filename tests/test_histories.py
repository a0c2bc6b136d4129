"""Histories of answers: the distance is a metric and the optimum of the transport problem; the measures follow from it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.evaluation.histories import (
    MEASURES,
    branch_lengths,
    compare_histories,
    comparison_table,
    history_measures,
    history_table,
    plot_histories,
    truth_distances,
    wasserstein_distance,
)
from elasticc_hc.evaluation.metrics import tree_distance
from elasticc_hc.taxonomy.taxonomy import Taxonomy

TREES = {name: Taxonomy.from_yaml(name) for name in ("elasticc2", "plasticc", "flat", "desc")}
SEEDS, NAMES = st.integers(0, 2**32 - 1), st.sampled_from(sorted(TREES))
GROUNDS = st.sampled_from(["tree", "flat"])


def of_nodes(tree, leaves):
    """Probabilities of all nodes from those of the leaves."""
    return np.asarray(leaves, float) @ tree.paths[tree.leaf_nodes]


def random_answers(tree, rng, *shape):
    """Probabilities of all nodes; a small concentration gives answers that are nearly certain."""
    return of_nodes(tree, rng.dirichlet(np.full(len(tree.leaves), rng.choice([0.05, 0.3, 1.0])), shape))


def random_history(name="elasticc2", n=40, seed=0, whole=False):
    """Predictions whose objects have reached an interval of the days."""
    tree, rng = TREES[name], np.random.default_rng(seed)
    days = np.concatenate([[0.0], 2.0 ** np.arange(6)])
    p = random_answers(tree, rng, n, len(days)).astype(np.float32)
    first, last = np.sort(rng.integers(0, len(days), (n, 2)), axis=1).T[..., None]
    reached = None if whole else (np.arange(len(days)) >= first) & (np.arange(len(days)) <= last)
    return Predictions(np.arange(n).astype(str).astype(object), days, p, rng.choice(tree.leaf_nodes, n), tree, reached, True)


def same(one, other):
    return np.allclose(one, other, atol=1e-6, equal_nan=True)


# --- the distance ---


@given(SEEDS, NAMES, GROUNDS)
@settings(max_examples=60, deadline=None)
def test_a_metric(seed, name, ground):
    tree, rng = TREES[name], np.random.default_rng(seed)
    lengths = branch_lengths(tree, ground)
    a, b, c = (random_answers(tree, rng, 5) for _ in range(3))
    ab, bc, ac = (wasserstein_distance(x, y, lengths) for x, y in ((a, b), (b, c), (a, c)))
    assert (ab >= 0).all() and (wasserstein_distance(a, a, lengths) == 0).all()
    assert np.array_equal(ab, wasserstein_distance(b, a, lengths)), "symmetric"
    assert (ac <= ab + bc + 1e-9).all(), "triangle inequality"
    assert (ab > 0).all(), "different answers have a distance"
    largest = 1 if ground == "flat" else tree_distance(tree, tree.leaf_nodes).max()
    assert (ab <= largest + 1e-9).all()


@given(SEEDS, GROUNDS)
@settings(max_examples=15, deadline=None)
def test_the_optimum_of_the_transport_problem(seed, ground):
    """The closed form on the tree against linear programming with the distances of the leaves."""
    tree, rng = TREES["plasticc"], np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(len(tree.leaves), 0.5), 2)
    k = len(p)
    cost = tree_distance(tree, tree.leaf_nodes) if ground == "tree" else 1 - np.eye(k)
    rows, columns = np.kron(np.eye(k), np.ones(k)), np.kron(np.ones(k), np.eye(k))
    solved = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([p, q]))
    found = wasserstein_distance(of_nodes(tree, p), of_nodes(tree, q), branch_lengths(tree, ground))
    assert solved.success and found == pytest.approx(solved.fun, abs=1e-5)


def test_unknown_distance():
    with pytest.raises(ValueError, match="choose one of tree, flat"):
        branch_lengths(TREES["flat"], "hamming")


def test_distance_to_the_truth_is_the_expected_number_of_branches():
    history = random_history(whole=True)
    tree = history.taxonomy
    branches = tree_distance(tree, tree.leaf_nodes)[tree.at_level(history.truth, "leaf")]
    assert same(truth_distances(history), (history.probabilities[..., tree.leaf_nodes] * branches[:, None]).sum(-1).astype(float))
    wrong = 1 - history.probabilities[np.arange(len(history)), :, history.truth]
    assert same(truth_distances(history, "flat"), wrong)


# --- the measures of an object ---


@given(SEEDS, NAMES, GROUNDS)
@settings(max_examples=40, deadline=None)
def test_measures_hold_for_any_history(seed, name, ground):
    history = random_history(name, seed=seed)
    table = history_measures(history, ground)
    several = history.reached.sum(1) > 1
    assert np.array_equal(table.path.notna(), several) and np.array_equal(table.detour.notna(), several)
    assert (table.detour[several] >= 0).all() and (table.detour <= table.path + 1e-9)[several].all()
    distances = truth_distances(history, ground)
    assert same(table.final, distances[np.arange(len(history)), history.last_reached])
    assert (table["mean"] <= np.nanmax(distances, 1) + 1e-9).all() and (table["mean"] >= np.nanmin(distances, 1) - 1e-9).all()
    settled = np.isfinite(table.settled)
    assert np.array_equal(settled, table.final <= {"tree": 0.5, "flat": 0.25}[ground])
    for row in np.flatnonzero(settled):
        later = distances[row][history.days >= table.settled[row]]
        assert np.nanmax(later) <= {"tree": 0.5, "flat": 0.25}[ground]


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_objects_does_not_matter(seed):
    history = random_history(seed=seed)
    order = np.random.default_rng(seed).permutation(len(history))
    one, other = history_measures(history).set_index("SNID"), history_measures(history[order]).set_index("SNID")
    pd.testing.assert_frame_equal(one, other.loc[one.index])
    pd.testing.assert_frame_equal(history_table(history, 0), history_table(history[order], 0))


def test_what_is_not_reached_has_no_influence():
    history = random_history()
    noise = random_answers(history.taxonomy, np.random.default_rng(1), *history.reached.shape).astype(np.float32)
    other = replace(history, probabilities=np.where(history.reached[..., None], history.probabilities, noise))
    pd.testing.assert_frame_equal(history_measures(history), history_measures(other))
    missing = replace(history, probabilities=np.where(history.reached[..., None], history.probabilities, np.nan))
    pd.testing.assert_frame_equal(history_measures(history), history_measures(missing))


def test_an_answer_stands_until_the_next():
    """A day on which the answer is the earlier one again changes neither path nor detour nor final distance."""
    history = random_history(whole=True)
    doubled = Predictions(history.SNID, np.sort(np.append(history.days, history.days[1:] + 0.5)),
                          np.delete(history.probabilities.repeat(2, axis=1), 1, axis=1), history.truth, history.taxonomy)  # fmt: skip
    columns = ["path", "detour", "final", "flips"]
    assert same(history_measures(history)[columns], history_measures(doubled)[columns])
    reached = np.ones((len(history), len(history.days)), bool)
    reached[::2, 3] = False
    gap = history_measures(replace(history, reached=reached))
    held = history.probabilities.copy()
    held[::2, 3] = held[::2, 2]
    assert same(gap[["path", "detour", "mean"]], history_measures(replace(history, probabilities=held))[["path", "detour", "mean"]])


def test_perfect_and_constant_histories():
    history = random_history(whole=True)
    certain = np.repeat(history.taxonomy.paths[history.truth][:, None], len(history.days), 1).astype(np.float32)
    perfect = history_measures(replace(history, probabilities=certain))
    assert (perfect[["path", "detour", "final", "mean", "settled", "flips"]] == 0).all().all()
    constant = history_measures(replace(history, probabilities=history.probabilities[:, :1].repeat(len(history.days), 1)))
    assert (constant[["path", "detour", "flips"]] == 0).all().all() and same(constant["mean"], constant.final)


def test_no_label_no_score():
    history = random_history()
    with pytest.raises(ValueError, match="metrics need labelled objects"):
        history_measures(replace(history, truth=np.full(len(history), -1)))
    half = replace(history, truth=np.where(np.arange(len(history)) % 2, history.truth, -1))
    assert history_measures(half).SNID.tolist() == history.SNID[1::2].tolist(), "unlabelled objects are left out"
    assert history_table(half, 0).objects.max() == len(history) // 2


# --- averages, comparison, figure ---


def test_averages_and_intervals():
    history = random_history(n=60)
    each, table = history_measures(history), history_table(history, 100)
    wide = table.pivot(index="node", columns="measure", values="value")
    by_class = each.groupby("class")[["path", "detour", "final", "mean", "flips"]].mean()
    assert same(wide.loc[by_class.index, by_class.columns], by_class)
    assert same(wide.loc["all", by_class.columns], each[by_class.columns].mean())
    assert same(wide.loc["macro", by_class.columns], by_class.mean())
    assert wide.loc["all", "settled"] == pytest.approx(np.isfinite(each.settled).mean())
    whole = table[table.node == "all"]
    assert (whole.low <= whole.value).all() and (whole.value <= whole.high).all() and set(table.measure) == set(MEASURES)
    pd.testing.assert_frame_equal(table, history_table(history, 100))
    assert history_table(history, 0).low.isna().all(), "no draws, no interval"


def test_comparison_is_paired():
    history = random_history(n=60, whole=True)
    order = np.random.default_rng(3).permutation(len(history))
    assert (compare_histories(history, {"itself": history[order]}, 30)[["difference", "low", "high"]].abs().fillna(0) < 1e-9).all().all()
    certain = history.taxonomy.paths[history.truth][:, None]
    mixed = replace(history, probabilities=(0.9 * history.probabilities + 0.1 * certain).astype(np.float32))
    table = compare_histories(history, {"better": mixed}, 100).set_index(["node", "measure"])
    assert table.high["all", "mean"] < 0 and table.high["all", "final"] < 0
    assert same(table.difference["all", "mean"], -0.1 * table.value["all", "mean"]), "a tenth of the truth takes a tenth of the distance"
    unpaired = history_table(history, 100).set_index(["node", "measure"]).loc["all", "mean"]
    assert table.high["all", "mean"] - table.low["all", "mean"] < (unpaired.high - unpaired.low) / 2, "narrower than the score's own"
    with pytest.raises(ValueError, match="another tree"):
        compare_histories(history, {"other": random_history("plasticc")})


def test_one_table_for_several():
    one, other = random_history(n=60, whole=True), random_history(n=60, seed=1, whole=True)
    other = replace(other, truth=one.truth)
    table = comparison_table({"one": one, "other": other}, 20)
    assert set(table.answers) == {"one", "other"} and (table[table.answers == "one"].difference.fillna(0).abs() < 1e-9).all()
    assert set(table.measure[table.level == "history"]) == set(MEASURES)
    f1 = table[(table.measure == "f1") & (table.level == "leaf")]
    assert len(f1) == 2 * len(one.days) and f1.notna().all().all()


@pytest.mark.parametrize("days", [[0], [3], [0, 3]])
def test_figure_of_few_days(days):
    history = random_history(whole=True).select_days(days)
    figure = plot_histories({"a": history, "b": history}, draws=5)
    figure.canvas.draw()
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]
