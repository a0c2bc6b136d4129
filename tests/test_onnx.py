"""An ONNX graph gives the probabilities of the classifier that was written: after every detection, whole and step by step."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
import torch

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.onnx import INPUTS, export_graph
from elasticc_hc.classification.onnx_graphs import Trees
from elasticc_hc.lightcurves.lightcurves import LightCurves, process
from elasticc_hc.lightcurves.statics import static_features
from elasticc_hc.simulation.population import MODELS
from elasticc_hc.simulation.training_objects import simulate_table
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import fit_preprocessing
from elasticc_hc.training.model import build_network
from elasticc_hc.training.trees import TREE_SETTINGS, BoostedTrees

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install 'elasticc_hc[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'elasticc_hc[onnx]'")

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
KINDS = ["plasticc", "synthetic", "attention", "members"]
TOLERANCE = 2e-5  # three networks in single precision; a single one is within 1e-5


def sample():
    return LightCurves.from_parquet(SAMPLE)


def simulated(n):
    """Simulated objects of all models, as whole light curves."""
    return LightCurves.from_arrow(pa.concat_tables(simulate_table(model, -(-n // len(MODELS)), seed=11) for model in MODELS))


@pytest.fixture(scope="module")
def sets():
    return {"sample": sample(), "simulated": simulated(1000)}


def with_random_weights(encoder, **sizes):
    """The packaged classifier with another network, whose weights are random."""
    torch.manual_seed(0)
    usual = HierarchicalClassifier.from_pretrained("plasticc")
    return replace(usual, network=build_network(replace(usual.network.architecture, encoder=encoder, **sizes)).eval())


def make(kind):
    if kind == "attention":
        return with_random_weights("attention", window=20)
    return with_random_weights("lstm", members=3) if kind == "members" else HierarchicalClassifier.from_pretrained(kind)


@pytest.fixture(scope="module", params=KINDS)
def written(request, tmp_path_factory):
    """A classifier and its two graphs."""
    classifier, folder = make(request.param), tmp_path_factory.mktemp("onnx")
    paths = [classifier.to_onnx(folder / f"{request.param}{step}.onnx", step) for step in (False, True)]
    return classifier, *map(onnxruntime.InferenceSession, paths)


def columns(seen):
    """The first five inputs, one number per observation."""
    return [seen.days, seen.detected, seen.FLUXCAL, seen.FLUXCALERR, seen.BAND.astype(np.int64)]


def whole_curves(session, seen, static, batch=64):
    """Probabilities after every detection, from padded batches of curves."""
    answers = []
    for begin in range(0, len(seen), batch):
        part = seen[begin : begin + batch]
        inside = np.arange(part.counts.max()) < part.counts[:, None]
        padded = [np.zeros(inside.shape, column.dtype) for column in columns(part)]
        for array, column in zip(padded, columns(part), strict=True):
            array[inside] = column
        row, step = np.nonzero(padded[1])
        inputs = zip(INPUTS, [*padded, static[begin : begin + batch]], strict=True)
        answers.append(session.run(None, {**dict(inputs), "row": row, "step": step})[0])
    return np.concatenate(answers)


def step_by_step(session, seen, static):
    """Probabilities after every detection, one observation of all objects at a time."""
    state = {
        entry.name: np.zeros((len(seen), *entry.shape[1:]), np.float32 if "float" in entry.type else entry.type[7:-1])
        for entry in session.get_inputs() if entry.name in ("hidden", "detections")
    }  # fmt: skip
    if any(entry.name == "memory" for entry in session.get_inputs()):
        state["memory"] = np.zeros((len(seen), 24))
    answers = np.zeros((seen.n_obs, session.get_outputs()[0].shape[1]), np.float32)
    for step in range(seen.counts.max()):
        active = np.flatnonzero(seen.counts > step)
        here = seen.offsets[active] + step
        inputs = dict(zip(INPUTS, [*(column[here] for column in columns(seen)), static[active]], strict=True))
        answers[here], *after = session.run(None, inputs | {name: part[active] for name, part in state.items()})
        for part, new in zip(state.values(), after, strict=True):
            part[active] = new
    return answers[seen.detected]


def inputs_of(classifier, curves):
    """The observations that are read, of objects with a detection, and the static features."""
    rules = classifier.preprocessing
    seen = process(curves, rules.keep, rules.skip)
    seen = seen[seen.first_detection >= 0]
    return seen, static_features(seen.header, rules.static_columns)


@pytest.mark.parametrize("name", ["sample", "simulated"])
def test_probabilities_after_every_detection(written, sets, name, request):
    classifier, curves_graph, step_graph = written
    packaged = request.node.callspec.params["written"] in ("plasticc", "synthetic")
    curves = sets[name] if packaged else sets[name][::4]
    seen, static = inputs_of(classifier, curves)
    assert len(seen) >= 0.9 * len(curves) and (name == "sample" or len(sets[name]) >= 1000)
    expected = classifier.predict_detections(curves)[list(classifier.taxonomy.nodes)].to_numpy()
    whole = whole_curves(curves_graph, seen, static)
    off = np.abs(whole - expected).max()
    print(f"{name}: {len(expected):,} detections, whole curves within {off:.1e}")
    assert whole.shape == expected.shape and off <= TOLERANCE
    off = np.abs(step_by_step(step_graph, seen, static) - expected).max()
    print(f"{name}: step by step within {off:.1e}")
    assert off <= TOLERANCE and np.ptp(expected[:, 1]) > 0.05


def test_metadata_say_what_a_reader_needs(written):
    classifier, *sessions = written
    for session in sessions:
        known = session.get_modelmeta().custom_metadata_map
        assert Taxonomy.from_dict(json.loads(known["taxonomy"])).nodes == classifier.taxonomy.nodes
        assert json.loads(known["nodes"]) == list(classifier.taxonomy.nodes) and known["bands"] == "ugrizY"
        assert json.loads(known["static_columns"]) == list(classifier.preprocessing.static_columns)
        assert list(json.loads(known["inputs"])) == [entry.name for entry in session.get_inputs()]
        assert set(known) >= {"preprocessing", "calibration", "class_prior", "rules", "position_flags", "elasticc_hc"}


def test_padding_and_missing_codes_change_nothing(written):
    classifier, session, _ = written
    seen, static = inputs_of(classifier, sample()[:40])
    codes = np.where(np.isnan(static), np.float32(-9), static)
    expected = whole_curves(session, seen, static, batch=1)
    np.testing.assert_allclose(whole_curves(session, seen, codes, batch=40), expected, rtol=0, atol=TOLERANCE)
    assert np.isnan(static).any()


def test_light_curves_alone(tmp_path):
    """A classifier without static features, and so without redshifts, with trees."""
    usual = HierarchicalClassifier.from_pretrained("plasticc")
    preprocessing = fit_preprocessing(sample(), static_columns=(), keep="forced")
    network = build_network(replace(usual.network.architecture, n_static=0)).eval()
    classifier = replace(usual, network=network, preprocessing=preprocessing, trees=noisy_trees(45, usual.taxonomy), outliers=None)
    seen, static = inputs_of(classifier, sample()[:60])
    expected = classifier.predict_detections(sample()[:60])[list(classifier.taxonomy.nodes)].to_numpy()
    curves_graph, step_graph = (onnxruntime.InferenceSession(classifier.to_onnx(tmp_path / f"{step}", step)) for step in (False, True))
    np.testing.assert_allclose(whole_curves(curves_graph, seen, static), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(step_by_step(step_graph, seen, static), expected, rtol=0, atol=TOLERANCE)


# --- boosted trees ---


def noisy_trees(n_features, taxonomy, seed=0):
    """Trees that have learned noise: features with and without missing values, one of zeros and ones, a class that is rare."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 10 ** rng.uniform(-3, 3, n_features), (3000, n_features)).astype(np.float32)
    values[:, 0] = values[:, 0] > 0
    values[rng.random(values.shape) < 0.2 * (np.arange(n_features) % 2)] = np.nan
    label = rng.integers(0, len(taxonomy.leaves), len(values))
    label[label == 1] = 0
    label[:3] = 1
    data = lightgbm.Dataset(values, label, params={"verbose": -1})
    settings = TREE_SETTINGS | {"num_class": len(taxonomy.leaves), "num_threads": 1, "min_sum_hessian_in_leaf": 5}
    booster = lightgbm.train(settings, data, num_boost_round=6)
    return BoostedTrees(booster, taxonomy.leaf_nodes, taxonomy)


@pytest.mark.parametrize("seed", range(3))
def test_a_feature_at_a_threshold_falls_on_the_same_side(seed):
    """Rows of the numbers next to the thresholds in single precision, of zeros, of missing and of very large values."""
    taxonomy = Taxonomy.from_yaml("plasticc")
    trees, rng = noisy_trees(12, taxonomy, seed), np.random.default_rng(seed)
    table = trees.booster.trees_to_dataframe()
    assert table["left_child"].isna().groupby(table["tree_index"]).all().any(), "a tree of one leaf"
    assert set(table["missing_type"].dropna()) == {"None", "NaN"}
    rows = np.zeros((5000, 12), np.float32)
    for column in range(12):
        near = table["threshold"][table["split_feature"] == f"Column_{column}"].clip(-3e38, 3e38).to_numpy(np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(-9e9)), np.nextafter(near, np.float32(9e9)), [0, np.nan, 3e38, -3e38]])
        rows[:, column] = rng.choice(near, len(rows))
    model = export_graph(Trees(trees).eval(), {"features": torch.zeros(2, 12)}, ["answers"], {"features": {0: "n"}, "answers": {0: "n"}})
    found = onnxruntime.InferenceSession(model).run(None, {"features": rows})[0]
    np.testing.assert_allclose(found, trees.log_probabilities(rows), rtol=0, atol=2e-6)


def test_unusual_trees_are_refused(tmp_path):
    taxonomy, rng = Taxonomy.from_yaml("plasticc"), np.random.default_rng(0)
    settings = TREE_SETTINGS | {"num_class": len(taxonomy.leaves), "num_threads": 1, "zero_as_missing": True}
    data = lightgbm.Dataset(rng.integers(0, 3, (500, 66)).astype(float), rng.integers(0, len(taxonomy.leaves), 500), params={"verbose": -1})
    trees = BoostedTrees(lightgbm.train(settings, data, num_boost_round=2), taxonomy.leaf_nodes, taxonomy)
    classifier = replace(HierarchicalClassifier.from_pretrained("plasticc"), trees=trees)
    with pytest.raises(ValueError, match="zero as missing value"):
        classifier.to_onnx(tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


# --- packages ---


def test_one_line_without_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from elasticc_hc import HierarchicalClassifier as H\n"
        "try: H.from_pretrained('synthetic').to_onnx(sys.argv[1])\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.onnx"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("ONNX is installed with: pip install 'elasticc_hc[onnx]'") and done.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_same_file_twice(tmp_path):
    classifier = HierarchicalClassifier.from_pretrained("plasticc")
    first, second = (classifier.to_onnx(tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_no_operator_that_few_runtimes_have(written, tmp_path):
    """Only the operators of ONNX itself and its trees; nothing of this package's own."""
    classifier, *_ = written
    classifier = replace(classifier, trees=noisy_trees(45 + len(classifier.preprocessing.static_columns), classifier.taxonomy))
    model = onnx.load(classifier.to_onnx(tmp_path / "a.onnx"))
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"} and not model.functions
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 18, "ai.onnx.ml": 3} and model.ir_version == 8
