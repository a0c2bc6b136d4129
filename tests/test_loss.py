"""The loss on any tree: exact against a plain loop, right gradients, finite at the extremes, probabilities that add up."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elasticc_hc.loss import (
    HierarchicalCrossEntropy,
    log_conditionals,
    log_probabilities,
    node_counts,
    node_probabilities,
    path_weights,
)
from elasticc_hc.taxonomy import Taxonomy


def random_tree(n, deepest, rng):
    """A random tree of n nodes, none deeper than `deepest`."""
    parents, depths = [-1], [0]
    for _ in range(n - 1):
        parent = int(rng.choice(np.flatnonzero(np.array(depths) < deepest)))
        parents.append(parent)
        depths.append(depths[parent] + 1)
    nodes = [{"name": str(i), "parent": None if parent < 0 else str(parent)} for i, parent in enumerate(parents)]
    return Taxonomy.from_dict({"name": "random", "nodes": nodes})


@st.composite
def cases(draw, max_nodes=200):
    """A random tree (depth 1–6), logits of any size, true leaves, and a training set that need not have every class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    taxonomy = random_tree(draw(st.integers(2, max_nodes)), draw(st.integers(1, 6)), rng)
    shape = draw(st.sampled_from([(1,), (5,), (2, 3)]))
    logits = rng.normal(0, draw(st.sampled_from([0.1, 1, 10, 100])), (*shape, len(taxonomy.nodes)))
    training = rng.choice(taxonomy.leaf_nodes, draw(st.integers(1, 500)))
    return taxonomy, torch.from_numpy(logits), torch.from_numpy(rng.choice(taxonomy.leaf_nodes, shape)), training


def by_the_formula(taxonomy, logits, leaf, counts=None, alpha=0.5, weight=None):
    """−Σ w_v exp(−α·depth) ln p(v | parent), one object and one node at a time, in Python's own numbers."""
    losses = []
    for x, node in zip(logits.reshape(-1, logits.shape[-1]).tolist(), leaf.ravel().tolist(), strict=True):
        loss = 0.0
        while taxonomy.parents[node] >= 0:
            siblings = [x[v] for v in np.flatnonzero(taxonomy.parents == taxonomy.parents[node])]
            log_p = x[node] - max(siblings) - np.log(sum(np.exp(s - max(siblings)) for s in siblings))
            w = 1.0 if counts is None else counts[0] / (len(counts) * max(counts[node], 1))
            loss -= w * np.exp(-alpha * taxonomy.depths[node]) * log_p
            node = taxonomy.parents[node]
        losses.append(loss)
    return np.average(losses, weights=None if weight is None else weight.ravel())


def quiet(taxonomy, counts, **options):
    """The loss in double precision, without the warning about classes that the training set lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return HierarchicalCrossEntropy(taxonomy, counts, dtype=torch.float64, **options)


# --- the loss ---


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from([0.0, 0.5, 2.0]), st.booleans())
def test_loss_is_the_formula(case, alpha, weighted):
    taxonomy, logits, leaf, training = case
    counts = node_counts(training, taxonomy) if weighted else None
    loss = quiet(taxonomy, counts, alpha=alpha)(logits, leaf)
    assert float(loss) == pytest.approx(by_the_formula(taxonomy, logits, leaf, counts, alpha), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_weights_of_answers_make_a_weighted_mean(case):
    taxonomy, logits, leaf, training = case
    counts = node_counts(training, taxonomy)
    weight = torch.rand(leaf.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    loss = quiet(taxonomy, counts)(logits, leaf, weight)
    assert float(loss) == pytest.approx(by_the_formula(taxonomy, logits, leaf, counts, weight=weight), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(cases(max_nodes=30))
def test_gradients(case):
    taxonomy, logits, leaf, training = case
    loss, groups = quiet(taxonomy, node_counts(training, taxonomy)), torch.from_numpy(taxonomy.groups)
    logits = (logits / logits.abs().max()).requires_grad_()  # beyond, finite differences have nothing to measure
    assert torch.autograd.gradcheck(lambda x: loss(x, leaf), logits)
    assert torch.autograd.gradcheck(lambda x: log_conditionals(x, groups), logits)


def test_the_roots_own_term_is_zero():
    taxonomy = Taxonomy.from_yaml("elasticc2")
    weights = path_weights(taxonomy, node_counts(taxonomy.leaf_nodes, taxonomy))
    assert (weights[:, 0] == 0).all()
    logits = torch.randn(3, 26, generator=torch.Generator().manual_seed(0))
    moved = logits.clone()
    moved[:, 0] += 7
    leaf = torch.from_numpy(taxonomy.leaf_nodes[:3])
    assert HierarchicalCrossEntropy(taxonomy)(logits, leaf) == HierarchicalCrossEntropy(taxonomy)(moved, leaf)


# --- extremes ---


@settings(deadline=None, max_examples=30)
@given(cases(), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.integers(0, 2**32))
def test_finite_for_extreme_logits(case, kind, seed):
    taxonomy, logits, leaf, training = case
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.choice([-1e4, 0, 1e4], logits.shape)).to(kind).requires_grad_()
    loss = quiet(taxonomy, node_counts(training, taxonomy)).float()(logits, leaf)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all() and logits.grad.dtype == kind
    p = node_probabilities(logits.detach(), taxonomy)
    assert torch.isfinite(p).all() and torch.isfinite(log_probabilities(logits.detach(), taxonomy)).all()
    assert torch.allclose(p[..., taxonomy.leaf_nodes].sum(-1), torch.ones(leaf.shape), atol=1e-5)


def test_half_precision_is_summed_in_single():
    """Two hundred equal siblings: their probabilities add up to one, which eight bits of mantissa could not do."""
    flat = random_tree(201, 1, np.random.default_rng(0))
    p = node_probabilities(torch.zeros(1, 201, dtype=torch.bfloat16), flat)
    assert p.dtype == torch.float32 and abs(float(p[0, 1:].sum()) - 1) < 1e-5


@pytest.mark.parametrize("name", ["elasticc2", "plasticc"])
def test_a_class_absent_from_the_training_set(name):
    taxonomy = Taxonomy.from_yaml(name)
    training = np.setdiff1d(taxonomy.leaf_nodes, [taxonomy.index("KN")])
    counts = node_counts(np.repeat(training, 10), taxonomy)
    with pytest.warns(UserWarning, match="no training object for KN: weighted as if there were one"):
        weights = path_weights(taxonomy, counts)
    assert np.isfinite(weights).all() and (weights[taxonomy.paths & (taxonomy.depths > 0)] > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path_weights(taxonomy, node_counts(taxonomy.leaf_nodes, taxonomy))


@pytest.mark.parametrize("counts", [np.zeros(26, int), np.ones(25, int), np.ones((26, 2), int)])
def test_counts_that_do_not_fit(counts):
    with pytest.raises(ValueError, match="needs one per node"):
        HierarchicalCrossEntropy(Taxonomy.from_yaml("elasticc2"), counts)


# --- probabilities ---


@settings(deadline=None, max_examples=60)
@given(cases())
def test_probabilities_add_up(case):
    taxonomy, logits, _, _ = case
    p = node_probabilities(logits, taxonomy).numpy()
    assert (p[..., 0] == 1).all()
    assert p[..., taxonomy.leaf_nodes].sum(-1) == pytest.approx(1, abs=1e-12), "leaves sum to one"
    assert (p[..., 1:] <= p[..., taxonomy.parents[1:]] + 1e-15).all(), "no child above its parent"
    for parent in set(taxonomy.parents[1:]):
        children = p[..., taxonomy.parents == parent].sum(-1)
        assert children == pytest.approx(p[..., parent], abs=1e-12), "siblings sum to their parent"
    assert np.exp(log_probabilities(logits, taxonomy).numpy()) == pytest.approx(p, abs=1e-15)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_conditionals_do_not_see_a_common_shift_of_siblings(case):
    taxonomy, logits, _, _ = case
    groups = torch.from_numpy(taxonomy.groups)
    shifts = torch.randn(int(groups.max()) + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = log_conditionals(logits + shifts[groups], groups)
    assert torch.allclose(moved, log_conditionals(logits, groups), atol=1e-11)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_counts_of_a_node_are_those_below_it(case):
    taxonomy, _, _, training = case
    counts = node_counts(training, taxonomy)
    assert counts[0] == len(training)
    for i in range(len(taxonomy.nodes)):
        assert counts[i] == np.count_nonzero(taxonomy.paths[training, i])


# --- memory ---


def test_nothing_larger_than_the_logits_is_allocated():
    """Every tensor that the pass makes holds at most as many elements as the logits."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.seen = max([self.seen, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))])
            return out

    rng = np.random.default_rng(0)
    taxonomy = random_tree(200, 6, rng)
    logits = torch.randn(1000, 200, requires_grad=True)
    loss, leaf = HierarchicalCrossEntropy(taxonomy), torch.from_numpy(rng.choice(taxonomy.leaf_nodes, 1000))
    with Largest() as largest:
        loss(logits, leaf).backward()
    assert largest.seen == logits.numel()
