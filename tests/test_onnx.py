"""An ONNX graph gives the probabilities of the classifier that was written: after every detection, whole and step by step."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.classification.onnx import INPUTS, position_flags, tree_attributes
from elasticc_hc.lightcurves.lightcurves import LightCurves, process
from elasticc_hc.lightcurves.statics import ENGINEERED_FEATURES, engineered_features, static_features
from elasticc_hc.simulation.population import MODELS
from elasticc_hc.simulation.training_objects import simulate_table
from elasticc_hc.training.model import build_network

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install 'elasticc_hc[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'elasticc_hc[onnx]'")

SAMPLE = Path(__file__).parent.parent / "nbs" / "data" / "plasticc_sample.parquet"
KINDS = ["plasticc", "synthetic", "attention", "members"]
TOLERANCE = 1e-5


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
def test_probabilities_after_every_detection(written, sets, name):
    classifier, curves_graph, step_graph = written
    seen, static = inputs_of(classifier, sets[name])
    assert len(seen) >= 0.9 * len(sets[name]) and (name == "sample" or len(sets[name]) >= 1000)
    expected = classifier.predict_detections(sets[name])[list(classifier.taxonomy.nodes)].to_numpy()
    whole = whole_curves(curves_graph, seen, static)
    off = np.abs(whole - expected).max()
    print(f"{name}: {len(expected):,} detections, whole curves within {off:.1e}")
    assert whole.shape == expected.shape and off <= TOLERANCE
    off = np.abs(step_by_step(step_graph, seen, static) - expected).max()
    print(f"{name}: step by step within {off:.1e}")
    assert off <= TOLERANCE and np.ptp(expected[:, 1]) > 0.05
