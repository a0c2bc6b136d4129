"""Candidates for the score of outliers, which `outliers.py candidates` compares."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.covariance import ShrunkCovariance
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from elasticc_hc.classification.outliers import (
    CALIBRATION_EDGES,
    DAY_EDGES,
    P_VALUES,
    FeatureRows,
    OutlierModel,
    calibrate_scores,
    detection_phase,
    fit_score,
)
from elasticc_hc.loss.loss import log_probabilities
from elasticc_hc.taxonomy.taxonomy import Taxonomy

LEAST_OF_A_KIND = 100  # rows of a kind of artefact at a phase, for a density


@dataclass(frozen=True, eq=False)
class Candidate(OutlierModel):
    "A score of any kind with p-values as the stored one has them."

    rule: Callable = None  # (rows of features and logits, detections) to scores

    def score(self, features: np.ndarray, detections: np.ndarray) -> np.ndarray:
        "The value of the rule."
        return self.rule(features, detections)


def densest(x: np.ndarray, label: np.ndarray, shared: bool) -> Callable:
    "Minus twice the logarithm of the density of the densest label; normal distributions with one covariance, or one each."
    labels, place = np.unique(label, return_inverse=True)
    means = np.stack([x[label == one].mean(axis=0) for one in labels])
    parts = [x - means[place]] if shared else [x[label == one] - mean for one, mean in zip(labels, means, strict=True)]
    fits = [ShrunkCovariance(shrinkage=0.05, assume_centered=True).fit(part) for part in parts] * (len(labels) if shared else 1)
    volumes = [np.linalg.slogdet(fit.precision_)[1] for fit in fits]
    return lambda y: np.min([fit.mahalanobis(y - mean) - size for fit, mean, size in zip(fits, means, volumes, strict=True)], axis=0)


def density_ratio(known: FeatureRows, strange: FeatureRows | None) -> Callable:
    "The densest leaf against all known objects together, or against the densest kind of artefact as well."
    every = known.features if strange is None else np.concatenate([known.features, strange.features])
    components = make_pipeline(StandardScaler(), PCA(32)).fit(every)
    terms = {}
    for phase in np.unique(known.phase):
        here = known.keep(known.phase == phase)
        x = components.transform(here.features)
        terms[phase] = [densest(x, here.label, True), densest(x, np.zeros(len(x)), False)]
        kinds = [] if strange is None else np.unique(strange.label)
        for mine in (strange.keep((strange.phase == phase) & (strange.label == kind)) for kind in kinds):
            if len(mine.label) >= LEAST_OF_A_KIND:
                terms[phase].append(densest(components.transform(mine.features), mine.label, False))

    def ratio(features: np.ndarray, detections: np.ndarray) -> np.ndarray:
        found, x, phases = np.empty(len(features)), components.transform(features), detection_phase(detections)
        for phase in np.unique(phases):
            leaves, *others = (term(x[phases == phase]) for term in terms[phase])
            found[phases == phase] = leaves - np.min(others, axis=0)
        return found

    return ratio


def leaf_probabilities(logits: np.ndarray, tree: Taxonomy) -> np.ndarray:
    return log_probabilities(torch.from_numpy(logits), tree).exp().numpy()[..., tree.leaf_nodes]


def disagreement(logits: np.ndarray, tree: Taxonomy) -> np.ndarray:
    "Jensen–Shannon divergence of the leaf probabilities of two members."
    p = [leaf_probabilities(part, tree) + 1e-12 for part in np.split(logits, 2, axis=-1)]
    entropy = [-(q * np.log(q)).sum(axis=-1) for q in (*p, (p[0] + p[1]) / 2)]
    return entropy[2] - (entropy[0] + entropy[1]) / 2


def rules(known: FeatureRows, strange: FeatureRows, tree: Taxonomy, members: int) -> dict[str, Callable]:
    "All candidates, fitted; their rows have the features, then the logits of each member."
    nodes, n = len(tree.nodes), known.features.shape[1] - members * len(tree.nodes)
    known, strange = (replace(rows, features=rows.features[:, :n]) for rows in (known, strange))
    both = fit_score(known, strange)
    far = replace(both, odds=replace(both.odds, output=0 * both.odds.output, output_bias=0 * both.odds.output_bias))
    found = {
        "odds and distance": both.score,
        "odds of an artefact": lambda x, detections: both.odds(x.astype(np.float64) - both.center, detections),
        "distance to the nearest leaf": far.score,
        "distance relative to all known objects": density_ratio(known, None),
        "ratio of densities": density_ratio(known, strange),
    }
    found = {name: lambda x, detections, rule=rule: rule(x[:, :n], detections) for name, rule in found.items()}
    found["largest leaf probability"] = lambda x, _: 1 - leaf_probabilities(x[:, n : n + nodes], tree).max(axis=-1)
    found["energy"] = lambda x, _: -logsumexp(x[:, n : n + nodes][:, tree.leaf_nodes], axis=-1)
    if members == 2:
        found["disagreement of two members"] = lambda x, _: disagreement(x[:, n:], tree)
    return found


def scored(rule: Callable, calibration: FeatureRows, *parts: tuple) -> list[np.ndarray]:  # (n, n_days) each
    "One minus the p-value of a candidate."
    cells = (len(CALIBRATION_EDGES) + 1) * (len(DAY_EDGES) + 1)
    center, none = np.empty(calibration.features.shape[1]), np.zeros((cells, len(P_VALUES)))
    model = calibrate_scores(Candidate(center, none, None, None, none, np.zeros(cells), rule), calibration)
    return [1 - model.p_values(*part) for part in parts]
