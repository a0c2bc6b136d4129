"""One pass over a curve says at each detection what cutting the raw curve there, and classifying it alone, says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from elasticc_hc.classification.classifier import HierarchicalClassifier
from elasticc_hc.conversion.snana_to_parquet import convert
from elasticc_hc.lightcurves.lightcurves import LightCurves
from elasticc_hc.taxonomy.taxonomy import Taxonomy
from elasticc_hc.training.dataset import SERIES_FEATURES, fit_preprocessing
from elasticc_hc.training.model import Architecture, Network

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data" / "elasticc2_train_01_1percent"
SAMPLE = ROOT / "nbs" / "data" / "plasticc_sample.parquet"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL.is_dir():
        pytest.skip("the real ELAsTiCC 2 files (../shared/data) are not here")
    out = tmp_path_factory.mktemp("real") / "converted"
    convert(REAL, out)
    return [LightCurves.from_parquet(out / f"{model}.parquet") for model in ("KN_K17", "SNIb-Templates")]


def untrained(curves, tree, keep, encoder="lstm"):
    """A classifier with random weights, which must keep the promise as well as any other."""
    torch.manual_seed(0)
    taxonomy, preprocessing = Taxonomy.from_yaml(tree), fit_preprocessing(curves, keep=keep)
    shape = Architecture(len(SERIES_FEATURES), preprocessing.n_static, len(taxonomy.nodes), encoder)
    return HierarchicalClassifier(Network(shape).eval(), taxonomy, preprocessing)


def check(classifier, curves):
    """Every detection of every object, each cut and classified alone; the number of cuts."""
    story = classifier.predict_detections(curves)
    assert len(story) == curves.detected.sum()
    many = curves[np.repeat(np.arange(len(curves)), np.add.reduceat(curves.detected.astype(int), curves.offsets[:-1]))]
    cut = many.select(many.MJD <= np.repeat(story["MJD"].to_numpy(), many.counts))
    assert (cut.header["SNID"].to_numpy() == story["SNID"].to_numpy()).all()
    alone = classifier.predict(cut, days=[1e6]).probabilities[:, 0]
    np.testing.assert_allclose(alone, story[list(classifier.taxonomy.nodes)], rtol=0, atol=1e-5)
    assert np.ptp(alone[:, 1]) > 1e-3, "answers differ, so that their agreement says something"
    return len(story)


@pytest.mark.parametrize("keep", ["alerts", "all"])
@pytest.mark.parametrize("encoder", ["lstm", "gru"])
def test_every_detection_of_every_real_object(real, keep, encoder):
    classifier = untrained(real[1], "elasticc2", keep, encoder)
    assert sum(check(classifier, curves) for curves in real) == 1829


@pytest.mark.parametrize("keep", ["alerts", "all"])
def test_every_detection_of_every_sample_object(keep):
    curves = LightCurves.from_parquet(SAMPLE)
    assert check(untrained(curves, "plasticc", keep), curves[::4]) > 2000


def test_the_classifier_that_comes_with_the_package():
    assert check(HierarchicalClassifier.from_pretrained("plasticc"), LightCurves.from_parquet(SAMPLE)[1::4]) > 2000


@pytest.mark.parametrize("day", [0.0, 7.0, 60.0])
def test_what_comes_later_changes_nothing(day):
    curves = LightCurves.from_parquet(SAMPLE)
    classifier = HierarchicalClassifier.from_pretrained("plasticc")
    later = curves.days > day
    rng = np.random.default_rng(1)
    spoilt = replace(
        curves,
        FLUXCAL=np.where(later, rng.normal(0, 1e5, curves.n_obs), curves.FLUXCAL).astype(np.float32),
        BAND=np.where(later, rng.integers(0, 6, curves.n_obs), curves.BAND).astype(np.int8),
        PHOTFLAG=np.where(later, 4096 * rng.integers(0, 2, curves.n_obs), curves.PHOTFLAG).astype(np.int32),
    )
    before, after = (classifier.predict(c, days=[day]).probabilities for c in (curves, spoilt))
    assert later.sum() > 10_000
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-6)
