"""The folder of results: complete or absent, the same bytes twice, an offline report, bad input in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from elasticc_hc import cli
from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.object_card import class_evolutions, extreme_objects, object_card_figure
from elasticc_hc.classification.predictions import Predictions
from elasticc_hc.conversion.train_test_split import split_value
from elasticc_hc.evaluation import animation
from elasticc_hc.evaluation import report as report_module
from elasticc_hc.evaluation.animation import animate_object
from elasticc_hc.evaluation.by_day import count_class_changes, days_until_confident, plot_by_day
from elasticc_hc.evaluation.by_property import by_redshift, detections_by_day, scores_of_groups
from elasticc_hc.evaluation.curves import pr_curves, rankings
from elasticc_hc.evaluation.metrics import compute_metrics
from elasticc_hc.evaluation.report import write_evaluation
from elasticc_hc.evaluation.results import compare_runs
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import LEVELS, Taxonomy

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "nbs/data/plasticc_sample.parquet"
RUN = HierarchicalClassifier.pretrained_path("plasticc")


@pytest.fixture(scope="module")
def curves():
    every = LightCurves.from_parquet(SAMPLE)
    return every[split_value(every.header["SNID"]) < 0.2]


@pytest.fixture(scope="module")
def classifier():
    return HierarchicalClassifier.load(RUN)


@pytest.fixture(scope="module")
def predictions(curves, classifier):
    return classifier.predict(curves, [1, 8, 64])


@pytest.fixture(scope="module")
def few_curves(curves, tmp_path_factory):
    """A Parquet file of eight objects, for the command line."""
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("few") / "test.parquet"
    pq.write_table(pq.read_table(SAMPLE).take(np.arange(0, 224, 28)), path)
    return path


def call(capsys, *words):
    """Run the command; its exit code and what it complained about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["elasticc-hc", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return code, capsys.readouterr().err


def certain(tree, truth, tops, days=(1, 2, 4)):
    """Predictions that name one leaf with certainty: tops (n, n_days) positions among the leaves."""
    below = tree.paths[tree.leaf_nodes].astype(np.float32)
    names = np.array([f"o{i}" for i in range(len(truth))], dtype=object)
    return Predictions(names, np.array(days), below[np.asarray(tops)], tree.leaf_nodes[np.asarray(truth)], tree)


# --- numbers by hand ---


def test_days_until_and_flips_by_hand():
    p = certain(Taxonomy.from_yaml("elasticc2"), [0, 1, 2], [[0, 0, 0], [0, 1, 1], [1, 0, 1]])
    assert days_until_confident(p, "leaf").tolist() == [1, 2, np.inf]
    assert count_class_changes(p, "leaf").tolist() == [0, 1, 2]
    assert count_class_changes(p, "root").tolist() == [0, 0, 0], "all three are transients"


def test_redshift_by_hand():
    p = certain(Taxonomy.from_yaml("elasticc2"), [0, 0, 0, 1], [[0], [0], [1], [0]], days=(1,))
    table = by_redshift(p, np.array([0.1, 0.3, 0.3, 0.3]), "leaf", 1, np.array([0, 0.2, 0.4])).set_index(["node", "low"])
    name = p.taxonomy.leaves[0]
    assert table.completeness[name, 0.0] == 1 and table.purity[name, 0.0] == 1
    assert table.completeness[name, 0.2] == 0.5 and table.purity[name, 0.2] == 0.5
    nothing = by_redshift(p, np.full(4, np.nan), "leaf", 1, np.array([0, 1]))
    assert nothing.members.sum() == 0 and nothing.completeness.isna().all()


def test_groups_add_up_to_the_whole(predictions):
    everything = scores_of_groups(predictions, np.zeros((len(predictions), 3), int), ["all"]).set_index("level")
    table = compute_metrics(predictions)
    accuracy = table[(table.node == "macro") & (table.metric == "accuracy")].groupby("level").value.mean()
    for level in ("root", "level2", "leaf"):
        assert everything.accuracy[level] == pytest.approx(accuracy[level])
    none = scores_of_groups(predictions, np.full((len(predictions), 3), -1), ["none"])
    assert (none.answers == 0).all() and none.accuracy.isna().all()


def test_detections_by_day(curves):
    number = detections_by_day(curves, [0, 1e9])
    assert (number[:, 0] >= 1).all()
    assert np.array_equal(number[:, 1], np.bincount(curves.object_index[curves.detected], minlength=len(curves)))


def test_precision_of_a_perfect_and_of_a_blind_score():
    tree = Taxonomy.from_yaml("elasticc2")
    perfect = pr_curves(rankings(certain(tree, [0, 0, 1], [[0], [0], [1]], days=(1,)), "leaf", 1))
    assert (perfect.precision == 1).all() and (perfect.area == 1).all()
    blind = pr_curves(rankings(certain(tree, [0, 0, 1], [[2], [2], [2]], days=(1,)), "leaf", 1)).set_index("node")
    assert blind.precision[tree.leaves[0]] == pytest.approx(2 / 3) and blind.precision[tree.leaves[1]] == pytest.approx(1 / 3)


def test_worst_and_best_by_hand():
    p = certain(Taxonomy.from_yaml("elasticc2"), [0, 0, 0, 0], [[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]])
    table = extreme_objects(p, 20)
    assert list(table.SNID) == ["o0", "o3", "o1", "o2"] and list(table.kind) == ["worst", "worst", "best", "best"]


def test_classes_take_turns_among_the_worst_and_the_best():
    """Ten objects of a class that is easy, four of a hard one, one of a third: none of them fills the list."""
    tree = Taxonomy.from_yaml("elasticc2")
    truth = [0] * 10 + [1] * 4 + [2]
    p = certain(tree, truth, [[0, 0, 0]] * 10 + [[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]] + [[2, 2, 0]])
    table = extreme_objects(p, 4)
    worst, best = (table[table.kind == kind] for kind in ("worst", "best"))
    assert worst.true.value_counts().to_dict() == {tree.leaves[1]: 2, tree.leaves[0]: 1, tree.leaves[2]: 1}
    assert best.true.value_counts().to_dict() == {tree.leaves[0]: 2, tree.leaves[1]: 2}, "the only one of its class is on one list"
    assert best.score.is_monotonic_decreasing and worst.score.is_monotonic_increasing
    every = extreme_objects(p, 20)
    assert sorted(every.SNID) == sorted(p.SNID), "each object is on one of the two lists"


def test_paired_differences():
    tree, rng = Taxonomy.from_yaml("elasticc2"), np.random.default_rng(0)
    truth = rng.integers(0, 5, 400)
    right = rng.random((400, 1)) < 0.8
    good = certain(tree, truth, np.where(right, truth[:, None], 5), days=(1,))
    worse = certain(tree, truth, np.where(right & (rng.random((400, 1)) < 0.9), truth[:, None], 5), days=(1,))
    table = compare_runs(good, {"worse": worse}).set_index(["level", "metric"]).loc[("leaf", "accuracy")]
    assert table.other - table.value == pytest.approx(table.difference) and table.high < 0
    apart = 1.96 * np.sqrt(table.value * (1 - table.value) / 400 + table.other * (1 - table.other) / 400)
    assert table.high - table.low < 2 * apart, "paired draws know the difference better than two separate ones"
    with pytest.raises(ValueError, match="worse has another tree"):
        compare_runs(good, {"worse": certain(Taxonomy.from_yaml("plasticc"), truth, truth[:, None], days=(1,))})


def test_published_values_only_beside_the_same_classes(predictions):
    with pytest.raises(ValueError, match="cannot be compared"):
        plot_by_day(compute_metrics(predictions), predictions.taxonomy)
    tree = Taxonomy.from_yaml("elasticc2")
    table = compute_metrics(certain(tree, [0, 1, 2], [[0, 0, 0], [0, 1, 1], [1, 0, 1]]))
    greys = [line for ax in plot_by_day(table, tree).axes for line in ax.lines if line.get_color() == "0.65"]
    assert len(greys) == 5 and not [line for ax in plot_by_day(table).axes for line in ax.lines if line.get_color() == "0.65"]


# --- the folder ---


def test_dossier_is_complete_and_the_same_twice(predictions, curves, classifier, tmp_path):
    made = {"format": 1, "command": "x < y"}
    for name in ("one", "two"):
        write_evaluation(predictions, tmp_path / name, curves, classifier, {"itself": predictions}, made, draws=5, cards=2)
    files = sorted(str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*") if path.is_file())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert {"report.html", "provenance.json", "comparison.csv", "cards/worst_02.png"} <= set(files)
    for name, levels in {"confusion": LEVELS, "roc": LEVELS, "precision": LEVELS, "redshift": LEVELS[1:]}.items():
        assert {f"{name}/{level}_day_{day:04g}.png" for level in levels for day in predictions.days} <= set(files)
    html = (tmp_path / "one/report.html").read_text(encoding="utf-8")
    assert "x &lt; y" in html and "://" not in html
    objects = pd.read_csv(tmp_path / "one/objects.csv")
    assert all(f'<figure id="{name}">' in html and f'href="#{name}"' in html for name in objects.name)


def test_an_interruption_leaves_no_dossier(predictions, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(report_module, "write_report", stop)
    with pytest.raises(KeyboardInterrupt):
        write_evaluation(predictions, tmp_path / "results", draws=0)
    assert list(tmp_path.iterdir()) == []


def test_classes_with_no_object_and_no_redshift(predictions, curves, classifier, tmp_path):
    """Two classes are enough, and a file without any host."""
    kept = np.isin(predictions.truth, np.unique(predictions.truth)[:2])
    bare = replace(curves, header=curves.header[["SNID", "ELASTICC_class"]])
    write_evaluation(predictions[kept], tmp_path / "results", bare, draws=0)
    assert not (tmp_path / "results/redshift").exists() and (tmp_path / "results/missing.png").exists()


# --- the command line ---


def test_evaluate_compare_and_films(few_curves, tmp_path, capsys):
    results = tmp_path / "results"
    options = ("--out", results, "--draws", "0", "--cards", "1", "--compare", RUN)
    assert call(capsys, "evaluate", RUN, few_curves, *options) == (0, "")
    made = json.loads((results / "provenance.json").read_text())
    assert made["data"]["name"] == "test.parquet" and "--compare" in made["command"]
    assert (pd.read_csv(results / "comparison.csv").difference == 0).all()
    snid = Predictions.from_parquet(results / "predictions.parquet").SNID[0]
    assert call(capsys, "animate", results, "--out", tmp_path / "film", "--object", snid) == (0, "")
    assert (tmp_path / "film/film.gif").stat().st_size < 1.5e6
    code, said = call(capsys, "animate", results, "--out", tmp_path / "no", "--object", "nobody")
    assert code == 1 and "no object nobody" in said
    (results / "provenance.json").write_text(json.dumps(made | {"format": 0}))
    code, said = call(capsys, "animate", results, "--out", tmp_path / "no")
    assert code == 1 and "format 0" in said and said.count("\n") == 1 and not (tmp_path / "no").exists()


def test_interruption_is_one_line(few_curves, tmp_path, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(HierarchicalClassifier, "predict", stop)
    code, said = call(capsys, "evaluate", RUN, few_curves, "--out", tmp_path / "results")
    assert code == 130 and "interrupted" in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("labels, reason", [(None, "no object has a label"), ("Vulcan", "class Vulcan is not in the tree")])
def test_metrics_are_refused_but_predictions_written(few_curves, tmp_path, capsys, labels, reason):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(few_curves)
    place = table.schema.get_field_index("ELASTICC_class")
    column = pa.array([labels, *table["ELASTICC_class"].to_pylist()[1:]] if labels else [None] * len(table), pa.string())
    pq.write_table(table.set_column(place, "ELASTICC_class", column), tmp_path / "odd.parquet")
    code, said = call(capsys, "evaluate", RUN, tmp_path / "odd.parquet", "--out", tmp_path / "results")
    *notes, last = said.splitlines()
    assert code == 1 and reason in last and all(": note: labels that" in note for note in notes)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["predictions.parquet"]
    assert len(Predictions.from_parquet(tmp_path / "results/predictions.parquet")) == len(table)


# --- films ---


def test_object_film(curves, classifier, tmp_path):
    card = class_evolutions(classifier, curves[[0]])[0]
    first, second = (animate_object(card, tmp_path / name / "film") for name in ("one", "two"))
    files = sorted(path.name for path in first.parent.iterdir())
    assert files[0] == "day_0000.png" and "film.gif" in files and first.stat().st_size < 1.5e6
    for file in files:
        assert (first.parent / file).read_bytes() == (second.parent / file).read_bytes()
    film = Image.open(first)
    film.seek(film.n_frames - 1)
    assert film.info["duration"] == 3000
    early, late = object_card_figure(card, until=0.0), object_card_figure(card)
    assert early.axes[0].get_xlim() == late.axes[0].get_xlim() and early.axes[0].get_ylim() == late.axes[0].get_ylim()
    with pytest.raises(FileExistsError, match="not empty"):
        animate_object(card, first.parent)


def test_videos_where_the_encoder_is_installed(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    frames = [np.full((64, 96, 3), value, np.uint8) for value in (0, 120, 255)]
    for name in ("one", "two"):
        (tmp_path / name / "film").mkdir(parents=True)
        animation.write_animation(frames, [1, 2, 4], tmp_path / name / "film")
    for suffix in ("mp4", "webm", "gif"):
        one, two = (tmp_path / name / "film" / f"film.{suffix}" for name in ("one", "two"))
        assert one.stat().st_size > 200 and one.read_bytes() == two.read_bytes()


def test_no_video_without_the_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "find_spec", lambda name: None)
    animation.write_animation([np.zeros((8, 8, 3), np.uint8)], [1], tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".gif"}


# --- the report in a browser ---


@pytest.fixture(scope="module")
def report(predictions, curves, classifier, tmp_path_factory):
    results = tmp_path_factory.mktemp("report") / "results"
    write_evaluation(predictions, results, curves, classifier, made={"format": 1}, draws=0, cards=2)
    return results / "report.html"


@pytest.mark.parametrize("width", [1200, 390])
def test_report_in_a_browser(report, width, chromium):
    """No console error, no request, no sideways scrolling; the slider changes the pictures and the tables sort."""
    page = chromium.new_page(viewport={"width": width, "height": 800})
    errors, requests = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url) if not request.url.startswith(("data:", "file:")) else None)
    page.goto(report.as_uri())
    assert page.inner_text("#day") == "64 d after first detection"
    counts = page.evaluate("[...document.querySelectorAll('.view')].map(view => view.querySelectorAll('figure').length)")
    assert len(counts) == 12 and set(counts) == {3}, "every view has a picture for every day"
    shown = "[...document.querySelectorAll('.view figure.now')].map(f => f.dataset.index)"
    assert set(page.evaluate(shown)) == {"2"}
    page.fill("#slider", "0")
    assert page.inner_text("#day") == "1 d after first detection" and set(page.evaluate(shown)) == {"0"}
    page.click("#classes th:nth-child(3) button")
    values = page.evaluate("[...document.querySelectorAll('#classes tbody tr')].map(row => +row.cells[2].dataset.value)")
    assert values == sorted(values, reverse=True) and len(set(values)) > 1
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert errors == [] and requests == []


def test_a_figure_is_saved_without_time_or_version(tmp_path):
    figure = Figure()
    figure.add_subplot()
    report_module.save_figure(figure, tmp_path / "figures/a.png")
    assert not Image.open(tmp_path / "figures/a.png").text
