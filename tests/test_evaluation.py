"""Metrics against known values and scikit-learn; figures and films complete, same bytes twice, never half-written."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn import metrics as flat

from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.evaluation import animation, results
from elasticc_hc.evaluation import metrics as metrics_module
from elasticc_hc.evaluation.animation import animate_predictions
from elasticc_hc.evaluation.curves import plot_roc
from elasticc_hc.evaluation.figures import plot_confusion, plot_metric_by_day, separate_positions
from elasticc_hc.evaluation.metrics import (
    METRICS,
    bootstrap_weights,
    calibration_error,
    compute_metrics,
    confusion,
    confusion_scores,
    confusions,
    day_metrics,
    hierarchical_scores,
    probability_bin,
    ranking_areas,
    reliability,
    roc_auc,
    summary_table,
)
from elasticc_hc.evaluation.results import write_metrics
from elasticc_hc.taxonomy.taxonomy import LEVELS, Taxonomy

DAYS = 2.0 ** np.arange(11)


def random_predictions(name="elasticc2", n=400, seed=0, without=(), digits=None, days=DAYS):
    """Seeded predictions that get better with the days; `digits` rounds the probabilities so that there are ties."""
    tree, rng = Taxonomy.from_yaml(name), np.random.default_rng(seed)
    leaves = np.asarray(tree.leaf_nodes)
    kept = [leaf for leaf in range(len(leaves)) if tree.leaves[leaf] not in without]
    truth = rng.choice(kept, n)
    logits = rng.normal(size=(n, len(days), len(leaves)))
    logits += (truth[:, None] == np.arange(len(leaves)))[:, None] * np.linspace(0.3, 5, len(days))[:, None]
    leaf = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if digits is not None:
        leaf = leaf.round(digits)
    probabilities = (leaf @ np.asarray(tree.paths)[leaves].astype(float)).astype(np.float32)
    return Predictions(np.arange(n).astype(str), np.asarray(days), probabilities, leaves[truth], tree)


def value(table, level, day, metric, node=None):
    whole = metric in ("log_loss", "brier", "ece", "tree_distance") or metric.startswith("hierarchical")
    node = node or ("all" if whole else "macro")
    row = table[(table.level == level) & (table.day == day) & (table.metric == metric) & (table.node == node)]
    assert len(row) == 1
    return row.value.item()


@pytest.fixture(scope="module")
def predictions():
    return random_predictions()


@pytest.fixture(scope="module")
def table(predictions):
    return compute_metrics(predictions)


def test_perfect_predictions_score_one():
    tree = Taxonomy.from_yaml("elasticc2")
    truth = np.repeat(tree.leaf_nodes, 3)
    certain = np.asarray(tree.paths)[truth].astype(np.float32)[:, None]
    table = compute_metrics(Predictions(np.arange(len(truth)).astype(str), np.array([7.0]), certain, truth, tree))
    nothing = ["log_loss", "brier", "ece"]
    assert (table[~table.metric.isin([*nothing, "tree_distance", "support"])].value == 1).all()
    assert (table[table.metric.isin(nothing)].value == 0).all()
    assert table[table.metric == "tree_distance"].value.isna().all(), "no mistakes, no distance"
    assert value(table, "leaf", 7, "support") == len(truth)
    assert value(table, "leaf", 7, "support", "KN") == 3


def test_known_values():
    """Four objects: SNIa right, SNIa taken for KN, KN right, EB taken for AGN."""
    tree = Taxonomy.from_yaml("elasticc2")
    truth = np.array([tree.index(name) for name in ("SNIa", "SNIa", "KN", "EB")])
    said = [tree.index(name) for name in ("SNIa", "KN", "KN", "AGN")]
    certain = np.asarray(tree.paths)[said].astype(np.float32)[:, None]
    table = compute_metrics(Predictions(np.array(list("abcd")), np.array([1.0]), certain, truth, tree))
    assert [value(table, level, 1, "accuracy") for level in LEVELS] == [1.0, 0.5, 0.5]
    assert value(table, "leaf", 1, "f1", "SNIa") == pytest.approx(2 / 3)
    assert value(table, "leaf", 1, "precision", "KN") == 0.5
    assert value(table, "leaf", 1, "f1", "EB") == 0
    assert value(table, "leaf", 1, "f1") == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert value(table, "leaf", 1, "roc_auc", "SNIa") == 0.75
    assert np.isnan(value(table, "leaf", 1, "f1", "AGN"))
    assert value(table, "leaf", 1, "support", "AGN") == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [None, 1])
def test_equal_to_scikit_learn(seed, digits):
    predictions = random_predictions(n=60 + 70 * seed, seed=seed, digits=digits, without=("KN",), days=(1, 30, 400))
    table, tree = compute_metrics(predictions), predictions.taxonomy
    for level in LEVELS:
        nodes, truth = tree.level(level), tree.at_level(predictions.truth, level)
        for d, day in enumerate(predictions.days):
            p = predictions.probabilities[:, d][:, nodes]
            chosen, present = p.argmax(1), np.unique(truth)
            every = flat.confusion_matrix(truth, chosen, labels=range(len(nodes)))
            assert (confusion(predictions, level, day) == every).all()
            assert value(table, level, day, "accuracy") == pytest.approx(flat.accuracy_score(truth, chosen))
            kind = {"labels": present, "zero_division": 0, "average": None}
            judged = flat.precision_recall_fscore_support(truth, chosen, **kind)
            expected = dict(zip(("precision", "recall", "f1"), judged[:3], strict=True))
            expected["roc_auc"] = np.array([flat.roc_auc_score(truth == k, p[:, k]) for k in present])
            expected["pr_auc"] = np.array([flat.average_precision_score(truth == k, p[:, k]) for k in present])
            brier = np.array([np.mean((p[:, k].astype(float) - (truth == k)) ** 2) for k in range(len(nodes))])
            assert value(table, level, day, "brier") == pytest.approx(brier.sum())
            assert [value(table, level, day, "brier", tree.nodes[nodes[k]]) for k in present] == pytest.approx(brier[present])
            p_true = np.maximum(p[np.arange(len(truth)), truth], np.finfo(np.float32).eps)
            assert value(table, level, day, "log_loss") == pytest.approx(-np.log(p_true.astype(float)).mean())
            for metric, by_node in expected.items():
                names = [tree.nodes[nodes[k]] for k in present]
                assert np.allclose([value(table, level, day, metric, name) for name in names], by_node)
                assert value(table, level, day, metric) == pytest.approx(by_node.mean())
                weighted = np.average(by_node, weights=np.unique(truth, return_counts=True)[1])
                assert value(table, level, day, metric, "weighted") == pytest.approx(weighted)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=50))
def test_roc_auc_with_ties(pairs):
    score, member = np.array([s for s, _ in pairs]) / 6, np.array([m for _, m in pairs])
    if member.all() or not member.any():
        assert np.isnan(roc_auc(score, member))
    else:
        assert roc_auc(score, member) == pytest.approx(flat.roc_auc_score(member, score))


# --- what a tree says about mistakes ---


def kiritchenko(taxonomy, truth, said):
    """Hierarchical precision, recall and F by the definition, with sets of ancestors, object by object."""
    way = [set(np.flatnonzero(path)) - {0} for path in taxonomy.paths]
    both = sum(len(way[t] & way[s]) for t, s in zip(truth, said, strict=True))
    precision, recall = both / sum(len(way[s]) for s in said), both / sum(len(way[t]) for t in truth)
    return precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", LEVELS)
def test_hierarchical_scores_follow_the_definition(seed, level):
    predictions = random_predictions(n=80, seed=seed, days=(1, 64))
    table, tree = compute_metrics(predictions), predictions.taxonomy
    nodes = tree.level(level)
    truth = nodes[tree.at_level(predictions.truth, level)]
    for d, day in enumerate(predictions.days):
        said = nodes[predictions.probabilities[:, d][:, nodes].argmax(1)]
        names = ["hierarchical_precision", "hierarchical_recall", "hierarchical_f1"]
        found = [value(table, level, day, name) for name in names]
        assert found == pytest.approx(kiritchenko(tree, truth, said), abs=1e-12)
        one = truth == truth[0]
        found = [value(table, level, day, name, tree.nodes[truth[0]]) for name in names]
        assert found == pytest.approx(kiritchenko(tree, truth[one], said[one]), abs=1e-12)
        apart = [(tree.paths[t] ^ tree.paths[s]).sum() for t, s in zip(truth, said, strict=True) if t != s]
        assert value(table, level, day, "tree_distance") == pytest.approx(np.mean(apart) if apart else np.nan, nan_ok=True)


# --- probabilities ---


@pytest.mark.parametrize("level", LEVELS)
def test_calibration_error_by_the_definition(level):
    predictions = random_predictions(n=500, days=(4,))
    table, nodes = compute_metrics(predictions), predictions.taxonomy.level(level)
    p = predictions.probabilities[:, 0][:, nodes].astype(float)
    stated, right = p.max(1), p.argmax(1) == predictions.taxonomy.at_level(predictions.truth, level)
    total = 0.0
    for k in range(15):
        inside = (stated > k / 15) & (stated <= (k + 1) / 15)
        total += inside.mean() * abs(right[inside].mean() - stated[inside].mean()) if inside.any() else 0
    assert value(table, level, 4, "ece") == pytest.approx(total)
    diagram = reliability(predictions, level, [4.0])
    assert diagram["count"].sum() == 500
    assert diagram["right"].mul(diagram["count"]).sum() == pytest.approx(right.sum())


def test_bins_hold_their_ends():
    assert probability_bin(np.array([0, 1e-9, 0.1, 0.100001, 0.9999, 1]), 10).tolist() == [0, 0, 0, 1, 9, 9]
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True]))[0] == 0


# --- error bars ---


def test_a_set_of_weights_is_a_repeated_object():
    """A bootstrap draw by weights equals the metrics of the objects really drawn."""
    predictions = random_predictions(n=150, days=(2, 512), digits=2)
    weights = bootstrap_weights(150, 3, seed=1)[:, 3].astype(int)
    again = np.repeat(np.arange(150), weights)
    drawn = replace(
        predictions, SNID=predictions.SNID[again], probabilities=predictions.probabilities[again], truth=predictions.truth[again]
    )
    table = compute_metrics(drawn)
    for level in LEVELS:
        for d, day in enumerate(predictions.days):
            for (node, metric), found in day_metrics(predictions, level, d, weights[:, None].astype(float)).items():
                assert found[0] == pytest.approx(value(table, level, day, metric, node), nan_ok=True), (level, node, metric)


def test_intervals_cover_the_truth():
    """Accuracy of many samples from one population: its 90 % interval holds the population's value in about 90 % of them."""
    many = random_predictions(n=40_000, days=(4,), seed=3)
    truth = value(compute_metrics(many), "leaf", 4, "accuracy")
    held = []
    for part in np.arange(40_000).reshape(100, 400):
        one = replace(many, SNID=many.SNID[part], probabilities=many.probabilities[part], truth=many.truth[part])
        row = compute_metrics(one, draws=60, coverage=0.9).query("level == 'leaf' and node == 'all' and metric == 'accuracy'")
        held.append(row.low.item() <= truth <= row.high.item())
    assert 0.8 <= np.mean(held) <= 0.97


def test_draws_leave_the_values_alone(predictions, table):
    drawn = compute_metrics(predictions, draws=5, seed=2)
    pd.testing.assert_frame_equal(drawn.drop(columns=["low", "high"]), table)
    assert set(table.metric) == set(METRICS)
    ax = plot_metric_by_day(drawn, "ece", Figure().add_subplot())
    assert len(ax.collections) == 3


def test_cells_shared_by_members_shift_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    member = rng.random(3000) < 0.3
    score, weights = rng.normal(size=3000) + member, rng.integers(0, 3, (3000, 7)).astype(float)
    exact = np.array([ranking_areas(score, member, weights[:, k : k + 1]) for k in range(7)])[..., 0].T
    assert np.allclose(ranking_areas(score, member, weights), exact, atol=1e-12), "as many cells as members"
    monkeypatch.setattr(metrics_module, "MAX_CELLS", 100)
    coarse = ranking_areas(score, member, weights)
    assert np.allclose(coarse, exact, atol=2e-3) and coarse[0][0] == exact[0][0]


def test_hierarchical_scores_take_leading_axes():
    tree = Taxonomy.from_yaml("elasticc2")
    nodes = tree.level("level2")
    counts = np.random.default_rng(1).integers(0, 9, (4, 3, 5, 5))
    whole, one = (hierarchical_scores(c, tree, nodes)["hierarchical_f1"] for c in (counts, counts[1, 2]))
    assert whole.shape == (4, 3, 6) and np.array_equal(whole[1, 2], one)


def test_scores_take_leading_axes():
    counts = np.random.default_rng(1).integers(0, 9, (4, 5, 3, 3))
    whole = confusion_scores(counts)
    assert whole["f1"].shape == (4, 5, 3)
    assert np.array_equal(whole["f1"][2, 3], confusion_scores(counts[2, 3])["f1"], equal_nan=True)


def test_a_class_without_objects_keeps_its_row_and_stays_out_of_the_mean():
    predictions = random_predictions(without=("KN", "AGN"))
    table = compute_metrics(predictions)
    rows = table[(table.level == "leaf") & (table.day == 64) & (table.metric == "f1") & (table.node != "macro")]
    rows = rows[~rows.node.isin(["weighted", "all"])]
    assert set(rows.node[rows.value.isna()]) == {"KN", "AGN"}
    assert value(table, "leaf", 64, "support", "KN") == 0
    assert value(table, "leaf", 64, "f1") == pytest.approx(rows.value.mean())
    assert not table[table.node.isin(["macro", "weighted", "all"])].value.isna().any()
    ax = plot_confusion(predictions, "leaf", 64, Figure().add_subplot())
    assert "KN  0" in [text.get_text() for text in ax.get_yticklabels()]
    plot_roc(predictions, "leaf", 64, Figure().subplots(2, 3).ravel())


def test_one_class_alone():
    predictions = random_predictions(without=[name for name in Taxonomy.from_yaml("elasticc2").leaves if name != "TDE"])
    table = compute_metrics(predictions)
    assert np.isnan(value(table, "leaf", 1024, "roc_auc"))
    assert value(table, "leaf", 1024, "f1") > 0.5
    plot_metric_by_day(table, "roc_auc", Figure().add_subplot())
    plot_roc(predictions, "leaf", 64, Figure().subplots(2, 3).ravel())


def test_objects_of_unknown_class_change_nothing(predictions, table):
    more = random_predictions(seed=5, n=100)
    both = replace(
        predictions,
        SNID=np.concatenate([more.SNID, predictions.SNID]),
        probabilities=np.concatenate([more.probabilities, predictions.probabilities]),
        truth=np.concatenate([np.full(100, -1), predictions.truth]),
    )
    pd.testing.assert_frame_equal(compute_metrics(both), table)
    with pytest.raises(ValueError, match="none of the 400 objects has a true class"):
        compute_metrics(replace(predictions, truth=np.full(400, -1)))


def test_a_probability_that_is_not_finite_is_named(predictions):
    broken = predictions.probabilities.copy()
    broken[17, 3, 5] = np.nan
    with pytest.raises(ValueError, match="object 17: a probability is not finite"):
        compute_metrics(replace(predictions, probabilities=broken))


def test_unknown_day_and_metric_are_named(predictions, table):
    with pytest.raises(ValueError, match="nothing predicted at day 3: the days are 1, 2, 4"):
        confusion(predictions, "leaf", 3)
    with pytest.raises(ValueError, match="nothing predicted at day 3: the days are 1, 2, 4"):
        plot_metric_by_day(table, "f1", Figure().add_subplot(), day=3)
    with pytest.raises(ValueError, match="no metric 'f2'"):
        plot_metric_by_day(table, "f2", Figure().add_subplot())


@pytest.mark.parametrize("days", [(0, 1, 2, 4), (0,), (0.5,), (3, 7, 100, 101)])
def test_any_days_can_be_drawn(days):
    table = compute_metrics(random_predictions(n=100, days=days))
    for day in (None, days[0], days[-1]):
        ax = plot_metric_by_day(table, "f1", Figure().add_subplot(), day)
        FigureCanvasAgg(ax.figure).draw()
        assert ax.get_xticklabels()[-1].get_text() == f"{days[-1]:g}"


def test_summary_table(table):
    summary = summary_table(table, ("f1", "accuracy"))
    assert list(summary.index) == [f"{2**k}" for k in range(11)]
    assert summary.shape == (11, 6)
    assert summary.loc["8", ("level 2", "macro F1")] == pytest.approx(value(table, "level2", 8, "f1"), abs=6e-4)
    assert summary.loc["8", ("leaf", "accuracy")] == pytest.approx(value(table, "leaf", 8, "accuracy"), abs=6e-4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.1))
def test_spread_keeps_distance_order_and_limits(wanted, distance):
    placed = separate_positions(np.sort(wanted), distance, 0, 1)
    assert (np.diff(placed) >= distance - 1e-9).all()
    assert placed[0] >= -1e-9 and placed[-1] <= 1 + 1e-9


@pytest.mark.parametrize("values", [(1, 1, 1), (0, 0, 0), (0.5, 0.51, 0.52), (0.99, 0.2, 0.99)])
@pytest.mark.parametrize("day", [None, 1, 32, 1024])
def test_labels_of_the_curves_never_overlap(table, values, day):
    flat_table = table.assign(value=table.level.map(dict(zip(LEVELS, values, strict=True))))
    ax = plot_metric_by_day(flat_table, "f1", Figure((3, 3)).add_subplot(), day)
    FigureCanvasAgg(ax.figure).draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(below.y1 <= above.y0 + 1 for below, above in zip(boxes[:-1], boxes[1:], strict=True))


@pytest.mark.parametrize("name", ["elasticc2", "plasticc"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first_alert", [False, True])
def test_nothing_in_a_frame_is_cut_off(name, level, first_alert):
    predictions = random_predictions(name, n=3000, days=np.append(0, DAYS) if first_alert else DAYS)
    predictions = replace(predictions, first_alert=first_alert)
    table = compute_metrics(predictions)
    frames = [
        animation.confusion_frame(confusions(predictions, level)[0], table, predictions.taxonomy, level, predictions.days[0]),
        animation.roc_frame(predictions, table, level, 1024.0),
    ]
    for figure in frames:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.get_tightbbox(canvas.get_renderer())
        width, height = figure.get_size_inches()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_evaluate_writes_all_and_respects_what_is_there(predictions, table, tmp_path):
    out = tmp_path / "results"
    pd.testing.assert_frame_equal(write_metrics(predictions, out, days=(1, 64), draws=0), table)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "metrics.parquet"), table)
    assert np.allclose(pd.read_csv(out / "metrics.csv").value, table.value, rtol=1e-5, equal_nan=True)
    again = Predictions.from_parquet(out / "predictions.parquet")
    assert np.array_equal(again.probabilities, predictions.probabilities)
    assert sorted(path.name for path in (out / "confusion").iterdir()) == [
        f"{level}_day_{day:04d}.png" for level in sorted(LEVELS) for day in (1, 64)
    ]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        write_metrics(predictions, out)
    assert sorted(path.name for path in (out / "reliability").iterdir()) == ["day_0001.png", "day_0064.png"]
    write_metrics(predictions, out, overwrite=True, days=(2,), draws=3)
    assert {"low", "high"} <= set(pd.read_parquet(out / "metrics.parquet"))
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list((out / "confusion").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    with pytest.raises(FileExistsError, match="is a file"):
        write_metrics(predictions, out / "notes.txt")


def test_an_interruption_leaves_nothing(predictions, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "plot_confusion", stop)
    with pytest.raises(KeyboardInterrupt):
        write_metrics(predictions, tmp_path / "results")
    monkeypatch.setattr(animation, "write_animation", stop)
    with pytest.raises(KeyboardInterrupt):
        animate_predictions(predictions, tmp_path / "gif", days=(1,))
    assert list(tmp_path.iterdir()) == []


def test_films(predictions, tmp_path):
    """Six folders, the same bytes twice, one palette per film, the last frame held, pyplot untouched."""
    open_figures, calls = plt.get_fignums(), []
    gifs = animate_predictions(predictions, tmp_path / "one", days=(1, 1024), progress=lambda *counts: calls.append(counts))
    animate_predictions(predictions, tmp_path / "two", days=(1, 1024))
    assert plt.get_fignums() == open_figures
    assert calls == [(k, 12) for k in range(1, 13)]
    names = {f"{level}_{kind}" for level in LEVELS for kind in ("cf", "roc")}
    assert {path.name for path in (tmp_path / "one").iterdir()} - {"films.json"} == {path.stem for path in gifs} == names
    assert (tmp_path / "one/films.json").read_bytes() == (tmp_path / "two/films.json").read_bytes()
    for name in names:
        files = sorted(path.name for path in (tmp_path / "one" / name).iterdir() if path.suffix in (".png", ".gif"))
        assert files == ["day_0001.png", "day_1024.png", f"{name}.gif"]
        for file in files:
            assert (tmp_path / "one" / name / file).read_bytes() == (tmp_path / "two" / name / file).read_bytes()
        colors = set()
        for day in ("0001", "1024"):
            image = Image.open(tmp_path / "one" / name / f"day_{day}.png")
            assert image.mode == "P" and not image.info.get("Software") and not image.text
            colors |= {tuple(color) for color in np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)}
        assert len(colors) <= 2**animation.PALETTE_BITS and (255, 255, 255) in colors
        film = Image.open(tmp_path / "one" / name / f"{name}.gif")
        durations = []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
        assert durations == [800, 3000]
        assert np.array_equal(np.asarray(film.convert("RGB")), np.asarray(image.convert("RGB")))
        assert (tmp_path / "one" / name / f"{name}.gif").stat().st_size < 1.5e6
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        animate_predictions(predictions, tmp_path / "one")
    animate_predictions(predictions, tmp_path / "one", days=(8,), overwrite=True)
    assert sorted(path.name for path in (tmp_path / "one" / "root_cf").glob("*.[pg][ni][gf]")) == ["day_0008.png", "root_cf.gif"]


def test_plots_print_and_close_nothing(predictions, table, capsys):
    figure = plt.figure()
    ax = figure.add_subplot()
    assert plot_metric_by_day(table, "accuracy", ax) is ax
    axes = plot_roc(predictions, "root", 1)
    assert plt.fignum_exists(figure.number) and plt.fignum_exists(axes[0].figure.number)
    assert capsys.readouterr() == ("", "")
    figure.savefig(io.BytesIO())
    plt.close("all")
